"""Whether a recovery point is to be made for a past moment: what stands there, what is kept, what can be reached."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.backup.steps import kept_since
from lifeboat.policy.naming import Tier
from lifeboat.policy.slots import Slot
from lifeboat.postgres.rebuild_planning import nearest, out_of_time, standing_in, unreachable
from lifeboat.repository.manifest import Manifest, Rebuilt
from lifeboat.repository.retention.points import Role
from lifeboat.repository.retention.reading import held_point
from tests.repository.world import World

HOUR = timedelta(hours=1)
BEGINS = datetime(2026, 11, 22, 1, tzinfo=UTC)
WEEK = Slot(BEGINS, BEGINS + timedelta(days=7), date(2026, 11, 22))
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
RANGES = st.lists(st.tuples(MOMENTS, MOMENTS).map(lambda pair: (min(pair), max(pair))), max_size=5)


def standing(point: Manifest, due: date | None = None, **values: Any) -> bool:
    made = point.model_copy(update={"tiers": ("weekly",), "state": "good", **values})
    return standing_in(WEEK, Tier.WEEKLY, [made], lambda _: due) is not None


def test_what_was_read_between_a_run_and_the_next_stands_for_that_run(world: World) -> None:
    point = world.point().manifest
    assert standing(point, moment=BEGINS)
    assert standing(point, moment=WEEK.until - timedelta(seconds=1))
    assert not standing(point, moment=WEEK.until)
    assert not standing(point, moment=BEGINS - timedelta(seconds=1))


def test_what_was_made_for_the_same_day_by_another_tier_s_run_stands_for_it(world: World) -> None:
    point = world.point().manifest
    early = {"moment": BEGINS - HOUR, "tiers": ("monthly", "weekly")}
    assert standing(point, due=WEEK.day, **early)
    assert not standing(point, due=WEEK.day - timedelta(days=1), **early)


def test_what_is_damaged_or_of_another_tier_stands_for_nothing(world: World) -> None:
    point = world.point().manifest
    assert not standing(point, moment=BEGINS, state="damaged")
    assert not standing(point, moment=BEGINS, tiers=("monthly",))
    assert not standing(point, due=WEEK.day, moment=BEGINS, tiers=())


@pytest.mark.parametrize(
    ("now", "ends", "says"),
    [
        (BEGINS - HOUR, BEGINS + HOUR, "has not come yet"),
        (BEGINS + HOUR, BEGINS + HOUR, "which has passed"),
        (BEGINS, BEGINS + HOUR, ""),
    ],
)
def test_nothing_stands_for_the_future_or_for_what_is_not_kept_any_more(
    now: datetime, ends: datetime, says: str
) -> None:
    told = out_of_time(BEGINS, Tier.WEEKLY, now=now, ends=ends)
    assert says in told
    assert bool(says) == bool(told)


@given(RANGES, MOMENTS)
def test_the_nearest_moment_lies_in_a_range_and_none_is_nearer(
    ranges: list[tuple[datetime, datetime]], moment: datetime
) -> None:
    found = nearest(moment, ranges)
    assert (found is None) == (not ranges)
    if found is not None:
        assert any(first <= found <= last for first, last in ranges)
        assert all(
            abs(found - moment) <= abs(end - moment) for first, last in ranges for end in (first, last)
        )  # fmt: skip
        if any(first <= moment <= last for first, last in ranges):
            assert found == moment


def test_where_nothing_can_be_reached_that_is_said() -> None:
    what, remedy = unreachable(BEGINS, [])
    assert what == "2026-11-22 01:00:00 UTC can't be brought back from what was kept."
    assert remedy == "Reachable: no moment by its time."


def test_retention_and_locks_go_by_the_moment_of_what_was_rebuilt(world: World) -> None:
    copy = world.point()
    rebuilt = Rebuilt(base="20261122T020000Z-full-7f3a", target="primary", timeline=1, wal_until=None)
    past = copy.manifest.model_copy(update={"moment": BEGINS - HOUR, "rebuilt": rebuilt})
    held = held_point(replace(copy, manifest=past), Role.ALONE)
    assert (held.begun, held.moment, past.placed) == (BEGINS - HOUR, BEGINS - HOUR, BEGINS - HOUR)
    assert kept_since(world.repository(), past) == BEGINS - HOUR
    assert kept_since(world.repository(), copy.manifest) == world.clock()
