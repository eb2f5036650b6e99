"""Until when the store's own locks must reach: a pure function of what a plan keeps on one target, and the rules.

A lock is set when a recovery point is made, for as long as its own tier keeps it. What is made later and needs it may
be kept longer: then its lock must be extended, or whoever may delete could take the ground from under what is locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import zip_longest

from lifeboat.repository.retention.planning import WAL_TIER
from lifeboat.repository.retention.points import HeldPoint, Role
from lifeboat.repository.retention.rules import SourceRules


def lock_ends(kept: Iterable[HeldPoint], rules: SourceRules, now: datetime) -> dict[str, datetime]:
    """For each recovery point that others stand on: the moment that its lock must reach.

    It is the latest end of all that needs it, through however many others. Of a verified base or link that WAL leads on
    from, it is at least the end of the last moment that recovery begins with it for: where the next one begins, or
    where WAL ends. Moments that are past are left out: a lock that has ended protects nothing.

    Args:
        kept: what stays on one target.
        rules: of their source.
        now: what claims to be later counts as made now: a clock that was wrong must lock nothing for years.
    """
    points = {point.recovery_point: point for point in kept}
    ends: dict[str, datetime] = {}

    def reach(names: Iterable[str], end: datetime) -> None:
        asked = list(names)
        while asked:
            name = asked.pop()
            if name in points and (name not in ends or ends[name] < end):
                ends[name] = end
                asked.extend(points[name].needs)

    for point in points.values():
        own = _own_end(point, rules, now) if point.needs else None
        if own is not None:
            reach(point.needs, own)
    if WAL_TIER in rules.tiers:
        for base, led_to in _led_to(points):
            reach([base.recovery_point], rules.tiers[WAL_TIER].after(min(led_to, now), rules.zone))
    return {name: end for name, end in ends.items() if end > now}


def _own_end(point: HeldPoint, rules: SourceRules, now: datetime) -> datetime | None:
    """When the longest of its tiers ends, counted forwards as its own lock was; ``None``: the policy says of none."""
    moment = min(point.moment, now)
    known = [rules.tiers[tier].after(moment, rules.zone) for tier in point.tiers if tier in rules.tiers]
    return max(known, default=None)


def _led_to(points: Mapping[str, HeldPoint]) -> Iterable[tuple[HeldPoint, datetime]]:
    """Each base and link that recovery may begin with, and the last moment for which it is the one."""
    newest = max((point.moment for point in points.values() if point.role is Role.LOG), default=None)
    if newest is None:
        return
    bases = [point for point in points.values() if point.role in (Role.BASE, Role.LINK) and point.good]
    bases = sorted((point for point in bases if _whole(point, points)), key=lambda point: point.begun)
    for base, following in zip_longest(bases, bases[1:]):
        if newest >= base.begun:
            yield base, newest if following is None else min(following.begun, newest)


def _whole(point: HeldPoint, points: Mapping[str, HeldPoint]) -> bool:
    asked, seen = [*point.needs], set(point.needs)
    while asked:
        found = points.get(asked.pop())
        if found is None:
            return False
        asked.extend(name for name in found.needs if name not in seen)
        seen.update(found.needs)
    return True
