"""The recovery points that a source's schedules will make, and what each builds upon. Pure functions."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from lifeboat.policy.cron import moment_of, next_run
from lifeboat.policy.naming import Tier
from lifeboat.policy.sources import SourcePolicy
from lifeboat.policy.tiers import LONGEST_CHAIN, TierPolicy
from lifeboat.policy.together import LONG_TIERS, carried
from lifeboat.repository.retention.points import HeldPoint, Role

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Makings:
    """What a source's tiers make.

    Attributes:
        source: its tiers and their schedules; those without a schedule make nothing.
        kinds: of each tier that runs, the kinds of recovery points that it makes: an incremental tier a full as well,
            where it has nothing to build upon.
        roles: what each kind is to the others.
        zone: on whose clock the schedules run.
    """

    source: SourcePolicy
    kinds: Mapping[Tier, tuple[str, ...]]
    roles: Mapping[str, Role]
    zone: tzinfo

    def scheduled(self) -> list[tuple[Tier, TierPolicy, str]]:
        """The tiers that run by themselves, with their settings and schedules; not ``change``, whose recovery points
        nobody can foresee: most of its runs make none."""
        tiers = [(tier, self.source.tiers[tier]) for tier in self.kinds if tier is not Tier.CHANGE]
        return [(tier, policy, policy.schedule) for tier, policy in tiers if policy.schedule is not None]

    def by_hand(self) -> list[Tier]:
        """The tiers without a schedule."""
        return [tier for tier in self.kinds if self.source.tiers[tier].schedule is None]

    def kinds_made(self) -> list[str]:
        """The kinds whose sizes have to be known."""
        made = dict.fromkeys(self.kinds[tier][0] for tier, _, _ in self.scheduled())
        forced = {kind for tier, _, _ in self.scheduled() for kind in self.kinds[tier][1:]}
        return [*made, *sorted(forced - made.keys())]

    def fulls_instead(self) -> Makings | None:
        """The same with fulls in place of incrementals; ``None`` where the policy does not allow that."""
        incremental = self.source.tiers.get(Tier.INCREMENTAL)
        if incremental is None or incremental.instead is None or Tier.INCREMENTAL not in self.kinds:
            return None
        return replace(self, kinds={**self.kinds, Tier.INCREMENTAL: (incremental.instead,)})

    def runs_a_day(self, kind: str, day: datetime) -> int:
        """How many recovery points of a kind are made in the 24 hours from ``day`` on; at least one."""
        count = 0
        for tier, policy, schedule in self.scheduled():
            if self.kinds[tier][0] != kind:
                continue
            if policy.follows:
                count += _DAY // policy.flush_every.fixed
                continue
            due = next_run(schedule, self.zone, day)
            while due <= day + _DAY:
                count, due = count + 1, next_run(schedule, self.zone, due)
        return max(1, count)


def foresee(makings: Makings, start: datetime, until: datetime) -> Iterator[HeldPoint]:
    """The recovery points that are made after ``start`` and up to ``until``, in the order of their moments.

    Every run is in time and succeeds at once; every copy is verified. What is read continuously (WAL) is one recovery
    point for each day of the zone, which stands for all of that day's. Long tiers that are due on one day share one
    recovery point, as :func:`~lifeboat.policy.together.carried` says.
    """
    course = _Course(makings)
    queue: list[tuple[datetime, int, Tier, datetime]] = []
    places = {tier: place for place, (tier, _, _) in enumerate(makings.scheduled())}
    schedules = {tier: schedule for tier, _, schedule in makings.scheduled()}

    def put(tier: Tier, after: datetime) -> None:
        due = midnight_after(after, makings.zone) if course.reads_on(tier) else next_run(
            schedules[tier], makings.zone, after
        )  # fmt: skip
        heapq.heappush(queue, (due, places[tier], tier, after))

    for tier in schedules:
        put(tier, start)
    while queue and queue[0][0] <= until:
        due, _, tier, before = heapq.heappop(queue)
        made = course.day_of(tier, before, due) if course.reads_on(tier) else course.run(tier, due)
        if made is not None:
            yield made
        put(tier, due)


def midnight_after(moment: datetime, zone: tzinfo) -> datetime:
    """The end of the day, on a zone's clock, that ``moment`` lies in."""
    return moment_of(datetime.combine(moment.astimezone(zone).date() + _DAY, time()), zone)


class _Course:
    """What was made so far, as far as later ones depend on it."""

    def __init__(self, makings: Makings) -> None:
        self._makings = makings
        self._newest = ""
        self._links = 0
        self._day: date | None = None
        self._of_day: dict[str, set[Tier]] = {}

    def reads_on(self, tier: Tier) -> bool:
        """Whether a tier leads on from others without a gap."""
        return self._makings.roles[self._makings.kinds[tier][0]] is Role.LOG

    def day_of(self, tier: Tier, begun: datetime, ended: datetime) -> HeldPoint:
        kind = self._makings.kinds[tier][0]
        return HeldPoint(_name(ended, kind, tier), kind, Role.LOG, (tier.value,), begun, ended, good=True)

    def run(self, tier: Tier, due: datetime) -> HeldPoint | None:
        """The recovery point of a run; ``None`` where an earlier one of that day carries the tier already."""
        kind, *otherwise = self._makings.kinds[tier]
        role, needs = self._makings.roles[kind], ()
        if role is Role.LINK:
            longest = self._makings.source.tiers[tier].longest_chain or LONGEST_CHAIN
            if self._newest and self._links < longest:
                return self._made(tier, due, kind, (tier,), (self._newest,))
            kind = next(other for other in otherwise if self._makings.roles[other] is Role.BASE)
            return self._made(tier, due, kind, (tier,), needs)
        day = due.astimezone(self._makings.zone).date()
        if day != self._day:
            self._day, self._of_day = day, {}
        if tier in LONG_TIERS and tier in self._of_day.get(kind, ()):
            return None
        tiers = carried(self._makings.source, tier, day)
        if tier in LONG_TIERS:
            self._of_day.setdefault(kind, set()).update(tiers)
        return self._made(tier, due, kind, tiers, needs)

    def _made(self, tier: Tier, due: datetime, kind: str, tiers: tuple[Tier, ...], needs: tuple[str, ...]) -> HeldPoint:
        name, role = _name(due, kind, tier), self._makings.roles[kind]
        if role in (Role.BASE, Role.LINK):
            self._newest, self._links = name, self._links + 1 if needs else 0
        return HeldPoint(name, kind, role, tuple(one.value for one in tiers), due, due, needs, good=True)


def _name(moment: datetime, kind: str, tier: Tier) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{kind}-{tier.value}"
