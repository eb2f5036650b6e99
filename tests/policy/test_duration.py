from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.policy.duration import Duration
from lifeboat.policy.problems import Refused

MONTHS = st.integers(0, 1200)
SECONDS = st.integers(0, 36525 * 86400)
DURATIONS = st.builds(Duration, MONTHS, SECONDS)
MOMENTS = st.integers(0, 300 * 365 * 86400).map(
    lambda seconds: datetime(2101, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)
ZONES = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]).map(
    ZoneInfo
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15m", Duration(seconds=900)),
        ("15 minutes", Duration(seconds=900)),
        ("1 min", Duration(seconds=60)),
        ("90s", Duration(seconds=90)),
        ("4h", Duration(seconds=14400)),
        ("1 Hour", Duration(seconds=3600)),
        ("30d", Duration(seconds=30 * 86400)),
        ("1 week", Duration(seconds=7 * 86400)),
        ("2w", Duration(seconds=14 * 86400)),
        ("12 months", Duration(months=12)),
        ("1 month", Duration(months=1)),
        ("7 years", Duration(months=84)),
        ("7y", Duration(months=84)),
        ("1h 30m", Duration(seconds=5400)),
        ("1h30m", Duration(seconds=5400)),
        ("1 year 6 months", Duration(months=18)),
        (" 0s ", Duration()),
    ],
)
def test_durations_are_read_in_words(text: str, expected: Duration) -> None:
    assert Duration.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "15",
        "m",
        "1M",
        "1.5h",
        "-1h",
        "1 fortnight",
        "4 h,",
        "h4",
        "1e3s",
        "101 years",
        "999999999d",
        "4hh",
        "٤h ago",
    ],
)
def test_what_is_no_duration_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(Refused) as caught:
        Duration.parse(text)
    assert "`15m`" in caught.value.remedy


@given(DURATIONS)
def test_a_duration_written_out_reads_as_itself(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration


@given(DURATIONS, MOMENTS, ZONES)
def test_fixed_is_never_less_than_what_the_calendar_takes(duration: Duration, moment: datetime, zone: ZoneInfo) -> None:
    assert moment - duration.before(moment, zone) <= duration.fixed
    assert duration.after(moment, zone) - moment <= duration.fixed


@given(SECONDS, MOMENTS, ZONES)
def test_exact_durations_are_exact_in_every_zone(seconds: int, moment: datetime, zone: ZoneInfo) -> None:
    duration = Duration(seconds=seconds)
    assert duration.exact
    assert moment - duration.before(moment, zone) == duration.fixed == timedelta(seconds=seconds)


@given(DURATIONS, MOMENTS, MOMENTS)
def test_a_later_moment_never_has_an_earlier_before(duration: Duration, one: datetime, other: datetime) -> None:
    early, late = sorted((one, other))
    assert duration.before(early) <= duration.before(late)


@given(MONTHS, MOMENTS)
def test_months_keep_the_day_or_end_at_the_end_of_the_month(months: int, moment: datetime) -> None:
    before = Duration(months=months).before(moment)
    assert before.time() == moment.time()
    assert before.day == moment.day or (before.day < moment.day and (before + timedelta(days=1)).day == 1)


def test_a_month_before_the_31st_of_march_is_the_end_of_february() -> None:
    month = Duration.parse("1 month")
    assert month.before(datetime(2026, 3, 31, 2, tzinfo=UTC)) == datetime(2026, 2, 28, 2, tzinfo=UTC)
    assert month.before(datetime(2028, 3, 31, 2, tzinfo=UTC)) == datetime(2028, 2, 29, 2, tzinfo=UTC)


def test_months_are_not_thirty_days() -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    assert Duration.parse("12 months").before(moment) == datetime(2025, 11, 22, tzinfo=UTC)
    assert Duration.parse("360d").before(moment) == datetime(2025, 11, 27, tzinfo=UTC)


def test_months_keep_the_time_of_day_of_the_zone() -> None:
    paris = ZoneInfo("Europe/Paris")
    winter = datetime(2026, 11, 22, 2, tzinfo=paris)
    summer = Duration.parse("4 months").before(winter, paris)
    assert summer.astimezone(paris) == datetime(2026, 7, 22, 2, tzinfo=paris)
    assert summer.tzinfo is UTC


def test_a_moment_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        Duration.parse("1d").before(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake is the point


def test_a_part_of_a_second_counts_as_a_whole_one() -> None:
    assert Duration.of(timedelta(seconds=1.2)) == Duration(seconds=2)
