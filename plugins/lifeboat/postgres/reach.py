"""What can be reached: from each full, along the WAL that follows it without a gap. Pure functions of manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lifeboat.postgres.details import FullDetails, WalDetails, full_details, wal_details
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import SegmentName
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
    """One committed full."""

    copy: Copy
    details: FullDetails

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return self.copy.manifest


@dataclass(frozen=True)
class Reach:
    """How far recovery from one full can go.

    Attributes:
        base: the full.
        earliest: the first moment: the full's own end.
        latest: the last proven one; equal to ``earliest`` when no WAL follows.
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


def bases(copies: Iterable[Copy]) -> list[Base]:
    """The fulls that a restore may begin with, oldest first: damaged ones are not among them."""
    found = [
        Base(copy, full_details(copy.manifest))
        for copy in copies
        if copy.manifest.kind == "full" and copy.manifest.state == "good"
    ]
    return sorted(found, key=lambda base: (base.details.stopped, base.manifest.sequence))


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
        timeline: go along this timeline's history; by default the newest one that descends from the base's.
    """
    goal = timeline if timeline is not None else _newest_descendant(base.details, histories)
    lineage = histories.get(goal, TimelineHistory(goal))
    details = base.details
    position = _behind(details.stop_lsn, details.server.wal_segment_size)
    latest = details.stopped
    taken: list[WalRun] = []
    gap = ""
    for step in _steps(lineage, details.timeline):
        for run in runs.get(step, []):
            if run.details.system_identifier != details.system_identifier or run.details.end_lsn < position:
                continue
            if _begins(run, lineage) > position:
                gap = f"WAL of timeline {step} from {position} to {run.details.start_lsn} is missing"
                break
            if run.details.covered_until < latest and run.details.end_lsn == position:
                continue
            taken.append(run)
            position = max(position, run.details.end_lsn)
            latest = max(latest, run.details.covered_until)
        if gap:
            break
        # The next timeline begins in the segment in which this one ended.
        switch = _end_of(step, lineage)
        if switch is not None:
            position = min(position, Lsn(switch - switch % details.server.wal_segment_size))
    return Reach(
        base,
        details.stopped,
        latest,
        position,
        taken[-1].details.timeline if taken else details.timeline,
        tuple(taken),
        gap,
    )


def _behind(lsn: Lsn, segment_size: int) -> Lsn:
    """The end of the segment that holds the last byte before ``lsn``: the full brings that segment itself."""
    return Lsn(-(-lsn // segment_size) * segment_size)


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


def _end_of(timeline: int, lineage: TimelineHistory) -> Lsn | None:
    return next((switch.switch for switch in lineage.switches if switch.parent == timeline), None)


def _begins(run: WalRun, lineage: TimelineHistory) -> Lsn:
    return run.details.start_lsn


def segments_needed(reach: Reach, stop: Lsn, lineage: TimelineHistory) -> list[SegmentName]:
    """The segments that recovery reads besides the full's own, up to and without ``stop``."""
    size = reach.base.details.server.wal_segment_size
    start = reach.base.details.start_lsn
    return lineage.covering(Lsn(start - start % size), max(stop, start), size)
