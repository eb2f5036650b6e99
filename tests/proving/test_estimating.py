"""How long a restore will take: from what was measured, for as many bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lifeboat.recovery.estimating import MOST_LOOKED_AT, estimate
from lifeboat.recovery.evidence import Record
from tests.proving.test_evidence import proof, record


def took(seconds: float, size: int, **more: Any) -> Record:
    return record(proof(milliseconds={"fetch": round(seconds * 1000)}, size=size, **more))


def test_without_a_restore_before_nothing_is_said() -> None:
    assert estimate([], "database", "primary", 100) is None
    assert estimate([took(1, 100, source="files")], "database", "primary", 100) is None


def test_twice_as_much_takes_twice_as_long() -> None:
    found = estimate([took(60, 1000)], "database", "primary", 2000)
    assert found is not None
    assert (found.seconds, found.restores) == (120, 1)


def test_a_restore_that_failed_says_nothing() -> None:
    assert estimate([took(60, 1000, error="The disk is full.")], "database", "primary", 1000) is None


def test_the_same_target_says_more_than_another_one() -> None:
    rows = [took(10, 1000), took(100, 1000, target="offsite")]
    for target, seconds in (("primary", 10), ("offsite", 100), ("local", 55)):
        found = estimate(rows, "database", target, 1000)
        assert found is not None
        assert found.seconds == seconds


def test_only_the_newest_are_looked_at() -> None:
    rows = [took(1000, 1000) for _ in range(20)]
    rows += [took(10, 1000) for _ in range(MOST_LOOKED_AT)]
    found = estimate(rows, "database", "primary", 1000)
    assert found is not None
    assert (found.seconds, found.restores) == (10, MOST_LOOKED_AT)


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**12)), min_size=1, max_size=8), st.integers(1, 10**12)
)
def test_it_lies_between_what_the_slowest_and_the_fastest_of_them_would_take(
    measured: list[tuple[int, int]], size: int
) -> None:
    rows = [took(milliseconds / 1000, plain) for milliseconds, plain in measured]
    found = estimate(rows, "database", "primary", size)
    assert found is not None
    rates = [milliseconds / 1000 / plain for milliseconds, plain in measured[-MOST_LOOKED_AT:]]
    assert min(rates) * size * 0.999 <= found.seconds <= max(rates) * size * 1.001
