"""How a stream is cut into parts: planning, without a server."""

from __future__ import annotations

import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.targets.s3_parts import (
    LARGEST_OBJECT,
    MIB,
    MOST_PARTS,
    PartBody,
    Parts,
    crc32_text,
    crc32_value,
    part_size,
    parts_in_flight,
)
from tests.targets.bodies import Body


def test_ten_thousand_parts_hold_the_largest_object() -> None:
    sizes = [part_size(number) for number in range(1, MOST_PARTS + 1)]
    assert sum(sizes) >= LARGEST_OBJECT
    assert sizes == sorted(sizes)
    assert sizes[0] == sizes[511] == 8 * MIB  # a volume of 4 GiB
    assert sizes[-1] < 5 * 1024 * MIB  # the largest part that S3 takes


@given(st.integers(1, MOST_PARTS), st.integers(1, 16))
def test_parts_under_way_never_hold_more_than_they_may(number: int, most: int) -> None:
    count = parts_in_flight(number, most)
    assert 1 <= count <= most
    assert count == 1 or count * part_size(number) <= 96 * MIB


@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 16 * MIB, 20 * MIB])
def test_parts_put_together_are_the_body(size: int) -> None:
    parts = Parts(Body(size))
    whole, numbers, last = b"", [], []
    for part in parts:
        whole += bytes(part.view)
        numbers.append(part.number)
        last.append(part.last)
        parts.give_back(part)
    assert whole == Body(size).read()
    assert parts.size == size
    assert parts.crc32 == zlib.crc32(whole)
    assert numbers == list(range(1, len(numbers) + 1))
    assert last == [False] * (len(last) - 1) + [True]
    assert len(numbers) == max(1, -(-size // (8 * MIB)))


def test_a_body_that_gives_little_at_a_time_still_fills_its_parts() -> None:
    class Trickle:
        def __init__(self) -> None:
            self._file = io.BytesIO(Body(9 * MIB).read())

        def read(self, size: int = -1, /) -> bytes:
            return self._file.read(min(size, 100_001))

    assert [len(part.view) for part in Parts(Trickle())] == [8 * MIB, MIB]


@given(st.integers(0, 2**32 - 1))
def test_a_checksum_survives_its_text(value: int) -> None:
    assert crc32_value(crc32_text(value)) == value


@pytest.mark.parametrize("text", ["", "rRO7Ng==-2", "not base64!", "AAAA"])
def test_what_is_no_checksum_of_a_whole_object_is_none(text: str) -> None:
    assert crc32_value(text) is None


def test_a_part_can_be_sent_again() -> None:
    import threading

    body = PartBody(memoryview(b"0123456789"), threading.Event())
    assert (len(body), body.read(4), body.tell(), body.read(), body.read(1)) == (10, b"0123", 4, b"456789", b"")
    assert (body.seek(0, io.SEEK_END), body.seek(-9, io.SEEK_CUR), body.read(2), body.seek(0), body.read(1)) == (
        10, 1, b"12", 0, b"0",
    )  # fmt: skip
