"""Proofs that were due and are not there: a pure comparison of a policy's schedules with the records of what was done.

A due time has its record when one of its kind was begun from then on and before the next due time, whoever began it
and however it ended. The schedules are today's: a policy that was changed meanwhile is judged as if it always said so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from lifeboat.policy.cron import next_run
from lifeboat.policy.model import Policy
from lifeboat.recovery.evidence import Record, RecordKind


@dataclass(frozen=True)
class MissedRun:
    """A due time without a record.

    Attributes:
        kind: of what was due.
        due: when, in UTC.
        following: the next due time, in UTC: a record begun before it would have been this one's.
        may_come: whether that time has not come yet: it is late, or under way, and not missed for good.
    """

    kind: RecordKind
    due: datetime
    following: datetime
    may_come: bool


def scheduled(policy: Policy) -> dict[RecordKind, str]:
    """The cron lines of what a policy wants proved regularly."""
    wanted: dict[RecordKind, str] = {}
    if policy.tests is not None:
        wanted["restore_test"] = policy.tests.schedule
    if policy.drills is not None:
        wanted["drill"] = policy.drills.schedule
    return wanted


def due_times(schedule: str, zone: tzinfo, since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The times at which a schedule is due between two moments, both included, each with the due time after it."""
    # Due times are whole minutes: a second before the first whole second is before all of them, and after no other.
    due = next_run(schedule, zone, since.replace(microsecond=0) - timedelta(seconds=1))
    while due <= until:
        following = next_run(schedule, zone, due)
        if due >= since:
            yield due, following
        due = following


def read_until(policy: Policy, *, since: datetime, until: datetime, now: datetime) -> datetime:
    """Until when records may have been begun that belong to due times of a period; never later than ``now``."""
    latest = end = min(until, now)
    for schedule in scheduled(policy).values():
        for _, following in due_times(schedule, policy.zone, since, end):
            latest = max(latest, following)
    return min(latest, now)


def missed_runs(
    policy: Policy, records: Iterable[Record], *, since: datetime, until: datetime, now: datetime
) -> list[MissedRun]:
    """What was due in a period and has no record, in order of time.

    Args:
        records: all that were begun from ``since`` on and up to :func:`read_until`; others do no harm.
        since, until: the period, both included; what is due after ``now`` is not missed.
    """
    records = list(records)
    missed: list[MissedRun] = []
    for kind, schedule in scheduled(policy).items():
        begun = sorted(record.begun for record in records if record.kind == kind)
        for due, following in due_times(schedule, policy.zone, since, min(until, now)):
            place = bisect_left(begun, due)
            if place == len(begun) or begun[place] >= following:
                missed.append(MissedRun(kind, due, following, may_come=now < following))
    return sorted(missed, key=lambda run: (run.due, run.kind))
