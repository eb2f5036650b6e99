"""What a target offers to a restore: its fulls, its WAL and the histories of its timelines, read and believed."""

from __future__ import annotations

from dataclasses import dataclass

from lifeboat.errors import ManifestInvalid
from lifeboat.postgres.moments import Moment
from lifeboat.postgres.reach import Base, Reach, WalRun, bases, reach_of, wal_runs
from lifeboat.postgres.restore_planning import RestorePlan, plan_restore
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import Origin, opened

SMALL = 16 * 1024 * 1024


@dataclass(frozen=True)
class Offer:
    """What one target has of a source.

    Attributes:
        target: the target's name.
        bases: the good fulls, oldest first.
        runs: the WAL runs by timeline.
        histories: by timeline.
        unreadable: what is committed there and can't be believed.
    """

    target: str
    bases: list[Base]
    runs: dict[int, list[WalRun]]
    histories: dict[int, TimelineHistory]
    unreadable: tuple[str, ...]

    def reaches(self) -> list[Reach]:
        """How far recovery from each full goes."""
        return [reach_of(base, self.runs, self.histories) for base in self.bases]

    def plan(self, moment: Moment, *, base_id: str | None = None, timeline: int | None = None) -> RestorePlan:
        """The plan for a moment; raises ``MomentUnreachable``."""
        return plan_restore(moment, self.bases, self.runs, self.histories, base_id=base_id, timeline=timeline)


def read_offer(repository: SystemRepository, source: str, target: str) -> Offer:
    """Read what a target has.

    Raises:
        TargetError: it can't be reached.
        KeyUnavailable: a timeline's history is stored and can't be opened.
    """
    catalogue = repository.catalogue(target)
    points = catalogue.recovery_points(source)
    wal = catalogue.wal(source)
    runs = wal_runs(wal.copies)
    histories: dict[int, TimelineHistory] = {}
    for row in runs.values():
        for run in row:
            if run.details.history is not None:
                content = read_small(repository, target, run.copy, run.details.history)
                histories[run.details.timeline] = TimelineHistory.parse(run.details.timeline, content)
    unreadable = tuple(bad.reason for bad in (*points.unreadable, *wal.unreadable))
    return Offer(target, bases(points.copies), runs, histories, unreadable)


def origin_of(repository: SystemRepository, target: str, copy: Copy) -> Origin:
    """Where a copy's streams are read from."""
    manifest = copy.manifest
    return Origin(
        repository.target(target),
        manifest.folder.attempt(manifest.attempt),
        manifest.system,
        manifest.source,
        manifest.recovery_point,
        repository.opening,
    )


def read_small(repository: SystemRepository, target: str, copy: Copy, stream: str) -> bytes:
    """A small stream as a whole.

    Raises:
        ManifestInvalid: the manifest has no such stream, or it is not small.
    """
    stored = copy.manifest.stream(stream)
    if stored.plain_size > SMALL:
        raise ManifestInvalid(
            f"{stream} of {copy.manifest.recovery_point} claims {stored.plain_size} bytes.", "It should be small."
        )
    with opened(stored, origin_of(repository, target, copy)) as plain:
        return plain.read()
