"""What stops a plan: a clock that can't be believed, or more going at once than was agreed upon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from lifeboat.repository.retention.decisions import Action, Decision
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


def stopped_by_number(decisions: Sequence[Decision], rules: SourceRules) -> list[str]:
    """Why a source's plan may not be carried out, a sentence for each tier on a target of which too much goes."""
    there: Counter[tuple[str, str]] = Counter()
    going: Counter[tuple[str, str]] = Counter()
    for decision in decisions:
        if decision.point.deleted is not None:
            continue
        for group in _groups(decision):
            there[group] += 1
            if decision.action is Action.GOES:
                going[group] += 1
    return [
        f"On target {target}, {count} of {there[target, tier]} recovery points of tier {tier} would go: more than "
        f"{rules.most_share:.0%} of them, and more than {rules.most_count}. Look at `lifeboat retention plan`: is a "
        "retention mistyped, or the clock wrong? If it is right, raise `retention.most_deleted` until they have gone."
        for (target, tier), count in sorted(going.items())
        if count > rules.most_count and count > rules.most_share * there[target, tier]
    ]


def _groups(decision: Decision) -> Iterable[tuple[str, str]]:
    return ((decision.target, tier) for tier in decision.point.tiers or (decision.point.kind,))
