"""What a target offers to a restore: fulls and chains, WAL and the histories of timelines, read and believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

from lifeboat.errors import ManifestInvalid, MomentUnreachable
from lifeboat.postgres.chains import Broken, chained
from lifeboat.postgres.moments import AtName, LocatedPoint, Moment
from lifeboat.postgres.reach import Base, Reach, WalRun, reach_of, wal_runs
from lifeboat.postgres.restore_planning import RestorePlan, plan_restore, ranges_in_words
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.postgres.wal import WalWalker
from lifeboat.repository.catalogue import Copy, Listing
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import Origin, opened

SMALL = 16 * 1024 * 1024


@dataclass(frozen=True)
class Offer:
    """What one target has of a source.

    Attributes:
        target: the target's name.
        bases: the good fulls, and the good incrementals whose whole chain is there; oldest first.
        broken: the incrementals whose chain is not whole.
        runs: the WAL runs by timeline.
        histories: by timeline.
        unreadable: what is committed there and can't be believed.
        locate: finds a named restore point by reading WAL, newest first: which ones there are stands in no manifest.
    """

    target: str
    bases: list[Base]
    broken: tuple[Broken, ...]
    runs: dict[int, list[WalRun]]
    histories: dict[int, TimelineHistory]
    unreadable: tuple[str, ...]
    locate: Callable[[str], LocatedPoint | None] = field(repr=False)

    def reaches(self) -> list[Reach]:
        """How far recovery from each base goes."""
        return list(self._reaches)

    @cached_property
    def _reaches(self) -> tuple[Reach, ...]:
        # A month of incrementals beside WAL every five minutes: a second's work, asked for again and again.
        return tuple(reach_of(base, self.runs, self.histories) for base in self.bases)

    def plan(self, moment: Moment, *, base_id: str | None = None, timeline: int | None = None) -> RestorePlan:
        """The plan for a moment; raises ``MomentUnreachable``.

        For a named restore point WAL is read, which may raise what reading a damaged copy raises.
        """
        located: LocatedPoint | None = None
        if isinstance(moment, AtName) and (located := self.locate(moment.name)) is None:
            raise MomentUnreachable(
                f"No WAL on {self.target} holds a restore point named {moment.name!r}.", ranges_in_words(self.reaches())
            )
        return plan_restore(
            moment, self.bases, self.runs, self.histories, base_id=base_id, timeline=timeline, located=located
        )


def read_offer(repository: SystemRepository, source: str, target: str) -> Offer:
    """Read what a target has.

    Raises:
        TargetError: it can't be reached.
        KeyUnavailable: a timeline's history is stored and can't be opened.
    """
    catalogue = repository.catalogue(target)
    return offer_from(repository, target, catalogue.recovery_points(source), catalogue.wal(source))


def offer_from(repository: SystemRepository, target: str, points: Listing, wal: Listing) -> Offer:
    """The same from listings that were read already; raises as :func:`read_offer`."""
    runs = wal_runs(wal.copies)
    histories: dict[int, TimelineHistory] = {}
    for row in runs.values():
        for run in row:
            if run.details.history is not None:
                content = read_small(repository, target, run.copy, run.details.history)
                histories[run.details.timeline] = TimelineHistory.parse(run.details.timeline, content)
    unreadable = tuple(bad.reason for bad in (*points.unreadable, *wal.unreadable))
    locate = partial(_locate, repository, target, runs)
    links = chained(points.copies)
    return Offer(target, list(links.bases), links.broken, runs, histories, unreadable, locate)


def _locate(repository: SystemRepository, target: str, runs: dict[int, list[WalRun]], name: str) -> LocatedPoint | None:
    newest_first = sorted(
        (run for row in runs.values() for run in row),
        key=lambda run: (run.manifest.begun, run.details.timeline),
        reverse=True,
    )
    for run in newest_first:
        # Each run begins with a segment and ends behind a switch: it can be read by itself.
        walker = WalWalker(run.details.system_identifier, run.details.segment_size, checksums=False)
        origin = origin_of(repository, target, run.copy)
        for stream in run.manifest.streams:
            if stream.name != run.details.history:
                with opened(stream, origin) as plain:
                    walker.feed(stream.name, plain)
        found = [point for point in walker.restore_points if point.name == name]
        if found:
            return LocatedPoint(name, found[-1].lsn, run.details.timeline, found[-1].moment)
    return None


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
