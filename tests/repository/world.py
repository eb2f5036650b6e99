"""A system with its keys and policy, its targets being directories or S3 servers, and recovery points made in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from lifeboat.connections import outside_from
from lifeboat.outside import Outside
from lifeboat.policy.loading import load_policy
from lifeboat.policy.model import LoadedPolicy
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import commit, next_place, wrapped_keys
from lifeboat.repository.manifest import Manifest, Run
from lifeboat.repository.system import SystemRepository, Work, tool_versions
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import StreamWriter
from lifeboat.targets.target import Target
from tests.conftest import Clock

SYSTEM, SOURCE = "demo", "database"
STREAMS = {"base.tar": b"the tables " * 30_000, "backup_manifest": b"{}"}


@dataclass
class World:
    """One system, called ``system``. ``roots`` are the directories of those targets that are directories."""

    policy: Path
    clock: Clock
    roots: Mapping[str, Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    bend: Callable[[Outside], Outside] = lambda outside: outside
    system: str = SYSTEM

    @property
    def loaded(self) -> LoadedPolicy:
        return load_policy(self.policy)

    def repository(self) -> SystemRepository:
        """The system as one process opens it."""
        return SystemRepository(self.loaded, self.bend(outside_from(self.environment, clock=self.clock)))

    def work(self, kind: str = "full", **more: Any) -> Work:
        return Work.new(kind, begun=self.clock(), tiers=("daily",), run=Run(command="a test"), actor="tester", **more)

    def store(
        self,
        repository: SystemRepository,
        work: Work,
        *,
        target: Target | None = None,
        streams: Mapping[str, bytes] = STREAMS,
        timeline: int | None = None,
        volume_size: int = 200_000,
        retain_until: datetime | None = None,
    ) -> tuple[StoredStream, ...]:
        """Write an attempt's streams, as a source does; nothing is committed."""
        to = repository.destination(
            target or repository.target("primary"), SOURCE, work, timeline=timeline, retain_until=retain_until
        )
        stored = []
        for name, data in streams.items():
            writer = StreamWriter(name, to, StreamSettings(volume_size=volume_size))
            writer.write(data)
            stored.append(writer.finish())
        return tuple(stored)

    def manifest(
        self,
        repository: SystemRepository,
        work: Work,
        streams: tuple[StoredStream, ...],
        *,
        timeline: int | None = None,
        **more: Any,
    ) -> Manifest:
        kind = work.recovery_point.kind
        catalogue = repository.catalogue("primary")
        listing = catalogue.recovery_points(SOURCE) if timeline is None else catalogue.wal(SOURCE, timeline)
        place = next_place(listing.of_kind(kind))
        values: dict[str, Any] = {
            "system": self.system,
            "source": SOURCE,
            "recovery_point": str(work.recovery_point),
            "attempt": work.attempt,
            "timeline": timeline,
            "kind": kind,
            "tiers": work.tiers,
            "sequence": place.sequence,
            "previous": place.previous,
            "chain": str(work.recovery_point),
            "begun": self.clock(),
            "committed": self.clock(),
            "moment": self.clock(),
            "details": {},
            "streams": streams,
            "wrapped_keys": wrapped_keys(repository.sealing.wrapping_keys),
            "tool_versions": tool_versions(),
            "policy_digest": repository.loaded.digest,
            "run": work.run,
        }
        return Manifest(**(values | more))

    def point(
        self,
        repository: SystemRepository | None = None,
        *,
        kind: str = "full",
        timeline: int | None = None,
        streams: Mapping[str, bytes] = STREAMS,
        work: Work | None = None,
        volume_size: int = 200_000,
        retain_until: datetime | None = None,
        **more: Any,
    ) -> Copy:
        """A committed recovery point on the primary target; the clock moves on by an hour."""
        repository = repository or self.repository()
        work = work or self.work(kind)
        stored = self.store(
            repository, work, streams=streams, timeline=timeline, volume_size=volume_size, retain_until=retain_until
        )
        manifest = self.manifest(repository, work, stored, timeline=timeline, **more)
        copy = commit(repository.target("primary"), manifest, repository.signer, retain_until=retain_until)
        self.clock.advance(hours=1)
        return copy

    def file(self, key: str, target: str = "primary") -> Path:
        """Where an object of a directory lies."""
        return self.roots[target] / key

    def bent(self, old: str, new: str) -> World:
        """The same system, its policy changed."""
        text = self.policy.read_text()
        assert old in text
        bent = self.policy.parent.parent / f"bent-{abs(hash(new))}" / self.policy.name
        bent.parent.mkdir(exist_ok=True)
        bent.write_text(text.replace(old, new))
        return replace(self, policy=bent)


def everything(world: World, target: str = "primary") -> dict[str, bytes]:
    """All that lies on a target that is a directory."""
    root = world.roots[target]
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
