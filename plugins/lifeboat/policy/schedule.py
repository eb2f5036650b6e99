"""The worst case of a source's recovery point: how much of the newest work its schedules can lose.

What is written just after a run has begun to read waits for the next run, then for a worker, then until the copy on the
primary target is committed: period + queue + run. The period is the longest one of a year, changes of the clock
included; a run that takes longer than the period pushes the next one back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from lifeboat.policy.built import BUILT, Built
from lifeboat.policy.cron import longest_gap
from lifeboat.policy.naming import Tier
from lifeboat.policy.sources import SourcePolicy
from lifeboat.policy.tiers import TierPolicy


@dataclass(frozen=True)
class WorstCase:
    """The most that a tier can lose.

    Attributes:
        tier: the tier.
        period: the longest time from the start of one run to the start of the next.
        after: the run that this period follows, in UTC.
        queue: how long a run is expected to wait for a worker.
        run: how long a run is expected to take until its copy is committed.
    """

    tier: Tier
    period: timedelta
    after: datetime
    queue: timedelta
    run: timedelta

    @property
    def total(self) -> timedelta:
        """The most that can be lost: period + queue + run."""
        return self.period + self.queue + self.run


def worst_case_of(tier: Tier, tier_policy: TierPolicy, zone: tzinfo, year_from: date) -> WorstCase | None:
    """What a tier loses at worst in the year from ``year_from`` on; ``None`` when it has no schedule."""
    if tier_policy.schedule is None:
        return None
    gap = longest_gap(tier_policy.schedule, zone, year_from)
    run = tier_policy.expected_run.fixed
    return WorstCase(tier, max(gap.length, run), gap.after, tier_policy.expected_queue.fixed, run)


def worst_case(source: SourcePolicy, zone: tzinfo, year_from: date, built: Built = BUILT) -> WorstCase | None:
    """What a source loses at worst: the tier that loses least bounds it; ``None`` when none has a schedule.

    Where a kind of source is built in part, only tiers that run count: a promise of the others is no recovery point.
    """
    runs = [tier for tier in source.tiers if built.has(source, tier)] or list(source.tiers)
    cases = [worst_case_of(tier, source.tiers[tier], zone, year_from) for tier in runs]
    return min((case for case in cases if case is not None), key=lambda case: case.total, default=None)
