"""What a store has locked waits; locks reach as far as what stands on them; one that only repeats them is not believed.

On a real bucket with object lock, and on rclone's, which takes the headers of a lock, shows them, and locks nothing.
moto compares a lock's end with the real time, and lets it be shortened, as no store should: that is how a lock ends
here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from lifeboat.errors import TargetError
from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.retention.decisions import Action, Reason
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import verify_stored
from sandbox.s3_servers import MotoServer, RcloneS3, S3Server
from tests.conftest import Clock
from tests.repository.retention.cleaned_system import CleanedSystem, dies
from tests.repository.world import SOURCE, SYSTEM, World
from tests.targets.conftest import client_of, s3_place

MONTH = timedelta(days=30)
STORE = "connection: store\n"


@pytest.fixture
def clock() -> Clock:
    """The present: a lock in the past would be none."""
    return Clock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def system(make_world: Callable[..., World], moto: MotoServer) -> CleanedSystem:
    """Its primary target locks objects, as its policy asks."""
    world = make_world(moto, ObjectLockEnabledForBucket=True)
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


# A lock is waited for


def test_the_manifest_and_its_signature_are_locked_like_the_volumes(system: CleanedSystem, moto: MotoServer) -> None:
    until = system.world.clock() + MONTH
    shown = Bucket(system, moto).locks(locked(system))
    assert {"manifest.json", "manifest.json.sig"} < set(shown)
    assert len(shown) == 4
    assert set(shown.values()) == {until}


def test_a_copy_on_another_target_is_locked_as_a_whole(system: CleanedSystem, moto: MotoServer) -> None:
    system, second = with_second_bucket(system, moto)
    until = system.world.clock() + MONTH
    shown = second.locks(locked(system, on=("primary", "offsite")))
    assert len(shown) == 4
    assert set(shown.values()) == {until}


def test_a_locked_copy_waits_although_its_retention_was_shortened(system: CleanedSystem, moto: MotoServer) -> None:
    old, _, new = (locked(system) for _ in range(3))
    system = shortened(system)
    decision = next(one for one in system.plan().of("primary") if one.point.recovery_point == old)
    assert (decision.action, decision.reason) == (Action.STAYS, Reason.LOCK)
    assert "the store has locked it until" in decision.sentence(UTC)
    done = system.clean()
    assert done.deleted.gone == ()
    assert old in system.shown()

    bucket = Bucket(system, moto)
    bucket.end_locks(old)
    assert system.clean().deleted.gone == (old,)
    # What was written over is kept as an older version: it goes as well.
    key, _, _ = bucket.versions(old)[0]
    body = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    assert {kind for _, _, kind in bucket.versions(old)} == {"Versions", "DeleteMarkers"}
    system.world.clock.advance(days=8)
    locked(system)
    assert [one.recovery_point for one in system.clean().removed] == [old]
    assert bucket.versions(old) == []
    assert bucket.versions(new) != []


@pytest.mark.parametrize("which", ["manifest.json", "manifest.json.sig", "base.tar"])
def test_one_locked_object_locks_its_copy(system: CleanedSystem, moto: MotoServer, which: str) -> None:
    old, _, _ = (locked(system) for _ in range(3))
    system, bucket = shortened(system), Bucket(system, moto)
    bucket.end_locks(old)
    assert reasons(system)[old] == (Action.GOES, Reason.PAST_TIER)
    key = next(key for key, _, _ in bucket.versions(old) if which in key.rsplit("/", 1)[-1])
    ends = system.world.clock() + timedelta(days=2)
    retention = {"Mode": "COMPLIANCE", "RetainUntilDate": ends}
    bucket.client.put_object_retention(Bucket=bucket.name, Key=key, Retention=retention)
    assert reasons(system)[old] == (Action.STAYS, Reason.LOCK)
    system.world.clock.now = ends
    assert reasons(system)[old] == (Action.GOES, Reason.PAST_TIER)


def test_what_was_hidden_before_it_was_locked_is_not_removed(system: CleanedSystem, moto: MotoServer) -> None:
    old, _, _ = (locked(system) for _ in range(3))
    system, bucket = shortened(system), Bucket(system, moto)
    bucket.end_locks(old)
    assert system.clean().deleted.gone == (old,)
    bucket.lock(old, system.world.clock() + MONTH)
    system.world.clock.advance(days=8)
    locked(system)
    assert reasons(system)[old] == (Action.WAITS, Reason.LOCK)
    assert system.clean().removed == ()


def test_where_our_clock_is_ahead_the_store_refuses_and_says_until_when_and_nothing_is_lost(
    system: CleanedSystem, moto: MotoServer
) -> None:
    old, _, _ = (locked(system) for _ in range(3))
    system, bucket = shortened(system), Bucket(system, moto)
    ends = bucket.locks(old)["manifest.json"]
    system.world.clock.now = ends + timedelta(days=1)
    locked(system)
    assert old in system.clean().deleted.gone
    system.world.clock.advance(days=8)
    locked(system)
    with pytest.raises(TargetError, match=rf"can't be removed: .* locked it until {ends:%Y-%m-%d %H:%M:%S} UTC"):
        system.clean()
    repository = system.repository()
    catalogue = repository.catalogue("primary")
    copies = {copy.manifest.recovery_point: copy for copy in catalogue.recovery_points(SOURCE, deleted=True).copies}
    verify_stored(catalogue.target, copies[old])
    for point in copies:
        bucket.end_locks(point)
    assert old in [one.recovery_point for one in system.clean().removed]
    assert bucket.versions(old) == []


class Blind:
    """A target whose locks can't be read."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def locked_until(self, key: str) -> datetime | None:
        raise TargetError(f"Target primary: reading the lock of {key} failed.", "Allow s3:GetObjectRetention.")


