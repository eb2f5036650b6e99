"""A system whose primary target locks what it holds, and its bucket spoken to without Lifeboat.

moto compares a lock's end with the real time, and lets it be shortened, as no store should: that is how a lock ends
here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.retention.decisions import Action, Reason
from sandbox.s3_servers import MotoServer, S3Server
from tests.repository.retention.cleaned_system import CleanedSystem
from tests.repository.world import SYSTEM, World
from tests.targets.conftest import client_of, s3_place

MONTH = timedelta(days=30)
STORE = "connection: store\n"


def present() -> datetime:
    """The real time, in whole seconds: a lock that ends in the past would be none."""
    return datetime.now(UTC).replace(microsecond=0)


def locking(world: World) -> CleanedSystem:
    """A system when its policy asks for locks on its primary target."""
    return CleanedSystem(world.bent(STORE, f"{STORE}    object_lock: compliance\n"))


class Bucket:
    """A target's bucket, spoken to without us."""

    def __init__(self, system: CleanedSystem, server: S3Server, target: str = "primary") -> None:
        self.client = client_of(server)
        policy = system.repository().policy.targets[target]
        self.name, self.prefix = policy.bucket, policy.prefix

    def versions(self, point: str) -> list[tuple[str, str, str]]:
        """Key, id and kind of every version of anything of a recovery point."""
        page = self.client.list_object_versions(Bucket=self.name)
        assert not page["IsTruncated"]
        return [
            (found["Key"], found["VersionId"], kind)
            for kind in ("Versions", "DeleteMarkers")
            for found in page.get(kind, ())
            if f"/{point}/" in found["Key"]
        ]

    def lock(self, point: str, until: datetime) -> None:
        """Let the locks of all its objects end then, whatever they were."""
        for key, version, kind in self.versions(point):
            if kind == "Versions":
                retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
                self.client.put_object_retention(Bucket=self.name, Key=key, VersionId=version, Retention=retention)

    def end_locks(self, point: str) -> None:
        self.lock(point, datetime.now(UTC) - timedelta(minutes=1))

    def locks(self, point: str) -> dict[str, datetime]:
        """Until when each of its objects is locked, by the end of its key."""
        shown = {}
        for key, version, _ in self.versions(point):
            head = self.client.head_object(Bucket=self.name, Key=key, VersionId=version)
            shown[key.rsplit("/", 1)[-1]] = head["ObjectLockRetainUntilDate"].astimezone(UTC)
        return shown


def locked(system: CleanedSystem, *, length: timedelta = MONTH, **more: Any) -> str:
    """A recovery point that is locked from now on; the clock moves on by a day."""
    name = system.point(retain_until=system.world.clock() + length, **more)
    system.world.clock.advance(hours=23)
    return name


def shortened(system: CleanedSystem) -> CleanedSystem:
    """The same system when its policy keeps dailies and WAL for a day only."""
    return CleanedSystem(system.world.bent("retention: 30d", "retention: 1d"), system.copies)


def reasons(system: CleanedSystem, target: str = "primary") -> dict[str, tuple[Action, Reason]]:
    return {one.point.recovery_point: (one.action, one.reason) for one in system.plan().of(target)}


def events(system: CleanedSystem, kind: str) -> list[Event]:
    repository = system.repository()
    found = read_journal(repository.target("primary"), SYSTEM, repository.trusted)
    return [event for event in found if isinstance(event, Event) and event.kind == kind]


def with_second_bucket(system: CleanedSystem, moto: MotoServer) -> tuple[CleanedSystem, Bucket]:
    place = s3_place("s3", moto, ObjectLockEnabledForBucket=True)
    world = system.world
    directory = f"url: file://{world.roots['offsite']}\n    marker: demo-local\n"
    system = CleanedSystem(
        world.bent(directory, f"url: {place.policy['url']}\n    connection: store\n    object_lock: compliance\n")
    )
    return system, Bucket(system, moto, "offsite")
