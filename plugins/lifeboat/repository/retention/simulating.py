"""What would be kept at each month's end: the schedules and the cleanup walked through day by day. Pure functions.

The plan of each day is the one that the cleanup itself makes. What would be stopped by its guard is told, and carried
out nevertheless, as if somebody had let it go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo

from lifeboat.policy.cron import moment_of, next_run
from lifeboat.repository.retention.decisions import Action, Decision
from lifeboat.repository.retention.foreseeing import Makings, foresee
from lifeboat.repository.retention.guarding import too_many
from lifeboat.repository.retention.planning import plan_source
from lifeboat.repository.retention.points import HeldPoint, Role, TargetState
from lifeboat.repository.retention.rules import Cutoffs, SourceRules

_DAY = timedelta(days=1)
_YEAR = timedelta(days=365.25)


@dataclass(frozen=True)
class Sizes:
    """Stored bytes.

    Attributes:
        of_kind: of one recovery point of each kind today; of WAL, of a day of it.
        growth: by how much they grow in a year, as a share: 0.2 is a fifth.
    """

    of_kind: Mapping[str, int]
    growth: float = 0.0

    def at(self, kind: str, later: timedelta) -> int:
        """The size so much later than today."""
        grown: float = self.of_kind[kind] * (1 + self.growth) ** (later / _YEAR)
        return round(grown)


@dataclass(frozen=True)
class Stored:
    """What one target holds.

    Attributes:
        tiers: how many recovery points are inside the retention of each tier there; one that counts for several is
            counted in each. Of WAL, how many days.
        besides: how many are kept by another rule alone: as the newest, for the window, for a chain.
        kept: how many are kept, each counted once.
        hidden: how many are deleted, and can be taken back.
        kept_bytes: the size of what is kept.
        hidden_bytes: of what is hidden: it takes its room still.
    """

    tiers: Mapping[str, int]
    besides: int
    kept: int
    hidden: int
    kept_bytes: int
    hidden_bytes: int

    @property
    def all_bytes(self) -> int:
        """What has to be paid for."""
        return self.kept_bytes + self.hidden_bytes


def sum_of(several: Sequence[Stored]) -> Stored:
    """What several sources have on one target."""
    tiers: Counter[str] = Counter()
    for one in several:
        tiers.update(one.tiers)
    return Stored(
        dict(tiers),
        sum(one.besides for one in several),
        sum(one.kept for one in several),
        sum(one.hidden for one in several),
        sum(one.kept_bytes for one in several),
        sum(one.hidden_bytes for one in several),
    )


@dataclass(frozen=True)
class MonthEnd:
    """All targets at the end of a month.

    Attributes:
        month: its first day.
        at: its end.
        targets: by name.
    """

    month: date
    at: datetime
    targets: Mapping[str, Stored]


@dataclass(frozen=True)
class Stop:
    """A tier on a target of which the guard would let no more go.

    Attributes:
        first: the first cleanup that it would stop.
        going: how many would go then.
        there: of how many.
        times: how many cleanups it would stop in all.
    """

    target: str
    tier: str
    first: datetime
    going: int
    there: int
    times: int = 1


@dataclass(frozen=True)
class Simulation:
    """How it went.

    Attributes:
        ends: each month's end, in order.
        stops: what the guard would have stopped, the first one first.
        last: what the targets hold at the end of the last month.
        cleaned: when the last cleanup was.
    """

    ends: tuple[MonthEnd, ...]
    stops: tuple[Stop, ...]
    last: tuple[TargetState, ...]
    cleaned: datetime | None


def month_ends(start: datetime, months: int, zone: tzinfo) -> Iterator[tuple[date, datetime]]:
    """The months from the one on that ``start`` lies in, each with its end."""
    first = start.astimezone(zone).date().replace(day=1)
    for _ in range(months):
        following = (first + 31 * _DAY).replace(day=1)
        yield first, moment_of(datetime.combine(following, time()), zone)
        first = following


def simulate(
    makings: Makings,
    rules: SourceRules,
    sizes: Sizes,
    cleanup: str,
    start: datetime,
    months: int,
    *,
    passed: Callable[[int], None] = lambda _months: None,
) -> Simulation:
    """Begin with empty targets, make what the schedules make, and clean up as the policy says.

    Args:
        cleanup: the cleanup's schedule.
        passed: told of each month that is done; may raise to stop.
    """
    ends = list(month_ends(start, months, rules.zone))
    walk = _Walk(makings, rules, sizes, start)
    coming = foresee(makings, start, ends[-1][1])
    made = next(coming, None)
    cleaning = next_run(cleanup, rules.zone, start)
    found = []
    for month, end in ends:
        while True:
            until = min(cleaning, end)
            while made is not None and made.moment <= until:
                walk.add(made)
                made = next(coming, None)
            if cleaning > end:
                break
            walk.clean(cleaning)
            cleaning = next_run(cleanup, rules.zone, cleaning)
        found.append(MonthEnd(month, end, walk.stored()))
        passed(1)
    return Simulation(tuple(found), tuple(walk.stops.values()), walk.states(), walk.cleaned)


class _Walk:
    """The targets as they are at one moment."""

    def __init__(self, makings: Makings, rules: SourceRules, sizes: Sizes, start: datetime) -> None:
        self.stops: dict[tuple[str, str], Stop] = {}
        self.cleaned: datetime | None = None
        self._rules = rules
        self._sizes = sizes
        self._start = start
        self._on: dict[str, dict[str, HeldPoint]] = {target: {} for target in rules.targets}
        self._bytes: dict[str, int] = {}
        logs = [kind for kind in makings.kinds_made() if makings.roles[kind] is Role.LOG]
        self._runs_a_day = {kind: makings.runs_a_day(kind, start) for kind in logs}

    def states(self) -> tuple[TargetState, ...]:
        """For a plan."""
        return tuple(TargetState(target, list(points.values())) for target, points in self._on.items())

    def add(self, point: HeldPoint) -> None:
        """A copy on every target."""
        size = self._sizes.at(point.kind, point.moment - self._start)
        if point.role is Role.LOG:
            # The first day may be a part of one.
            size = round(size * ((point.moment - point.begun) / _DAY))
        self._bytes[point.recovery_point] = size
        for points in self._on.values():
            points[point.recovery_point] = point

    def clean(self, now: datetime) -> None:
        """Hide what goes; then plan again, and remove what was hidden long enough, as a cleanup does."""
        self.cleaned = now
        decisions = plan_source(self.states(), self._rules, now)
        self._watch(decisions, now)
        for one in decisions:
            if one.action is Action.GOES:
                self._on[one.target][one.point.recovery_point] = replace(one.point, deleted=now)
            elif one.action is Action.RETURNS:
                self._on[one.target][one.point.recovery_point] = replace(one.point, deleted=None)
        if self._any_due(now):
            for one in plan_source(self.states(), self._rules, now):
                if one.action is Action.PURGED:
                    del self._on[one.target][one.point.recovery_point]

    def _any_due(self, now: datetime) -> bool:
        """Whether anything was hidden long enough: else there is nothing to remove, and no plan to make for it."""
        return any(
            point.deleted is not None and point.deleted + self._rules.targets[target].undelete <= now
            for target, points in self._on.items()
            for point in points.values()
        )

    def _watch(self, decisions: Sequence[Decision], now: datetime) -> None:
        for one in too_many(decisions, self._rules, lambda point: self._runs_a_day.get(point.kind, 1)):
            before = self.stops.get((one.target, one.tier))
            self.stops[one.target, one.tier] = (
                Stop(one.target, one.tier, now, one.going, one.there)
                if before is None
                else replace(before, times=before.times + 1)
            )

    def stored(self) -> dict[str, Stored]:
        """What each target holds, counted by the retention that the last cleanup went by."""
        return {target: self._stored(target, points.values()) for target, points in self._on.items()}

    def _stored(self, target: str, points: Iterable[HeldPoint]) -> Stored:
        cutoffs = Cutoffs.of(self._rules, target, self.cleaned or self._start)
        tiers: Counter[str] = Counter()
        besides = kept = hidden = kept_bytes = hidden_bytes = 0
        for point in points:
            size = self._bytes[point.recovery_point]
            if point.deleted is not None:
                hidden, hidden_bytes = hidden + 1, hidden_bytes + size
                continue
            kept, kept_bytes = kept + 1, kept_bytes + size
            inside = [tier for tier in point.tiers if point.moment >= cutoffs.of_tier(tier)]
            tiers.update(inside)
            besides += not inside
        return Stored(
            {tier: tiers[tier] for tier in self._rules.tiers}, besides, kept, hidden, kept_bytes, hidden_bytes
        )
