"""Which bytes are stored already."""

from __future__ import annotations

import hashlib

import pytest

from lifeboat.files import known as room
from lifeboat.files.entries import Place
from lifeboat.files.known import KnownBytes


def digest(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


@pytest.mark.parametrize("together", [1, 7, 500])
@pytest.mark.parametrize("bits", [3, 24])
def test_every_digest_is_found_again_and_no_other(monkeypatch: pytest.MonkeyPatch, together: int, bits: int) -> None:
    """With few bits every digest looks seen: the table decides."""
    monkeypatch.setattr(room, "_FRESH", together)
    monkeypatch.setattr(room, "_SEEN_BITS", bits)
    with KnownBytes() as known:
        for number in range(1200):
            assert known.place(digest(number), number) is None
            known.add(digest(number), number, Place("pack", "point", f"{number}\udcff"))
            known.add(digest(number), number, Place("later", "point", "a second time"))
            assert known.place(digest(number // 2), number // 2) == Place("pack", "point", f"{number // 2}\udcff")
        assert known.place(digest(5), 6) is None
        assert known.place(digest(5000), 5000) is None
