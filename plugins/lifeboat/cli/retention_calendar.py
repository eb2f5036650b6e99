"""A retention plan as a calendar: a line for each month, a place for each day, a letter for what stays or goes."""

from __future__ import annotations

import calendar
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from rich.text import Text

from lifeboat.cli.output import out
from lifeboat.repository.retention.decisions import Action, Decision, Reason


@dataclass(frozen=True)
class Sign:
    """How a decision looks on its day."""

    letter: str
    words: str
    style: str


_TIERS = {
    "yearly": Sign("Y", "kept as yearly", "bold magenta"),
    "monthly": Sign("M", "kept as monthly", "bold blue"),
    "weekly": Sign("W", "kept as weekly", "bold cyan"),
    "daily": Sign("D", "kept as daily", "green"),
    "export": Sign("E", "kept as export", "green"),
    "incremental": Sign("I", "kept as incremental", "green"),
    "wal": Sign("L", "kept as wal", "dim green"),
}
_HELD = Sign("H", "held", "bold yellow")
_OTHERWISE = Sign("+", "kept for another reason", "green")
_BACK = Sign("<", "taken back", "bold yellow")
_GOES = Sign("x", "goes", "red")
_REMOVED = Sign("#", "its bytes are removed", "bold red")
_DELETED = Sign("-", "deleted, its bytes are there", "yellow")
_STAYING = (_HELD, *_TIERS.values(), _OTHERWISE)
"""Where more than one copy of a day stays, the first of these is shown."""
_LEAVING = (_GOES, _REMOVED, _DELETED, _BACK)
_ACTIONS = {Action.GOES: _GOES, Action.PURGED: _REMOVED, Action.WAITS: _DELETED, Action.RETURNS: _BACK}
_NOTHING, _PLACE, _LABEL = "·", 2, len("2026-11  ")
_NUMBERED = (1, 5, 10, 15, 20, 25, 30)


def sign_of(decision: Decision) -> Sign:
    """What stands on the calendar for one copy."""
    if decision.action is not Action.STAYS:
        return _ACTIONS[decision.action]
    if decision.reason is Reason.TIER:
        return _TIERS.get(decision.about, _OTHERWISE)
    return _HELD if decision.reason is Reason.HOLD else _OTHERWISE


def show_calendar(title: str, decisions: Sequence[Decision], zone: tzinfo) -> None:
    """Print the decisions about one target's copies, and how many there are of each sign."""
    console = out()
    console.print(Text(title, style="bold"))
    for line in calendar_lines(decisions, zone):
        console.print(line, soft_wrap=True)
    counts = Counter(sign_of(one) for one in decisions)
    for sign in (*_STAYING, *_LEAVING):
        if counts[sign]:
            console.print(Text.assemble("  ", (sign.letter, sign.style), f"  {counts[sign]:>5,} {sign.words}"))


def calendar_lines(decisions: Iterable[Decision], zone: tzinfo) -> list[Text]:
    """The calendar without its title: the numbers of days, then a line for each month from the first to the last.

    A copy stands on the day that its data are of, on the clock of ``zone``. A day has two letters: what stays of it,
    and what does not.
    """
    days: dict[tuple[int, int], dict[int, set[Sign]]] = {}
    for one in decisions:
        day = one.point.moment.astimezone(zone)
        days.setdefault((day.year, day.month), {}).setdefault(day.day, set()).add(sign_of(one))
    if not days:
        return []
    lines = [_numbers()]
    empty: list[tuple[int, int]] = []
    for month in _months(min(days), max(days)):
        if month not in days:
            empty.append(month)
            continue
        lines += _empty(empty)
        empty = []
        lines.append(_line(month, days[month]))
    return lines


def _months(first: tuple[int, int], last: tuple[int, int]) -> Iterable[tuple[int, int]]:
    for number in range(first[0] * 12 + first[1] - 1, last[0] * 12 + last[1]):
        yield number // 12, number % 12 + 1


def _label(month: tuple[int, int]) -> str:
    return f"{month[0]:04d}-{month[1]:02d}"


def _numbers() -> Text:
    places = "".join(f"{day if day in _NUMBERED else '':<{_PLACE}}" for day in range(1, 32))
    return Text(" " * _LABEL + places.rstrip(), style="dim")


def _empty(months: Sequence[tuple[int, int]]) -> list[Text]:
    """Years may lie between two yearly ones: months in a row with nothing in them take one line."""
    if not months:
        return []
    through = "" if len(months) == 1 else f" to {_label(months[-1])}"
    return [Text(f"{_label(months[0])}{through}: nothing", style="dim")]


def _line(month: tuple[int, int], days: dict[int, set[Sign]]) -> Text:
    line = Text(f"{_label(month):<{_LABEL}}")
    for day in range(1, calendar.monthrange(*month)[1] + 1):
        signs = [sign for group in (_STAYING, _LEAVING) if (sign := _first(group, days.get(day, set()))) is not None]
        for sign in signs:
            line.append(sign.letter, sign.style)
        line.append("" if signs else _NOTHING, "dim")
        line.append(" " * (_PLACE - max(1, len(signs))))
    line.rstrip()
    return line


def _first(group: Sequence[Sign], there: set[Sign]) -> Sign | None:
    return next((sign for sign in group if sign in there), None)