def blinded(system: CleanedSystem) -> SystemRepository:
    repository = system.repository()
    repository._targets["primary"] = Blind(repository.target("primary"))  # type: ignore[assignment]
    return repository


def test_a_target_whose_locks_cannot_be_read_loses_nothing(system: CleanedSystem, moto: MotoServer) -> None:
    old, _, _ = (locked(system) for _ in range(3))
    system = shortened(system)
    Bucket(system, moto).end_locks(old)
    done = system.clean(repository=blinded(system))
    assert (done.deleted.gone, done.removed) == ((), ())
    assert any("its locks could not be read" in sentence for sentence in done.stopped)
    assert system.clean().deleted.gone == (old,)


def with_second_bucket(system: CleanedSystem, moto: MotoServer) -> tuple[CleanedSystem, Bucket]:
    place = s3_place("s3", moto, ObjectLockEnabledForBucket=True)
    world = system.world
    directory = f"url: file://{world.roots['offsite']}\n    marker: demo-local\n"
    system = CleanedSystem(
        world.bent(directory, f"url: {place.policy['url']}\n    connection: store\n    object_lock: compliance\n")
    )
    return system, Bucket(system, moto, "offsite")


def test_a_copy_that_goes_only_since_a_lock_keeps_another_one_is_asked_for_its_own_lock(
    system: CleanedSystem, moto: MotoServer
) -> None:
    """The first plan keeps the copy on one target since the other's goes; the other's is locked, and stays."""
    system, _ = with_second_bucket(system, moto)
    old, _, _ = (locked(system, on=("primary", "offsite")) for _ in range(3))
    world = system.world.bent("object_lock: compliance\n", "object_lock: compliance\n    retention: 1d\n")
    system = CleanedSystem(world, system.copies)
    assert [reasons(system, target)[old] for target in ("primary", "offsite")] == [(Action.STAYS, Reason.LOCK)] * 2


# A lock is extended


def chain(system: CleanedSystem) -> tuple[str, str, datetime]:
    """A full and an incremental ten days younger, and until when the full must be locked."""
    full = locked(system)
    system.world.clock.advance(days=10)
    moment = system.world.clock()
    link = locked(system, kind="incremental", parent=full, chain=full, tiers=("incremental",))
    return full, link, moment + MONTH


def test_an_incremental_extends_the_lock_of_its_full_and_that_is_recorded(
    system: CleanedSystem, moto: MotoServer
) -> None:
    full, link, until = chain(system)
    bucket = Bucket(system, moto)
    assert max(bucket.locks(full).values()) < until
    before = bucket.locks(link)
    done = system.clean()
    assert done.extended == (full,)
    assert "1 locked for longer" in done.in_words()
    assert done.document()["locks_extended"] == [full]
    assert set(bucket.locks(full).values()) == {until}
    assert bucket.locks(link) == before
    (event,) = events(system, "locks_extended")
    assert (event.source, event.target) == (SOURCE, "primary")
    assert event.details["points"] == {full: {"until": until.isoformat()}}


