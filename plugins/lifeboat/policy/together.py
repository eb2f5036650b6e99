"""Long tiers that are due on one day: one recovery point carries them all, and the longest retention counts.

On the first Sunday of a month a weekly and a monthly backup are due, and would read and keep the same data twice.
Whoever runs first makes the backup for all of them; the others find it. So no tier depends on another one's run: a DAG
that failed, or was paused, leaves the next one to make the backup.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, tzinfo

from croniter import croniter

from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.sources import SourcePolicy
from lifeboat.policy.tiers import TierPolicy

LONG_TIERS = (Tier.WEEKLY, Tier.MONTHLY, Tier.YEARLY)
"""The tiers that one recovery point may carry together, the shortest first."""


def is_due(schedule: str, day: date) -> bool:
    """Whether a schedule has a run on a day of its own clock."""
    begin = datetime.combine(day, time())
    following: datetime = croniter(schedule, begin - timedelta(seconds=1), max_years_between_matches=9).get_next(
        datetime
    )
    return following.date() == day


def carried(source: SourcePolicy, tier: Tier, day: date | None) -> tuple[Tier, ...]:
    """The tiers that a backup made for ``tier`` carries, the shortest first; always ``tier`` itself.

    Args:
        day: the day, on the clock of the policy's zone, on which this run was due; ``None`` for a run that a person
            started: it is made for its own tier alone.
    """
    if day is None or tier not in LONG_TIERS or not isinstance(source, PostgresSource):
        return (tier,)
    method = source.method_of(tier)
    return tuple(
        other
        for other in LONG_TIERS
        if other is tier
        or (other in source.tiers and source.method_of(other) == method and _due(source.tiers[other], day))
    )


def _due(tier: TierPolicy, day: date) -> bool:
    return tier.schedule is not None and is_due(tier.schedule, day)


def longest_kept(tiers: Mapping[Tier, TierPolicy], among: tuple[Tier, ...], moment: datetime, zone: tzinfo) -> Tier:
    """The tier whose retention ends last for something made at ``moment``."""
    return max(among, key=lambda tier: tiers[tier].retention.after(moment, zone))
