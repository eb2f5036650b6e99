"""Streams for tests: of any length, without holding it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable

MIB = 1024 * 1024
_BLOCK = b"".join(hashlib.sha512(number.to_bytes(4, "big")).digest() for number in range(16 * 1024))


class Body:
    """``size`` bytes that differ from place to place; ``at`` calls something once that many bytes were given."""

    def __init__(self, size: int, *, at: int | None = None, then: Callable[[], None] = lambda: None) -> None:
        self._left = size
        self._given = 0
        self._at = at
        self._then = then

    def read(self, size: int = -1, /) -> bytes:
        if self._at is not None and self._given >= self._at:
            self._at = None
            self._then()
        size = self._left if size < 0 else min(size, self._left)
        start = self._given % len(_BLOCK)
        block = _BLOCK * (1 + (start + size) // len(_BLOCK)) if start + size > len(_BLOCK) else _BLOCK
        self._left -= size
        self._given += size
        return block[start : start + size]


def digest(size: int) -> str:
    """SHA-256 of a body of that size."""
    body, summary = Body(size), hashlib.sha256()
    while piece := body.read(MIB):
        summary.update(piece)
    return summary.hexdigest()


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:04}" for number in itertools.islice(itertools.count(), count)]