class Counting:
    """A target that notes of which objects the lock was asked for."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def locked_until(self, key: str) -> datetime | None:
        self.asked.append(key)
        found: datetime | None = self._inner.locked_until(key)
        return found

    def extend_lock(self, key: str, until: datetime) -> bool:
        raise AssertionError(f"the lock of {key} reaches far enough")


def test_where_the_locks_reach_only_the_manifest_of_what_is_needed_is_looked_at(system: CleanedSystem) -> None:
    full, _, _ = chain(system)
    system.clean()
    repository = system.repository()
    counting = Counting(repository.target("primary"))
    repository._targets["primary"] = counting  # type: ignore[assignment]
    assert system.clean(repository=repository).extended == ()
    assert counting.asked == [f"{SYSTEM}/{SOURCE}/{full}/manifest.json"]
    assert len(events(system, "locks_extended")) == 1


def test_wal_extends_the_lock_of_the_full_that_it_leads_on_from(system: CleanedSystem, moto: MotoServer) -> None:
    full = locked(system)
    system.world.clock.advance(days=5)
    moment = system.world.clock()
    locked(system, kind="wal", timeline=1, tiers=("wal",), good=False)
    assert system.clean().extended == (full,)
    assert set(Bucket(system, moto).locks(full).values()) == {moment + MONTH}


def test_a_lock_is_extended_although_the_plan_is_stopped(system: CleanedSystem, moto: MotoServer) -> None:
    for _ in range(5):
        system.point()
    system.world.clock.advance(days=31)
    full, _, until = chain(system)
    done = system.clean()
    assert any("4 of 6" in sentence for sentence in done.stopped)
    assert done.deleted.gone == ()
    assert done.extended == (full,)
    assert set(Bucket(system, moto).locks(full).values()) == {until}


def test_nothing_is_extended_where_something_cannot_be_believed(system: CleanedSystem) -> None:
    chain(system)
    repository = system.repository()
    repository.target("primary").put_new(f"{SYSTEM}/{SOURCE}/20260101T000000Z-full-7f3a/manifest.json", b"{}")
    done = system.clean()
    assert any("can't be believed" in sentence for sentence in done.stopped)
    assert done.extended == ()


def test_an_extension_that_is_killed_is_done_again_and_the_manifest_never_claims_more_than_is_locked(
    system: CleanedSystem, moto: MotoServer
) -> None:
    full, _, until = chain(system)
    bucket = Bucket(system, moto)
    before = bucket.locks(full)["manifest.json"]
    for at in count(1):
        bucket.lock(full, before)
        repository, mortal = system.dying("primary", at)
        with dies():
            system.clean(repository=repository)
        shown = bucket.locks(full)
        if shown.pop("manifest.json") >= until:
            assert min(shown.values()) >= until
        system.clean()
        assert set(bucket.locks(full).values()) == {until}
        if not mortal.dead:
            break
    assert at > len(shown) + 1


def test_a_denied_extension_fails_the_cleanup(system: CleanedSystem) -> None:
    chain(system)
    repository = system.repository()
    target: Any = repository.target("primary")

    def refuse(**_: object) -> None:
        from botocore.exceptions import ClientError

        raise ClientError({"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {}}, "PutObjectRetention")

    target._client.meta.events.register("before-call.s3.PutObjectRetention", refuse)
    with pytest.raises(TargetError, match="locking .* failed") as caught:
        system.clean(repository=repository)
    assert "s3:PutObjectRetention" in caught.value.remedy


# A store that locks nothing


@pytest.fixture
def pretending(make_world: Callable[..., World], rclone: RcloneS3) -> tuple[CleanedSystem, CleanedSystem]:
    """A system on rclone's server without locks in its policy, and the same when its policy asks for them."""
    plain = CleanedSystem(make_world(rclone))
    return plain, CleanedSystem(plain.world.bent(STORE, f"{STORE}    object_lock: compliance\n"), plain.copies)


def test_a_store_that_locks_nothing_is_refused_by_preflight_and_by_an_upload(
    pretending: tuple[CleanedSystem, CleanedSystem],
) -> None:
    _, asking = pretending
    found = asking.repository().target("primary").check()
    assert [finding.what for finding in found if finding.severity == "error"] != []
    with pytest.raises(TargetError, match="the policy asks for object locks, but the bucket .* does not lock"):
        locked(asking)
    assert asking.shown() == []


def test_a_plan_never_believes_the_headers_of_a_lock_that_a_store_only_repeats(
    pretending: tuple[CleanedSystem, CleanedSystem], rclone: RcloneS3
) -> None:
    plain, asking = pretending
    old, _, _ = plain.days(3)
    asking = shortened(asking)
    bucket, store = Bucket(plain, rclone), plain.repository().target("primary")
    until = plain.world.clock() + MONTH
    for info in list(store.list(f"{SYSTEM}/{SOURCE}/{old}/")):
        address = {"Bucket": bucket.name, "Key": f"{bucket.prefix}/{info.key}"}
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        bucket.client.put_object(**address, Body=store.read(info.key), **lock)
        assert bucket.client.head_object(**address)["ObjectLockRetainUntilDate"] == until
    assert reasons(asking)[old] == (Action.GOES, Reason.PAST_TIER)


def test_a_store_that_locks_nothing_is_never_asked_to_extend_a_lock(
    pretending: tuple[CleanedSystem, CleanedSystem],
) -> None:
    """rclone's server would put the request's own text in the place of the object."""
    plain, asking = pretending
    full = plain.point()
    plain.point(kind="incremental", parent=full, chain=full, tiers=("incremental",))
    with pytest.raises(TargetError, match="does not lock"):
        asking.clean()
    plain.whole()
