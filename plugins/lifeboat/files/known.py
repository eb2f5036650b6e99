"""Which bytes are stored already: by their digest, and quickly by their size."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from lifeboat.files.entries import Place
from lifeboat.files.scratch_table import scratch_tables

_SEEN_BITS = 24
"""Of a digest, by which most that are not known are told without asking the database, in 2 MiB."""
_FRESH = 500
"""Rows that are written together: one by one they took a tenth of a first snapshot's time."""


class KnownBytes:
    """A table of digests in a temporary database: a million of them take little memory, and no name goes to the disk.

    Used by one thread.
    """

    def __init__(self) -> None:
        self._base = scratch_tables()
        self._base.execute(
            "CREATE TABLE stored (sha256 BLOB PRIMARY KEY, size INTEGER, point TEXT, pack TEXT, member BLOB)"
            " WITHOUT ROWID"
        )
        self._sizes: set[int] = set()
        self._seen = bytearray(1 << (_SEEN_BITS - 3))
        self._fresh: dict[bytes, tuple[bytes, int, str, str, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def add(self, sha256: str, size: int, place: Place) -> None:
        """Note where bytes are; where they are known already, nothing changes."""
        self._sizes.add(size)
        digest = bytes.fromhex(sha256)
        byte, bit = _bit_of(digest)
        self._seen[byte] |= bit
        row = (digest, size, place.recovery_point, place.pack, _coded(place.member))
        self._fresh.setdefault(digest, row)
        if len(self._fresh) >= _FRESH:
            self._settle()

    def _settle(self) -> None:
        self._base.executemany("INSERT OR IGNORE INTO stored VALUES (?, ?, ?, ?, ?)", self._fresh.values())
        self._fresh.clear()

    def may_have(self, size: int) -> bool:
        """Whether anything of that size is stored: only then a large file is worth reading twice."""
        return size in self._sizes

    def place(self, sha256: str, size: int) -> Place | None:
        """Where these bytes are."""
        digest = bytes.fromhex(sha256)
        byte, bit = _bit_of(digest)
        if not self._seen[byte] & bit:
            return None
        if digest in self._fresh:
            self._settle()
        row = self._base.execute(
            "SELECT point, pack, member FROM stored WHERE sha256 = ? AND size = ?", (digest, size)
        ).fetchone()
        return None if row is None else Place(row[1], row[0], _decoded(row[2]))


def _bit_of(digest: bytes) -> tuple[int, int]:
    number = int.from_bytes(digest[:4], "big") >> (32 - _SEEN_BITS)
    return number >> 3, 1 << (number & 7)


def _coded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
