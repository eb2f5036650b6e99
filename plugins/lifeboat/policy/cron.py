"""Schedules: cron lines of five fields, the traps in them, and the longest time between two of their runs.

A run's moment is reckoned as Airflow reckons it: the line is laid on the clock of the policy's zone; a time that occurs
twice means its second occurrence, one that is skipped comes as much later as the clock jumped; a line that runs in
every hour goes on by real time instead.
Source: https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/cron.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import pairwise
from typing import Annotated

from croniter import CroniterError, croniter
from pydantic import AfterValidator, WithJsonSchema

from lifeboat.policy.problems import Refused

_EXAMPLES = ["*/5 * * * *", "0 2 * * *", "0 1 * * 0#1", "0 6 L 3,6,9,12 *"]
_FIELDS = "minute, hour, day of the month, month, day of the week"
# Any start would do; a fixed one gives one answer for ever. 29 February is found from it within the nine years.
_LONG_AGO = datetime(2024, 1, 1)  # noqa: DTZ001 - croniter reckons on a clock without zone, as Airflow lets it
_DAY = timedelta(days=1)
_JUMP = timedelta(hours=3)


def checked_cron(line: str) -> str:
    """The line with single spaces between its fields.

    Raises:
        Refused: it is no cron line of five fields, it never fires, or it does not mean what it seems to say.
    """
    fields = line.split()
    if len(fields) != 5:
        raise Refused(
            f"A schedule has five fields ({_FIELDS}); this one has {len(fields)}.",
            "Write them out, also for what `@daily` and its kind stand for: `0 2 * * *`.",
        )
    text = " ".join(fields)
    _refuse_traps(text, fields)
    try:
        croniter(text, _LONG_AGO, max_years_between_matches=9).get_next(datetime)
    except CroniterError as error:
        never = "failed to find next date" in str(error)
        what = "No date ever matches this schedule." if never else f"This is no cron line: {str(error).rstrip('.')}."
        raise Refused(what, f"The fields are {_FIELDS}; an example: `0 2 * * *`.") from error
    return text


def _refuse_traps(text: str, fields: list[str]) -> None:
    _, _, day, month, weekday = fields
    if re.search(r"(?i)(^|[\s,])[rh]([\s,(/]|$)", text):
        raise Refused("`H` and `R` stand for random times, which differ at every reading.", "Write the time itself.")
    if day not in {"*", "?"} and weekday not in {"*", "?"}:
        raise Refused(
            "A day of the month and a day of the week together mean either of them, not both.",
            "For the first Monday write `* * 1#1` in the last three fields, for the last Friday `* * L5`; "
            "otherwise put `*` in one of the two.",
        )
    if day.upper() == "L" and re.fullmatch(r"\*/3", month):
        raise Refused(
            "`L */3` is the last day of January, April, July and October, not of the quarters.",
            "Write `L 3,6,9,12` for the ends of the quarters, or `L 1,4,7,10` if those months are meant.",
        )


Cron = Annotated[
    str,
    AfterValidator(checked_cron),
    WithJsonSchema({"type": "string", "examples": _EXAMPLES, "description": f"A cron line: {_FIELDS}."}),
]


@dataclass(frozen=True)
class Gap:
    """The time between two runs that follow each other.

    Attributes:
        length: how long.
        after: the run it begins with, in UTC.
    """

    length: timedelta
    after: datetime


@lru_cache(maxsize=1024)
def longest_gap(line: str, zone: tzinfo, year_from: date) -> Gap:
    """The longest time between two runs of a schedule in the year that begins on ``year_from``.

    The run before the year and the first after it are looked at too, so that a yearly schedule has its year.
    """
    fields = line.split()
    expanded = croniter.expand(line)[0]
    minutes, hours = _numbers(expanded[0], 60), _numbers(expanded[1], 24)
    times = [time(hour, minute) for hour in hours for minute in minutes]
    days = _days(tuple(fields[2:]), year_from)
    if expanded[1] == ["*"]:
        return _longest_by_clock(days, times, zone)
    return _longest_by_moments(days, times, zone)


def next_run(line: str, zone: tzinfo, after: datetime) -> datetime:
    """The first moment, in UTC, after ``after`` at which a schedule is due."""
    moment = after.astimezone(UTC)
    clock = moment.astimezone(zone).replace(tzinfo=None)
    if croniter.expand(line)[0][1] == ["*"]:
        ahead: datetime = croniter(line, clock, max_years_between_matches=9).get_next(datetime)
        return moment + (ahead - clock)
    # From a little earlier: on the day of a change of the clock, a time that it shows may lie on either side of it.
    times = croniter(line, clock - _JUMP, max_years_between_matches=9)
    while (due := moment_of(times.get_next(datetime), zone)) <= moment:
        pass
    return due


def _numbers(values: list[int | str], count: int) -> list[int]:
    return list(range(count)) if values == ["*"] else sorted({int(value) for value in values})


@lru_cache(maxsize=256)
def _days(fields: tuple[str, ...], year_from: date) -> tuple[date, ...]:
    """The days that match, of a year and a day, with the one before it and the first one after it."""
    if all(field in {"*", "?"} for field in fields):
        return tuple(year_from + number * _DAY for number in range(-1, 368))
    line = " ".join(("0", "0", *fields))
    start = datetime.combine(year_from, time())
    before: datetime = croniter(line, start, max_years_between_matches=9).get_prev(datetime)
    days = [before]
    dates = croniter(line, before, max_years_between_matches=9)
    while days[-1] <= start + 366 * _DAY:
        days.append(dates.get_next(datetime))
    return tuple(day.date() for day in days)


def _longest_by_clock(days: tuple[date, ...], times: list[time], zone: tzinfo) -> Gap:
    within = max(
        ((_at(days[0], late) - _at(days[0], early), early) for early, late in pairwise(times)),
        default=(timedelta(), times[0]),
        key=lambda gap: gap[0],
    )
    longest = Gap(within[0], moment_of(_at(days[0], within[1]), zone))
    for day, following in pairwise(days):
        length = _at(following, times[0]) - _at(day, times[-1])
        if length > longest.length:
            longest = Gap(length, moment_of(_at(day, times[-1]), zone))
    return longest


def _longest_by_moments(days: tuple[date, ...], times: list[time], zone: tzinfo) -> Gap:
    longest = Gap(timedelta(), datetime.min.replace(tzinfo=UTC))
    previous: datetime | None = None
    steady: timedelta | None = None
    for day in days:
        ordinary = _offset(day, zone) == _offset(day + _DAY, zone) and _offset(day - _DAY, zone) == _offset(day, zone)
        # The times of a day without a change of the clock are as far apart as on any other such day.
        whole = not ordinary or steady is None
        moments = sorted({moment_of(_at(day, at), zone) for at in (times if whole else (times[0], times[-1]))})
        if previous is not None and moments[0] - previous > longest.length:
            longest = Gap(moments[0] - previous, previous)
        if whole:
            for early, late in pairwise(moments):
                if late - early > longest.length:
                    longest = Gap(late - early, early)
            steady = timedelta() if ordinary else steady
        previous = moments[-1]
    return longest


def _at(day: date, at: time) -> datetime:
    return datetime.combine(day, at)


def _offset(day: date, zone: tzinfo) -> timedelta | None:
    return datetime.combine(day, time(), zone).utcoffset()


def moment_of(clock: datetime, zone: tzinfo) -> datetime:
    """The moment, in UTC, at which a clock in ``zone`` shows ``clock`` (a time without zone), as Airflow takes it."""
    first = clock.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = clock.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return max(first, second)
