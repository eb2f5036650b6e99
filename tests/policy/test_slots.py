"""The slots of a tier: which recovery point stands for which run."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.policy.cron import next_run
from lifeboat.policy.slots import slot_of

BERLIN = ZoneInfo("Europe/Berlin")
DAILY = "0 2 * * *"
SCHEDULES = st.sampled_from([DAILY, "*/15 * * * *", "0 1 * * 0", "30 4 1 * *"])
MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(SCHEDULES, MOMENTS)
def test_the_slots_of_a_schedule_follow_each_other_without_a_gap(schedule: str, moment: datetime) -> None:
    begins = next_run(schedule, BERLIN, moment)
    slot = slot_of(schedule, BERLIN, begins)
    assert slot.moment == begins
    assert slot.until == next_run(schedule, BERLIN, begins)
    assert slot_of(schedule, BERLIN, slot.until).moment == slot.until
    assert slot.holds(begins)
    assert slot.holds(slot.until - timedelta(microseconds=1))
    assert not slot.holds(slot.until)
    assert not slot.holds(begins - timedelta(microseconds=1))


@given(MOMENTS)
def test_a_moment_that_a_person_chose_is_a_slot_of_its_own(moment: datetime) -> None:
    slot = slot_of(None, BERLIN, moment)
    assert slot.holds(moment)
    assert not slot.holds(moment + timedelta(microseconds=1))


def test_a_moment_beside_the_schedule_is_one_that_a_person_chose() -> None:
    beside = datetime(2026, 11, 22, 1, 0, 1, tzinfo=UTC)
    assert not slot_of(DAILY, BERLIN, beside).holds(beside + timedelta(seconds=1))


def test_the_day_is_that_of_the_policy_s_zone() -> None:
    assert slot_of(None, BERLIN, datetime(2026, 11, 21, 23, 30, tzinfo=UTC)).day == date(2026, 11, 22)


@pytest.mark.parametrize(
    ("begins", "hours"), [(datetime(2026, 3, 29, 1, tzinfo=UTC), 23), (datetime(2026, 10, 24, 0, tzinfo=UTC), 25)]
)
def test_a_slot_over_a_change_of_the_clock_is_as_long_as_the_day(begins: datetime, hours: int) -> None:
    """In spring there is no two o'clock: that run comes at three. In autumn there are two, and the second is meant."""
    slot = slot_of(DAILY, BERLIN, begins)
    assert slot.until - slot.moment == timedelta(hours=hours)
