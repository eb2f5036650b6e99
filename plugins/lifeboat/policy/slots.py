"""Slots: the past moment that a run of a tier stands for, and until when another one stands for the same run.

A past moment can be made of physical backups and WAL where a tier reads the server's tables. Physical backups, WAL and
whatever is no database are what they were when they were read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from lifeboat.policy.cron import next_run
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.sources import SourcePolicy

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Slot:
    """A place in a tier's history.

    Attributes:
        moment: what a recovery point in it stands for, in UTC.
        until: the moment from which on a recovery point belongs to the next slot.
        day: the day of the moment, on the clock of the policy's zone.
    """

    moment: datetime
    until: datetime
    day: date

    def holds(self, moment: datetime) -> bool:
        """Whether a recovery point that stands for ``moment`` belongs to this slot."""
        return self.moment <= moment < self.until


def is_rebuildable(source: SourcePolicy, tier: Tier) -> bool:
    """Whether a tier's recovery points can be made for moments that have passed: archives and exports can."""
    if not isinstance(source, PostgresSource) or tier not in source.tiers:
        return False
    return tier is Tier.EXPORT or source.method_of(tier) == "logical"


def slot_of(schedule: str | None, zone: tzinfo, moment: datetime) -> Slot:
    """The slot that begins at a moment.

    Where the schedule has a run at that very moment, the slot lasts until its next run: whatever was read in between
    was read for this one. Any other moment is one that a person chose: nothing but the same moment takes its place.

    Args:
        schedule: the tier's; ``None`` where it has none.
        zone: the policy's.
    """
    begins = moment.astimezone(UTC)
    day = begins.astimezone(zone).date()
    if schedule is not None and next_run(schedule, zone, begins - _INSTANT) == begins:
        return Slot(begins, next_run(schedule, zone, begins), day)
    return Slot(begins, begins + _INSTANT, day)
