"""What can be reached: from each base, along the WAL that follows it without a gap. Pure functions of manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lifeboat.postgres.details import FullDetails, WalDetails, wal_details
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import covering
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Manifest


@dataclass(frozen=True)
class WalRun:
    """One committed WAL run."""

    copy: Copy
    details: WalDetails

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return self.copy.manifest


@dataclass(frozen=True)
class Base:
    """What a restore begins with: a full, or an incremental with its chain.

    Attributes:
        copy: the full, or the last link of the chain.
        details: of that one.
        below: the links below an incremental, the full first.
    """

    copy: Copy
    details: FullDetails
    below: tuple[Base, ...] = ()

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return self.copy.manifest

    @property
    def links(self) -> tuple[Base, ...]:
        """The whole chain, the full first and itself last."""
        return (*self.below, self)


@dataclass(frozen=True)
class Reach:
    """How far recovery from one base can go.

    Attributes:
        base: the full, or the incremental with its chain.
        earliest: the first moment that can be told by its time: the base has ended by then.
        latest: the last proven one; equal to ``earliest`` when no WAL follows: then the base itself can be brought
            back, and no moment by its time.
        end_lsn: up to where the WAL goes without a gap.
        timeline: the timeline at its end.
        runs: the WAL runs that lead there, in order.
        gap: why it goes no further although later WAL exists; empty when it goes to the end.
    """

    base: Base
    earliest: datetime
    latest: datetime
    end_lsn: Lsn
    timeline: int
    runs: tuple[WalRun, ...]
    gap: str = ""


def wal_runs(copies: Iterable[Copy]) -> dict[int, list[WalRun]]:
    """The WAL runs of each timeline, in the order of their positions."""
    found: dict[int, list[WalRun]] = {}
    for copy in copies:
        details = wal_details(copy.manifest)
        found.setdefault(details.timeline, []).append(WalRun(copy, details))
    for runs in found.values():
        runs.sort(key=lambda run: (run.details.start_lsn, run.details.end_lsn, run.manifest.sequence))
    return found


def reach_of(
    base: Base,
    runs: Mapping[int, Sequence[WalRun]],
    histories: Mapping[int, TimelineHistory],
    *,
    timeline: int | None = None,
) -> Reach:
    """How far recovery from ``base`` goes.

    Args:
        runs: all WAL runs by timeline, as :func:`wal_runs` gives them.
        histories: of every timeline whose history file is stored.
        timeline: go along this timeline's history, which must be one of the base's future (:func:`leads_to`); by
            default the newest one that descends from the base's.
    """
    goal = timeline if timeline is not None else _newest_descendant(base.details, histories)
    lineage = histories.get(goal, TimelineHistory(goal))
    details = base.details
    size = details.server.wal_segment_size
    walk = _Walk(brought_by_itself(base), details.stop_lsn, details.stopped)
    for step in _steps(lineage, details.timeline):
        switch = end_of(step, lineage)
        for run in runs.get(step, []):
            # What lies behind the switch was written by a server that went another way.
            foreign = run.details.system_identifier != details.system_identifier
            if not foreign and (switch is None or run.details.start_lsn < switch):
                walk.take(run, proven_until(run, lineage))
        if walk.gap:
            break
        if switch is not None:
            # The next timeline begins in the segment in which this one ended.
            walk.position = min(walk.position, Lsn(switch - switch % size))
    return Reach(
        base,
        details.stopped,
        walk.latest,
        walk.position,
        walk.taken[-1].details.timeline if walk.taken else details.timeline,
        tuple(walk.taken),
        walk.gap,
    )


class _Walk:
    """Along the runs of a history, from one to the next that joins it."""

    def __init__(self, position: Lsn, needed: Lsn, latest: datetime) -> None:
        self.position = position
        self._needed = needed
        self.latest = latest
        self.taken: list[WalRun] = []
        self.gap = ""

    def take(self, run: WalRun, proven: datetime | None) -> None:
        details = run.details
        # Before it has replayed up to its own end a base is of no use.
        if self.gap or details.end_lsn < max(self.position, self._needed):
            return
        if details.start_lsn > self.position:
            self.gap = f"WAL of timeline {details.timeline} from {self.position} to {details.start_lsn} is missing"
            return
        if lacking := segments_lacking(run):
            if details.end_lsn > self.position:
                self.gap = f"the WAL run {run.manifest.recovery_point} lacks {lacking[0]}"
            return
        if details.end_lsn == self.position and (proven is None or proven <= self.latest):
            return
        self.taken.append(run)
        self.position = max(self.position, details.end_lsn)
        self.latest = max(self.latest, proven or self.latest)


def proven_until(run: WalRun, lineage: TimelineHistory) -> datetime | None:
    """The moment by which everything committed along this history is in the run or before it; ``None`` when the run
    proves none: its timeline ended in it, or this history left that timeline before the run's end."""
    switch = end_of(run.details.timeline, lineage)
    if run.details.ended or (switch is not None and run.details.end_lsn > switch):
        return None
    return run.details.covered_until


def segments_lacking(run: WalRun) -> list[str]:
    """The WAL files that a run should have brought by its own account, and that its manifest does not name."""
    details = run.details
    named = {stream.name for stream in run.manifest.streams}
    wanted = [
        str(name) for name in covering(details.start_lsn, details.end_lsn, details.timeline, details.segment_size)
    ]
    if details.partial is not None and wanted:
        wanted[-1] = details.partial
    return [name for name in wanted if name not in named]


def leads_to(base: Base, lineage: TimelineHistory) -> bool:
    """Whether recovery from ``base`` can follow this history: it passes through the base."""
    timeline = base.details.timeline
    if timeline == lineage.timeline:
        return True
    switch = end_of(timeline, lineage)
    return switch is not None and switch >= base.details.stop_lsn


def end_of(timeline: int, lineage: TimelineHistory) -> Lsn | None:
    """Where a history leaves a timeline; ``None`` for the one it tells of, and for those it does not know."""
    return next((switch.switch for switch in lineage.switches if switch.parent == timeline), None)


def brought_by_itself(base: Base) -> Lsn:
    """Up to where whole segments lie in the base itself.

    A primary ends its segment where a backup stops, so the base brings that segment whole. A standby can't: what its
    last segment holds behind the stop is of no use.
    """
    stop, size = base.details.stop_lsn, base.details.server.wal_segment_size
    return Lsn(stop - stop % size) if base.details.standby else Lsn(-(-stop // size) * size)


def _newest_descendant(details: FullDetails, histories: Mapping[int, TimelineHistory]) -> int:
    descendants = [
        timeline
        for timeline, history in histories.items()
        if any(switch.parent == details.timeline and switch.switch >= details.stop_lsn for switch in history.switches)
    ]
    return max(descendants, default=details.timeline)


def _steps(lineage: TimelineHistory, first: int) -> list[int]:
    order = [*(switch.parent for switch in lineage.switches), lineage.timeline]
    return order[order.index(first) :] if first in order else [first]
