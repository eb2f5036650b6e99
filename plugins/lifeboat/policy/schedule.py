"""The worst case of a source's recovery point: how much of the newest work its schedules can lose.

What is written just after a run has begun to read waits for the next run, then for a worker, then until the copy on the
primary target is committed: period + queue + run. The period is the longest one of a year, changes of the clock
included; a run that takes longer than the period pushes the next one back.

A run that follows its source stores what was written again and again: period and queue stand between two runs only.
What is written just after a flush waits for the next one; after a run's last flush it waits until the next run is due,
has a worker, and has flushed for the first time: max(flush, hand-over + queue + start-up) + commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from lifeboat.policy.built import BUILT, Built
from lifeboat.policy.cron import longest_gap, next_run
from lifeboat.policy.naming import Tier
from lifeboat.policy.sources import SourcePolicy
from lifeboat.policy.tiers import TierPolicy

HAND_OVER = timedelta(seconds=10)
"""How long before the next run is due a run that follows begins to end, so that the two don't wait for each other."""
START_UP = timedelta(seconds=20)
"""How long a task takes from getting its worker to the server's first switch for it: Python, imports, connections."""


@dataclass(frozen=True)
class WorstCase:
    """The most that a tier can lose.

    Attributes:
        tier: the tier.
        period: the longest time from the start of one run to the start of the next.
        after: the run that this period follows, in UTC.
        queue: how long a run is expected to wait for a worker.
        run: how long a run is expected to take until its copy is committed; where the run follows, each flush.
        flush: how often a run that follows stores what was written; ``None`` where each run collects once.
    """

    tier: Tier
    period: timedelta
    after: datetime
    queue: timedelta
    run: timedelta
    flush: timedelta | None = None

    @property
    def total(self) -> timedelta:
        """The most that can be lost: period + queue + run; or the longer of a flush and a hand-over, + commit."""
        if self.flush is None:
            return self.period + self.queue + self.run
        return max(self.flush, self.between_runs) + self.run

    @property
    def between_runs(self) -> timedelta:
        """Where runs follow: from the last flush of one to the first of the next."""
        return HAND_OVER + self.queue + START_UP


def stay_of(schedule: str, zone: tzinfo, now: datetime, due: datetime) -> timedelta:
    """For how long a run that follows stays with its source: until shortly before the next run is due.

    Args:
        now: when the run begins to follow.
        due: when it was due itself. A worker's clock that is a little behind the scheduler's must not take the run's
            own time for that of the next.

    Returns:
        Nothing, where the next run is due so soon, or already, that it does the rest.
    """
    return max(timedelta(), next_run(schedule, zone, max(now, due)) - HAND_OVER - now)


def worst_case_of(tier: Tier, tier_policy: TierPolicy, zone: tzinfo, year_from: date) -> WorstCase | None:
    """What a tier loses at worst in the year from ``year_from`` on; ``None`` when it has no schedule."""
    if tier_policy.schedule is None:
        return None
    gap = longest_gap(tier_policy.schedule, zone, year_from)
    run = tier_policy.expected_run.fixed
    if tier_policy.follows:
        flush = tier_policy.flush_every.fixed
        return WorstCase(tier, gap.length, gap.after, tier_policy.expected_queue.fixed, run, flush)
    return WorstCase(tier, max(gap.length, run), gap.after, tier_policy.expected_queue.fixed, run)


def worst_case(source: SourcePolicy, zone: tzinfo, year_from: date, built: Built = BUILT) -> WorstCase | None:
    """What a source loses at worst: the tier that loses least bounds it; ``None`` when none has a schedule.

    Where a kind of source is built in part, only tiers that run count: a promise of the others is no recovery point.
    """
    runs = [tier for tier in source.tiers if built.has(source, tier)] or list(source.tiers)
    cases = [worst_case_of(tier, source.tiers[tier], zone, year_from) for tier in runs]
    return min((case for case in cases if case is not None), key=lambda case: case.total, default=None)
