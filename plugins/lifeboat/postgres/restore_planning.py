"""From a moment to a plan: which full, which WAL, which settings, how much room. Pure functions of manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lifeboat.errors import MomentUnreachable
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.moments import AtLsn, AtName, AtRecoveryPoint, AtTime, Moment
from lifeboat.postgres.reach import Base, Reach, WalRun, reach_of
from lifeboat.postgres.segments import SegmentName
from lifeboat.postgres.timelines import TimelineHistory

ROOM_FACTOR_PERCENT = 105
"""A file system needs a little more than the bytes of the files on it."""


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
        base: the full it begins with.
        reach: how far recovery from that full could go.
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


def plan_restore(
    moment: Moment,
    bases: Sequence[Base],
    runs: Mapping[int, Sequence[WalRun]],
    histories: Mapping[int, TimelineHistory],
    *,
    base_id: str | None = None,
    timeline: int | None = None,
) -> RestorePlan:
    """Choose the newest full from which the moment can be reached, and the WAL from there.

    Args:
        bases: the good fulls, oldest first.
        runs: the WAL runs by timeline.
        histories: of the timelines whose history is stored.
        base_id: begin with this full.
        timeline: follow this timeline's history.

    Raises:
        MomentUnreachable: the moment lies outside what can be reached; the text says what can.
    """
    if isinstance(moment, AtRecoveryPoint):
        return _to_recovery_point(moment, bases, runs, histories, base_id, timeline)
    candidates = [base for base in bases if base_id in (None, base.manifest.recovery_point)]
    if not candidates:
        raise MomentUnreachable(
            f"There is no good full backup{f' {base_id}' if base_id else ''} on this target.",
            "Choose another target or another recovery point; `lifeboat list` shows what there is.",
        )
    reaches = [reach_of(base, runs, histories, timeline=timeline) for base in candidates]
    for reach in reversed(reaches):
        if _contains(reach, moment):
            return _plan(moment, reach, histories, timeline)
    raise MomentUnreachable(f"{_subject(moment)} can't be reached.", ranges_in_words(reaches))


def ranges_in_words(reaches: Sequence[Reach]) -> str:
    """The time ranges that can be reached, in a sentence."""
    ranges = merged_ranges(reaches)
    words = "; ".join(f"{_words(first)} to {_words(last)}" for first, last in ranges)
    gaps = sorted({reach.gap for reach in reaches if reach.gap})
    return f"Reachable: {words}." + (f" Gap: {'; '.join(gaps)}." if gaps else "")


def merged_ranges(reaches: Sequence[Reach]) -> list[tuple[datetime, datetime]]:
    """The time ranges that can be reached, overlapping ones made one, oldest first."""
    ranges: list[tuple[datetime, datetime]] = []
    for first, last in sorted((reach.earliest, reach.latest) for reach in reaches):
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


def _contains(reach: Reach, moment: Moment) -> bool:
    if isinstance(moment, AtTime):
        return reach.earliest <= moment.time <= reach.latest
    if isinstance(moment, AtLsn):
        return reach.base.details.stop_lsn <= moment.lsn <= max(reach.end_lsn, reach.base.details.stop_lsn)
    return True


def _plan(moment: Moment, reach: Reach, histories: Mapping[int, TimelineHistory], timeline: int | None) -> RestorePlan:
    runs = _runs_until(moment, reach)
    goal = timeline if timeline is not None else reach.timeline
    lineage = histories.get(goal, TimelineHistory(goal))
    end = max((run.details.end_lsn for run in runs), default=reach.base.details.stop_lsn)
    stages = _stages(reach, runs, lineage, end)
    history_stages = tuple(
        Stage(run.details.history, run, run.details.history) for run in reach.runs if run.details.history is not None
    )
    plain_wal = len(stages) * reach.base.details.server.wal_segment_size
    fetched = reach.base.manifest.stored_size + sum(
        stage.run.manifest.stream(stage.stream).stored_size for stage in stages
    )
    return RestorePlan(
        moment,
        reach.base,
        reach,
        stages,
        history_stages,
        goal,
        _target(moment, reach, bool(runs)),
        end,
        fetched,
        (reach.base.details.plain_total + plain_wal) * ROOM_FACTOR_PERCENT // 100 + plain_wal,
    )


def _runs_until(moment: Moment, reach: Reach) -> list[WalRun]:
    """The runs whose WAL is needed: those up to the first that covers the moment."""
    runs: list[WalRun] = []
    if isinstance(moment, AtTime) and moment.time <= reach.earliest:
        return runs
    for run in reach.runs:
        runs.append(run)
        if isinstance(moment, AtTime) and run.details.covered_until >= moment.time:
            break
        if isinstance(moment, AtLsn) and run.details.end_lsn > moment.lsn:
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
    return tuple(stages)


def _find(segment: SegmentName, held: Mapping[str, Stage], lineage: TimelineHistory) -> Stage | None:
    if (whole := held.get(str(segment))) is not None:
        return whole
    # The last piece of a timeline serves only where recovery follows that very timeline to its end.
    if segment.timeline == lineage.timeline and (piece := held.get(f"{segment}.partial")) is not None:
        return Stage(str(segment), piece.run, piece.stream)
    return None


def _target(moment: Moment, reach: Reach, has_wal: bool) -> dict[str, str]:
    if isinstance(moment, AtTime) and moment.time > reach.earliest:
        return {"recovery_target_time": moment.time.astimezone(UTC).isoformat(sep=" ")}
    if isinstance(moment, AtLsn):
        return {"recovery_target_lsn": str(moment.lsn)}
    if isinstance(moment, AtName):
        return {"recovery_target_name": moment.name}
    if not has_wal or isinstance(moment, AtTime):
        return {"recovery_target": "immediate"}
    return {}


def _to_recovery_point(
    moment: AtRecoveryPoint,
    bases: Sequence[Base],
    runs: Mapping[int, Sequence[WalRun]],
    histories: Mapping[int, TimelineHistory],
    base_id: str | None,
    timeline: int | None,
) -> RestorePlan:
    for base in bases:
        if base.manifest.recovery_point == moment.id:
            alone = Reach(
                base, base.details.stopped, base.details.stopped, base.details.stop_lsn, base.details.timeline, ()
            )
            return _plan(moment, alone, histories, timeline)
    for row in runs.values():
        for run in row:
            if run.manifest.recovery_point == moment.id:
                return plan_restore(
                    AtTime(run.details.covered_until), bases, runs, histories, base_id=base_id, timeline=timeline
                )
    raise MomentUnreachable(
        f"There is no good recovery point {moment.id} on this target.",
        "`lifeboat list` shows what there is, and marks what is damaged.",
    )
