"""Made-up histories of one source on several targets, drawn from bytes: quick to make by the ten thousand, and shrunk
by leaving bytes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lifeboat.policy.duration import Duration
from lifeboat.repository.retention.decisions import Action, Decision
from lifeboat.repository.retention.points import HeldPoint, Role, TargetState
from lifeboat.repository.retention.rules import SourceRules, TargetRules

START = datetime(2026, 1, 1, tzinfo=UTC)
TIERS = {
    "wal": Duration.parse("10d"),
    "incremental": Duration.parse("10d"),
    "daily": Duration.parse("7d"),
    "weekly": Duration.parse("30d"),
    "monthly": Duration.parse("3 months"),
    "export": Duration.parse("5d"),
}


@dataclass(frozen=True)
class History:
    """What the targets hold, by which rules, and when somebody looks."""

    states: tuple[TargetState, ...]
    rules: SourceRules
    now: datetime


class _Bytes:
    """Bytes one after the other, then zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)
        self.left = len(data)

    def next(self) -> int:
        self.left -= 1
        return next(self._data, 0)


def history(data: bytes) -> History:
    """The history that some bytes stand for: four of rules, then three of each recovery point."""
    source = _Bytes(data)
    first, second, third, fourth = (source.next() for _ in range(4))
    names = ("primary", "offsite", "local")[: 1 + first % 3]
    rules = SourceRules(
        TIERS,
        {
            name: TargetRules(
                Duration(seconds=86400 * (1 + second % 14)) if name == "local" or second >> place & 0x40 else None,
                timedelta(days=third % 8),
            )
            for place, name in enumerate(names)
        },
        keep_at_least=1 + (first >> 2) % 3,
        minimum_copies=1 + (first >> 4) % 3,
    )
    frozen = {
        name: "It could not be reached" if fourth >> place & 1 and fourth & 8 else ""
        for place, name in enumerate(names)
    }
    now, points = _points(source, names)
    now += timedelta(hours=fourth >> 4) * 24
    states = tuple(TargetState(name, tuple(_on_target(points[name], data[:24], now)), frozen[name]) for name in names)
    return History(states, rules, now)


def _points(source: _Bytes, names: tuple[str, ...]) -> tuple[datetime, dict[str, list[HeldPoint]]]:
    now, base, parent = START, "", ""
    held: dict[str, list[HeldPoint]] = {name: [] for name in names}
    number = 0
    while source.left > 0:
        what, where, how = source.next(), source.next(), source.next()
        now += timedelta(hours=1 + (what >> 3) ** 2 // 16)
        number += 1
        point = _point(number, what & 7, now, parent)
        if point.role is Role.BASE and "daily" in point.tiers:
            base = parent = point.recovery_point
        elif point.role is Role.LINK:
            parent = point.recovery_point
        elif point.role is Role.LOG and how & 0x40:
            parent = base  # the next incremental begins a row of its own
        for place, name in enumerate(names):
            if where >> place & 1:
                continue  # it never came there
            good = not how >> place & 1
            hold = "an audit" if how & 0xF8 == 0xF8 else ""
            held[name].append(replace(point, good=good and point.role is not Role.LOG, hold=hold))
    return now, held


def _point(number: int, what: int, now: datetime, parent: str) -> HeldPoint:
    begun, moment = now - timedelta(minutes=10), now - timedelta(minutes=5)

    def made(kind: str, role: Role, *tiers: str, needs: tuple[str, ...] = ()) -> HeldPoint:
        return HeldPoint(f"{number:04d}-{kind}", kind, role, tiers, begun, moment, needs)

    if what in (0, 1) or (what in (2, 3) and not parent):
        return made("full", Role.BASE, "daily")
    if what in (2, 3):
        return made("incremental", Role.LINK, "incremental", needs=(parent,))
    if what == 4:
        return made("full", Role.BASE, "weekly", "monthly")
    if what == 5:
        return made("export", Role.ALONE, "export") if number % 2 else made("logical", Role.ALONE, "weekly", "monthly")
    return made("wal", Role.LOG, "wal")


def _on_target(points: list[HeldPoint], marks: bytes, now: datetime) -> Iterator[HeldPoint]:
    """Some were deleted before, and some are locked."""
    for number, point in enumerate(points):
        mark = marks[number % len(marks)] if marks else 0
        if mark & 7 == 1:
            yield replace(point, deleted=max(point.moment, now - timedelta(days=(mark >> 3) % 12)))
        elif mark & 7 == 2:
            yield replace(point, locked_until=now + timedelta(days=(mark >> 3) % 8 - 3))
        elif mark & 7 == 3:
            yield replace(point, deleted=now - timedelta(days=20), locked_until=now + timedelta(days=1))
        else:
            yield point


def carried_out(states: tuple[TargetState, ...], decisions: list[Decision], now: datetime) -> tuple[TargetState, ...]:
    """What the targets hold once a plan was carried out."""
    after: dict[str, list[HeldPoint]] = {state.target: [] for state in states}
    for decision in decisions:
        match decision.action:
            case Action.PURGED:
                continue
            case Action.GOES:
                after[decision.target].append(replace(decision.point, deleted=now))
            case Action.RETURNS:
                after[decision.target].append(replace(decision.point, deleted=None))
            case _:
                after[decision.target].append(decision.point)
    return tuple(replace(state, points=tuple(after[state.target])) for state in states)
