"""From a moment to a plan: which base, which WAL, which settings, how much room. Pure functions of manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lifeboat.errors import MomentUnreachable
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.moments import AtLsn, AtName, AtRecoveryPoint, AtTime, LocatedPoint, Moment
from lifeboat.postgres.reach import (
    Base,
    Reach,
    WalRun,
    brought_by_itself,
    end_of,
    leads_to,
    proven_until,
    reach_of,
)
from lifeboat.postgres.room import room
from lifeboat.postgres.segments import SegmentName
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.repository.catalogue import Copy


@dataclass(frozen=True)
class Stage:
    """One WAL file that recovery may ask for, and the run that holds it."""

    name: str
    run: WalRun
    stream: str


@dataclass(frozen=True)
class RestorePlan:
    """What a restore will do, before it does any of it.

    Attributes:
        moment: what was asked for.
        base: the full, or the chain, that it begins with.
        reach: how far recovery from there could go.
        stages: the WAL files to fetch, in order.
        histories: the history files to fetch, by timeline.
        timeline: the timeline that recovery follows.
        target: the recovery settings that name the moment, as PostgreSQL knows them.
        end_lsn: up to where the staged WAL goes.
        fetch_bytes: stored bytes to fetch.
        room_bytes: bytes the destination needs.
    """

    moment: Moment
    base: Base
    reach: Reach
    stages: tuple[Stage, ...]
    histories: tuple[Stage, ...]
    timeline: int
    target: Mapping[str, str]
    end_lsn: Lsn
    fetch_bytes: int
    room_bytes: int

    @property
    def stops_early(self) -> bool:
        """Whether recovery may stop before the end of the staged WAL."""
        return bool(self.target)

    @property
    def wal_bytes(self) -> int:
        """Plain bytes of WAL to replay, at most."""
        return len(self.stages) * self.base.details.server.wal_segment_size

    @property
    def plain_bytes(self) -> int:
        """Plain bytes of everything that is fetched."""
        return sum(link.details.plain_total for link in self.base.links) + self.wal_bytes

    @property
    def copies(self) -> tuple[Copy, ...]:
        """The recovery points that are read: the base with its chain, and the runs of WAL."""
        links = [link.copy for link in self.base.links]
        runs = [stage.run.copy for stage in (*self.histories, *self.stages)]
        return tuple({copy.manifest.folder.path: copy for copy in (*links, *runs)}.values())


def plan_restore(
    moment: Moment,
    bases: Sequence[Base],
    runs: Mapping[int, Sequence[WalRun]],
    histories: Mapping[int, TimelineHistory],
    *,
    base_id: str | None = None,
    timeline: int | None = None,
    located: LocatedPoint | None = None,
) -> RestorePlan:
    """Choose the newest base from which the moment can be reached, and the WAL from there.

    Args:
        bases: the good fulls, and incrementals with whole chains, oldest first.
        runs: the WAL runs by timeline.
        histories: of the timelines whose history is stored.
        base_id: begin with this full or incremental.
        timeline: follow this timeline's history.
        located: where the named restore point is, when the moment is one.

    Raises:
        MomentUnreachable: the moment lies outside what can be reached; the text says what can.
    """
    offered = _Offered(runs, histories)
    if isinstance(moment, AtRecoveryPoint):
        for base in bases:
            if base.manifest.recovery_point == moment.id:
                return _plan_alone(moment, base, offered)
    run = _run_named(moment, runs)
    if timeline is None:
        # A recovery point, and a restore point, belong to one history: that one is meant, whichever is the newest.
        timeline = run.details.timeline if run is not None else located.timeline if located is not None else None
    candidates = _candidates(bases, histories, base_id, timeline)
    reaches = [reach_of(base, runs, histories, timeline=timeline) for base in candidates]
    for reach in reversed(reaches):
        if run is not None:
            if run in reach.runs:
                taken = reach.runs[: reach.runs.index(run) + 1]
                return _plan(moment, reach, taken, offered, timeline, {})
        elif _contains(reach, moment, histories, timeline, located):
            until = _runs_until(moment, reach, histories, timeline, located)
            return _plan(moment, reach, until, offered, timeline, _target(moment, until, located))
    raise MomentUnreachable(f"{_subject(moment)} can't be reached.", ranges_in_words(reaches))


def _run_named(moment: Moment, runs: Mapping[int, Sequence[WalRun]]) -> WalRun | None:
    if not isinstance(moment, AtRecoveryPoint):
        return None
    # One run may have brought the end of one timeline and the beginning of the next: its end is on the latter.
    for timeline in sorted(runs, reverse=True):
        for run in runs[timeline]:
            if run.manifest.recovery_point == moment.id:
                return run
    raise MomentUnreachable(
        f"There is no good recovery point {moment.id} on this target.",
        "`lifeboat list` shows what there is, and marks what is damaged.",
    )


def _candidates(
    bases: Sequence[Base], histories: Mapping[int, TimelineHistory], base_id: str | None, timeline: int | None
) -> list[Base]:
    named = [base for base in bases if base_id in (None, base.manifest.recovery_point)]
    if not named:
        raise MomentUnreachable(
            f"There is no good {f'full or incremental {base_id}' if base_id else 'full backup'} on this target.",
            "Choose another target or another recovery point; `lifeboat list` shows what there is.",
        )
    if timeline is None:
        return named
    lineage = histories.get(timeline, TimelineHistory(timeline))
    candidates = [base for base in named if leads_to(base, lineage)]
    if not candidates:
        raise MomentUnreachable(
            f"From no good full{f' {base_id}' if base_id else ''} on this target does recovery lead to timeline "
            f"{timeline}.",
            f"Timelines with WAL or fulls here: {_timelines(bases, histories)}.",
        )
    return candidates


def _timelines(bases: Sequence[Base], histories: Mapping[int, TimelineHistory]) -> str:
    return ", ".join(str(one) for one in sorted({*histories, *(base.details.timeline for base in bases)})) or "none"


def ranges_in_words(reaches: Sequence[Reach]) -> str:
    """The time ranges that can be reached, in a sentence."""
    ranges = merged_ranges(reaches)
    words = "; ".join(f"{_words(first)} to {_words(last)}" for first, last in ranges) or "no moment by its time"
    alone = ", ".join(reach.base.manifest.recovery_point for reach in reaches if not reach.runs)
    gaps = sorted({reach.gap for reach in reaches if reach.gap})
    return (
        f"Reachable: {words}."
        + (f" Without WAL behind them, as they are: {alone}." if alone else "")
        + (f" Gap: {'; '.join(gaps)}." if gaps else "")
    )


def merged_ranges(reaches: Sequence[Reach]) -> list[tuple[datetime, datetime]]:
    """The time ranges that can be reached, overlapping ones made one, oldest first."""
    ranges: list[tuple[datetime, datetime]] = []
    for first, last in sorted((reach.earliest, reach.latest) for reach in reaches if reach.runs):
        if ranges and first <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
        else:
            ranges.append((first, last))
    return ranges


def _words(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC")


def _subject(moment: Moment) -> str:
    text = str(moment)
    return text[0].upper() + text[1:]


def _contains(
    reach: Reach,
    moment: Moment,
    histories: Mapping[int, TimelineHistory],
    timeline: int | None,
    located: LocatedPoint | None,
) -> bool:
    if isinstance(moment, AtTime):
        if not reach.earliest <= moment.time <= reach.latest:
            return False
        lineage = _lineage(reach, histories, timeline)
        return any((until := proven_until(run, lineage)) and until >= moment.time for run in reach.runs)
    if isinstance(moment, AtName):
        return located is not None and reach.base.details.stop_lsn <= located.lsn < reach.end_lsn
    if isinstance(moment, AtLsn):
        return reach.base.details.stop_lsn <= moment.lsn <= max(reach.end_lsn, reach.base.details.stop_lsn)
    return True


def _lineage(reach: Reach, histories: Mapping[int, TimelineHistory], timeline: int | None) -> TimelineHistory:
    goal = timeline if timeline is not None else reach.timeline
    return histories.get(goal, TimelineHistory(goal))


@dataclass(frozen=True)
class _Offered:
    runs: Mapping[int, Sequence[WalRun]]
    histories: Mapping[int, TimelineHistory]

    def history_stages(self) -> tuple[Stage, ...]:
        """All of them, not only those on the way: the restored server takes the next free number for its own
        timeline, and must not take one that is in use."""
        return tuple(
            Stage(run.details.history, run, run.details.history)
            for timeline in sorted(self.runs)
            for run in self.runs[timeline]
            if run.details.history is not None
        )


def _plan(
    moment: Moment,
    reach: Reach,
    runs: Sequence[WalRun],
    offered: _Offered,
    timeline: int | None,
    target: Mapping[str, str],
) -> RestorePlan:
    lineage = _lineage(reach, offered.histories, timeline)
    own = reach.base.details.stop_lsn
    end = max(own, min(reach.end_lsn, max((run.details.end_lsn for run in runs), default=own)))
    stages = _stages(reach, runs, lineage, end)
    plain_wal = len(stages) * reach.base.details.server.wal_segment_size
    fetched = sum(link.manifest.stored_size for link in reach.base.links) + sum(
        stage.run.manifest.stream(stage.stream).stored_size for stage in stages
    )
    return RestorePlan(
        moment,
        reach.base,
        reach,
        stages,
        offered.history_stages(),
        lineage.timeline,
        target,
        end,
        fetched,
        room(reach.base, plain_wal),
    )


def _plan_alone(moment: Moment, base: Base, offered: _Offered) -> RestorePlan:
    """A base with nothing but the WAL in it."""
    details = base.details
    alone = Reach(base, details.stopped, details.stopped, brought_by_itself(base), details.timeline, ())
    return _plan(moment, alone, (), offered, None, {"recovery_target": "immediate"})


def _runs_until(
    moment: Moment,
    reach: Reach,
    histories: Mapping[int, TimelineHistory],
    timeline: int | None,
    located: LocatedPoint | None,
) -> list[WalRun]:
    """The runs whose WAL is needed: those up to the first that covers the moment."""
    lineage = _lineage(reach, histories, timeline)
    runs: list[WalRun] = []
    for run in reach.runs:
        runs.append(run)
        if isinstance(moment, AtTime) and (until := proven_until(run, lineage)) and until >= moment.time:
            break
        lsn = moment.lsn if isinstance(moment, AtLsn) else located.lsn if located is not None else None
        switch = end_of(run.details.timeline, lineage)
        if lsn is not None and run.details.end_lsn > lsn and (switch is None or switch > lsn):
            break
    return runs


def _stages(reach: Reach, runs: Sequence[WalRun], lineage: TimelineHistory, end: Lsn) -> tuple[Stage, ...]:
    size = reach.base.details.server.wal_segment_size
    held: dict[str, Stage] = {}
    for run in runs:
        for stream in run.manifest.streams:
            # A later run's segment of the same name holds at least what an earlier one's held.
            held[stream.name] = Stage(stream.name, run, stream.name)
    start = reach.base.details.start_lsn
    stages: list[Stage] = []
    for segment in lineage.covering(Lsn(start - start % size), max(end, start), size):
        stage = _find(segment, held, lineage)
        if stage is not None:
            stages.append(stage)
        elif runs and segment.start(size) >= brought_by_itself(reach.base):
            raise MomentUnreachable(
                f"The WAL segment {segment}, which recovery needs, is not among what is stored here.",
                "Choose another target, or a moment before it.",
            )
    return tuple(stages)


def _find(segment: SegmentName, held: Mapping[str, Stage], lineage: TimelineHistory) -> Stage | None:
    if (whole := held.get(str(segment))) is not None:
        return whole
    # The last piece of a timeline serves only where recovery follows that very timeline to its end.
    if segment.timeline == lineage.timeline and (piece := held.get(f"{segment}.partial")) is not None:
        return Stage(str(segment), piece.run, piece.stream)
    return None


def _target(moment: Moment, runs: Sequence[WalRun], located: LocatedPoint | None) -> dict[str, str]:
    if isinstance(moment, AtTime):
        return {"recovery_target_time": moment.time.astimezone(UTC).isoformat(sep=" ")}
    if isinstance(moment, AtLsn):
        return {"recovery_target_lsn": str(moment.lsn)}
    if located is not None:
        # Not by its name: the same name may stand in the WAL twice, and recovery stops at the first.
        return {"recovery_target_lsn": str(located.lsn)}
    return {} if runs else {"recovery_target": "immediate"}
