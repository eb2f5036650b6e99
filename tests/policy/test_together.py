"""Long tiers that are due on one day are carried by one recovery point."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.together import LONG_TIERS, carried, is_due, longest_kept

WEEKLY = {"schedule": "0 1 * * 0", "retention": "92d"}
MONTHLY = {"schedule": "0 1 * * 0#1", "retention": "12 months"}
YEARLY = {"schedule": "0 4 1 1 *", "retention": "7 years"}


def source(**tiers: object) -> PostgresSource:
    return PostgresSource.model_validate({"kind": "postgres", "connection": "c", "tiers": tiers})


ALL = source(weekly=WEEKLY, monthly=MONTHLY, yearly=YEARLY)


@pytest.mark.parametrize(
    ("tier", "day", "together"),
    [
        (Tier.WEEKLY, date(2026, 11, 22), (Tier.WEEKLY,)),
        (Tier.WEEKLY, date(2026, 11, 1), (Tier.WEEKLY, Tier.MONTHLY)),
        (Tier.MONTHLY, date(2026, 11, 1), (Tier.WEEKLY, Tier.MONTHLY)),
        (Tier.YEARLY, date(2027, 1, 1), (Tier.YEARLY,)),
        (Tier.WEEKLY, date(2034, 1, 1), LONG_TIERS),  # a Sunday
        (Tier.YEARLY, date(2034, 1, 1), LONG_TIERS),
    ],
)
def test_a_day_on_which_several_fall_together_has_one_archive(
    tier: Tier, day: date, together: tuple[Tier, ...]
) -> None:
    assert carried(ALL, tier, day) == together


def test_what_a_person_starts_is_made_for_its_own_tier_alone() -> None:
    assert carried(ALL, Tier.WEEKLY, None) == (Tier.WEEKLY,)


def test_a_tier_that_is_read_in_another_way_is_left_to_itself() -> None:
    mixed = source(weekly=WEEKLY, monthly=MONTHLY | {"method": "physical"})
    assert carried(mixed, Tier.WEEKLY, date(2026, 11, 1)) == (Tier.WEEKLY,)
    assert carried(mixed, Tier.MONTHLY, date(2026, 11, 1)) == (Tier.MONTHLY,)


def test_a_tier_without_a_schedule_is_never_due() -> None:
    by_hand = source(weekly=WEEKLY, monthly={"retention": "12 months"})
    assert carried(by_hand, Tier.WEEKLY, date(2026, 11, 1)) == (Tier.WEEKLY,)


def test_what_is_kept_long_is_logical_by_default() -> None:
    assert {ALL.method_of(tier) for tier in LONG_TIERS} == {"logical"}
    assert source(weekly=WEEKLY | {"method": "physical"}).method_of(Tier.WEEKLY) == "physical"


def test_the_longest_retention_counts() -> None:
    moment = datetime(2026, 11, 1, 1, tzinfo=UTC)
    assert longest_kept(ALL.tiers, (Tier.WEEKLY, Tier.MONTHLY), moment, UTC) is Tier.MONTHLY
    assert longest_kept(ALL.tiers, LONG_TIERS, moment, UTC) is Tier.YEARLY


@given(st.dates(date(2024, 1, 1), date(2060, 1, 1)), st.sampled_from(LONG_TIERS))
def test_every_tier_that_is_due_is_carried_whoever_runs_first(day: date, first: Tier) -> None:
    due = [tier for tier in LONG_TIERS if is_due(str(ALL.tiers[tier].schedule), day)]
    if first in due:
        assert carried(ALL, first, day) == tuple(due)


@given(st.dates(date(2024, 1, 1), date(2060, 1, 1)))
def test_a_schedule_is_due_on_the_days_that_it_names(day: date) -> None:
    assert is_due("0 1 * * 0", day) == (day.weekday() == 6)
    assert is_due("59 23 L * *", day) == ((day + timedelta(days=1)).day == 1)
    assert is_due("0 0 * * *", day)
