"""What stops a plan: a clock that can't be believed, or more going at once than was agreed upon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lifeboat.repository.retention.decisions import Action, Decision
from lifeboat.repository.retention.points import HeldPoint
from lifeboat.repository.retention.rules import SET_BACK, SourceRules


def stopped_by_clock(latest: datetime | None, now: datetime) -> str:
    """Why nothing may go, in a sentence; empty when the clock can be believed.

    Args:
        latest: the newest moment that anything on any target was written at.
    """
    if latest is None or now >= latest - SET_BACK:
        return ""
    return (
        f"It is {now:%Y-%m-%d %H:%M:%S} UTC here, and something was written at {latest:%Y-%m-%d %H:%M:%S} UTC: one of "
        "the two clocks is wrong. Nothing is deleted until that is known: look at NTP here and there."
    )


LONGEST_SILENCE = timedelta(days=35)
"""Longer than a month: the rarest schedule but the yearly one."""


def stopped_by_silence(latest: datetime | None, now: datetime) -> str:
    """Why nothing may go where nothing was written for so long; empty where something was.

    A clock that jumped ahead looks like that, and so do backups that fail: either way what is old is what there is.
    """
    if latest is None or now - latest <= LONGEST_SILENCE:
        return ""
    return (
        f"It is {now:%Y-%m-%d %H:%M} UTC here, and the newest thing was written at {latest:%Y-%m-%d %H:%M} UTC, more "
        f"than {LONGEST_SILENCE.days} days ago: the clock is ahead, or nothing is backed up any more. Nothing is "
        "deleted until something new is there."
    )


@dataclass(frozen=True)
class TooMany:
    """More of a tier would go from a target at once than was agreed upon.

    Attributes:
        going: so many would go.
        there: of so many.
    """

    target: str
    tier: str
    going: int
    there: int


def too_many(
    decisions: Sequence[Decision], rules: SourceRules, stands_for: Callable[[HeldPoint], int] = lambda _point: 1
) -> list[TooMany]:
    """Each tier on a target of which more goes than one run may delete.

    Args:
        stands_for: how many recovery points one of the decisions is about: a simulation plans a day's WAL as one.
    """
    there: Counter[tuple[str, str]] = Counter()
    going: Counter[tuple[str, str]] = Counter()
    for decision in decisions:
        if decision.point.deleted is not None:
            continue
        count = stands_for(decision.point)
        for group in _groups(decision):
            there[group] += count
            if decision.action is Action.GOES:
                going[group] += count
    return [
        TooMany(target, tier, count, there[target, tier])
        for (target, tier), count in sorted(going.items())
        if count > rules.most_count and count > rules.most_share * there[target, tier]
    ]


def stopped_by_number(decisions: Sequence[Decision], rules: SourceRules) -> list[str]:
    """Why a source's plan may not be carried out, a sentence for each tier on a target of which too much goes."""
    return [
        f"On target {one.target}, {one.going} of {one.there} recovery points of tier {one.tier} would go: more than "
        f"{rules.most_share:.0%} of them, and more than {rules.most_count}. Look at `lifeboat retention plan`: is a "
        "retention mistyped, or the clock wrong? If it is right, raise `retention.most_deleted` until they have gone."
        for one in too_many(decisions, rules)
    ]


def _groups(decision: Decision) -> Iterable[tuple[str, str]]:
    return ((decision.target, tier) for tier in decision.point.tiers or (decision.point.kind,))
