"""Durations in words: ``15m``, ``4h``, ``30d``, ``1 week``, ``12 months``, ``7 years``, ``1h 30m``.

Seconds to weeks are exact: a day is 24 hours. Months and years are units of the calendar: one month before 31 March is
28 February (or the 29th), at the same time of day in the zone that is asked about.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any, Self

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from lifeboat.policy.problems import Refused

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_MONTHS = {"month": 1, "year": 12}
_SHORT = {
    "s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "hr": "hour", "d": "day", "w": "week",
    "y": "year", "yr": "year",
}  # fmt: skip
_PIECE = re.compile(r"(\d{1,9})\s*([A-Za-z]+)")
_WHOLE = re.compile(r"\d{1,9}\s*[A-Za-z]+(?:\s+\d{1,9}\s*[A-Za-z]+|\d{1,9}\s*[A-Za-z]+)*")
_REMEDY = "Write a whole number and a unit, such as `15m`, `4h`, `30d`, `1 week`, `12 months` or `7 years`."

# The most days that so many months in a row can have, wherever they begin.
_MOST_DAYS = (0, 31, 62, 92, 123, 153, 184, 215, 245, 276, 306, 337)
_LONGEST_MONTHS = 1200
_LONGEST_SECONDS = 36525 * 86400


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time: some months of the calendar and some exact seconds.

    Attributes:
        months: units of the calendar; a year is 12 of them.
        seconds: exact seconds; a day is 86,400, a week seven days.
    """

    months: int = 0
    seconds: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.months <= _LONGEST_MONTHS and 0 <= self.seconds <= _LONGEST_SECONDS):
            raise Refused("A duration can't be negative or longer than a hundred years.", _REMEDY)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a duration in words.

        Raises:
            Refused: (a ``ValueError``) the text is no duration.
        """
        if _WHOLE.fullmatch(text.strip()) is None:
            raise Refused(f"`{text[:60]}` is no duration.", _REMEDY)
        months = seconds = 0
        for number, word in _PIECE.findall(text):
            unit = _unit(word)
            months += int(number) * _MONTHS.get(unit, 0)
            seconds += int(number) * _SECONDS.get(unit, 0)
        return cls(months, seconds)

    @classmethod
    def of(cls, length: timedelta) -> Self:
        """The duration of an exact length; a part of a second counts as a whole one."""
        return cls(0, -(-length // timedelta(seconds=1)))

    @property
    def exact(self) -> bool:
        """Whether it has no months: whether it is the same length wherever it begins."""
        return self.months == 0

    @property
    def fixed(self) -> timedelta:
        """The length where it is exact; where it has months, an upper bound of it.

        The bound is the most days that so many months can have, and one day more for changes of the clock:
        :meth:`before` and :meth:`after` never go further than this.
        """
        length = timedelta(seconds=self.seconds)
        if self.exact:
            return length
        years, months = divmod(self.months, 12)
        leap_days = years // 4 + 1 if years else 0
        return length + timedelta(days=365 * years + leap_days + _MOST_DAYS[months] + 1)

    def before(self, moment: datetime, zone: tzinfo = UTC) -> datetime:
        """The moment this long before ``moment``, in UTC; months are counted on the calendar of ``zone``."""
        return _shift(moment, -self.months, -self.seconds, zone)

    def after(self, moment: datetime, zone: tzinfo = UTC) -> datetime:
        """The moment this long after ``moment``, in UTC; months are counted on the calendar of ``zone``."""
        return _shift(moment, self.months, self.seconds, zone)

    def __bool__(self) -> bool:
        return bool(self.months or self.seconds)

    def __str__(self) -> str:
        pieces = []
        years, months = divmod(self.months, 12)
        if years and months:
            pieces.append(_words(self.months, "month"))
        else:
            pieces += [_words(count, unit) for count, unit in ((years, "year"), (months, "month")) if count]
        rest = self.seconds
        for unit in ("day", "hour", "minute", "second"):
            count, rest = divmod(rest, _SECONDS[unit])
            if count:
                pieces.append(f"{count}{unit[0]}")
        return " ".join(pieces) or "0s"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _validated, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": r"^\s*\d{1,9}\s*[A-Za-z]+(\s*\d{1,9}\s*[A-Za-z]+)*\s*$",
            "examples": ["15m", "4h", "30d", "1 week", "12 months", "7 years"],
        }


def _validated(value: object) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, str):
        return Duration.parse(value)
    raise Refused("A duration needs its unit.", _REMEDY)


def _unit(word: str) -> str:
    if word in _SHORT:
        return _SHORT[word]
    # A capital M would be read as minutes by one person and as months by the next.
    name = word.lower() if len(word) > 1 else word
    name = name.removesuffix("s")
    name = _SHORT.get(name, name) if len(name) > 1 else name
    if name not in _SECONDS and name not in _MONTHS:
        raise Refused(f"`{word[:20]}` is no unit of time.", _REMEDY)
    return name


def _words(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def _shift(moment: datetime, months: int, seconds: int, zone: tzinfo) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("A moment without a time zone was given; every moment in Lifeboat has one.")
    if months:
        local = moment.astimezone(zone)
        year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
        day = min(local.day, calendar.monthrange(year, month + 1)[1])
        moment = local.replace(year=year, month=month + 1, day=day)
    return moment.astimezone(UTC) + timedelta(seconds=seconds)


def _not_empty(value: Duration) -> Duration:
    if not value:
        raise Refused("A duration of nothing is not possible here.", _REMEDY)
    return value


def _exact(value: Duration) -> Duration:
    if not value.exact:
        raise Refused(
            "Months and years differ in length, and this must be exact.", "Write it in days, hours or minutes."
        )
    return value


Span = Annotated[Duration, AfterValidator(_not_empty)]
"""A duration longer than nothing."""

ExactDuration = Annotated[Duration, AfterValidator(_exact)]
"""A duration without months or years; may be nothing."""

ExactSpan = Annotated[Duration, AfterValidator(_not_empty), AfterValidator(_exact)]
"""A duration without months or years, longer than nothing."""
