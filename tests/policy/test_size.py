from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.policy.problems import Refused
from lifeboat.policy.size import parse_size, size_in_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4 GiB", 4 * 2**30),
        ("512MiB", 512 * 2**20),
        ("2.5 TB", 2_500_000_000_000),
        ("100 kB", 100_000),
        ("1.5 KiB", 1536),
        ("7 B", 7),
    ],
)
def test_sizes_are_read_in_words(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "4", "GiB", "4 gigs", "-1 GiB", "0.1 KiB", "1.5 B", "1,5 GiB", "4 GiB/s"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_size(text)


@given(st.integers(0, 2**60))
def test_a_size_written_out_reads_as_itself(size: int) -> None:
    assert parse_size(size_in_words(size)) == size


def test_sizes_are_written_in_their_largest_whole_unit() -> None:
    assert size_in_words(4 * 2**30) == "4 GiB"
    assert size_in_words(100_000_000) == "100 MB"
    assert size_in_words(1) == "1 B"
