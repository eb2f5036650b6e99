"""Planning the retention of a million recovery points: seconds and memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from rich.console import Console

from benchmarks.report import table_of
from lifeboat.policy.duration import Duration
from lifeboat.repository.retention.decisions import Action
from lifeboat.repository.retention.guarding import stopped_by_number
from lifeboat.repository.retention.planning import plan_source
from lifeboat.repository.retention.points import HeldPoint, Role, TargetState
from lifeboat.repository.retention.rules import SourceRules, TargetRules

NOW = datetime(2027, 1, 1, tzinfo=UTC)
TARGETS = ("primary", "offsite", "local")
BOUND_SECONDS = 10
TIERS = {
    "wal": Duration.parse("30d"),
    "incremental": Duration.parse("30d"),
    "daily": Duration.parse("30d"),
    "weekly": Duration.parse("92d"),
    "monthly": Duration.parse("12 months"),
    "yearly": Duration.parse("7 years"),
}


@dataclass(frozen=True)
class Planned:
    """One measurement.

    Attributes:
        points: copies that were decided about, over all targets.
        seconds: that planning and counting took.
        going: copies that go.
        peak_mib: of this process, with the made-up history in it.
    """

    points: int
    seconds: float
    going: int
    peak_mib: float


def measure(points: int = 1_000_000) -> Planned:
    """Make up a history whose WAL follows, and plan it.

    The history is as long as the number of points wants: WAL each minute, an incremental every six hours, a full each
    day, an archive each Sunday that counts as monthly and yearly where it falls so; all on three targets.
    """
    states = [TargetState(target, list(_history(points // len(TARGETS)))) for target in TARGETS]
    rules = SourceRules(
        TIERS,
        {
            "primary": TargetRules(),
            "offsite": TargetRules(),
            "local": TargetRules(Duration.parse("7d"), timedelta()),
        },
    )
    begun = time.perf_counter()
    decisions = plan_source(states, rules, NOW)
    stopped_by_number(decisions, rules)
    seconds = time.perf_counter() - begun
    going = sum(one.action is Action.GOES for one in decisions)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Planned(len(decisions), seconds, going, peak)


def show(console: Console, taken: Sequence[Planned]) -> None:
    """All of it as a table."""
    table = table_of("retention planned", "copies", "seconds", "go", "peak memory")
    for one in taken:
        table.add_row("", f"{one.points:,}", f"{one.seconds:.1f}", f"{one.going:,}", f"{one.peak_mib:,.0f} MiB")
    console.print(table)
    small, large = taken[0], taken[-1]
    growth = large.seconds / small.seconds / (large.points / small.points)
    console.print(f"Wanted for a million: at most {BOUND_SECONDS} s. Growth: {growth:.2f} of linear.")


def _history(count: int) -> Iterator[HeldPoint]:
    minutes = count - count // 288  # what is left is for the other kinds
    start = NOW - timedelta(minutes=minutes)
    full = link = ""
    for minute in range(minutes):
        moment = start + timedelta(minutes=minute)
        stamp = f"{moment:%Y%m%dT%H%M%SZ}"
        if moment.minute == 0 and moment.hour % 6 == 0:
            if moment.hour == 0:
                full = link = f"{stamp}-full-0000"
                yield HeldPoint(full, "full", Role.BASE, ("daily",), moment, moment, good=True)
                if moment.weekday() == 6:
                    tiers = ("weekly", *(["monthly"] if moment.day <= 7 else []))
                    tiers += ("yearly",) if moment.day <= 7 and moment.month == 1 else ()
                    yield HeldPoint(f"{stamp}-logical-0000", "logical", Role.ALONE, tiers, moment, moment, good=True)
            elif link:
                name = f"{stamp}-incremental-0000"
                yield HeldPoint(
                    name, "incremental", Role.LINK, ("incremental",), moment, moment, needs=(link,), good=True
                )
                link = name
        yield HeldPoint(f"{stamp}-wal-0000", "wal", Role.LOG, ("wal",), moment, moment)
