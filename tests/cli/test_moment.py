"""What a person means by a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.cli.moment import time_in
from lifeboat.errors import RestoreError

YEARS = [datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1990, 2100)]
PARIS = ZoneInfo("Europe/Paris")


def test_a_time_without_an_offset_is_on_the_clock_of_the_zone() -> None:
    time, words = time_in("2026-07-01 14:30:00", PARIS)
    assert time == datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
    assert "2026-07-01 14:30:00 on the clock of Europe/Paris, which is 2026-07-01 12:30:00.000000 UTC" in words


@pytest.mark.parametrize("text", ["2026-07-01T14:30:00Z", "2026-07-01 16:30:00+02:00", " 2026-07-01 14:30+00:00 "])
def test_an_offset_is_believed(text: str) -> None:
    assert time_in(text, PARIS)[0] == datetime(2026, 7, 1, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-10-25 02:30:00", "2026-03-29 02:30:00"], ids=["twice", "never"])
def test_a_time_that_came_twice_or_never_is_asked_back(text: str) -> None:
    with pytest.raises(RestoreError, match="twice or never") as caught:
        time_in(text, PARIS)
    assert "+01:00" in caught.value.remedy
    assert "+02:00" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "now", "2026-07-01", "14:30", "2026-13-01 00:00", "01.07.2026 14:30"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RestoreError) as caught:
        time_in(text, PARIS)
    assert "2026-11-22 14:30:00" in caught.value.remedy


@given(st.datetimes(YEARS[0], YEARS[1]), st.integers(-14 * 60, 14 * 60))
def test_every_time_with_an_offset_is_read_to_the_microsecond(naive: datetime, minutes: int) -> None:
    offset = timedelta(minutes=minutes)
    sign, seconds = "-" if offset < timedelta() else "+", abs(offset).total_seconds()
    text = f"{naive.isoformat(sep=' ')}{sign}{int(seconds // 3600):02d}:{int(seconds % 3600 // 60):02d}"
    assert time_in(text, PARIS)[0] == naive.replace(tzinfo=UTC) - offset
