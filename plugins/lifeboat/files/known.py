"""Which bytes are stored already: by their digest, and quickly by their size."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from lifeboat.files.entries import Place
from lifeboat.files.scratch_table import scratch_tables


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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def add(self, sha256: str, size: int, place: Place) -> None:
        """Note where bytes are; where they are known already, nothing changes."""
        self._sizes.add(size)
        self._base.execute(
            "INSERT OR IGNORE INTO stored VALUES (?, ?, ?, ?, ?)",
            (bytes.fromhex(sha256), size, place.recovery_point, place.pack, _coded(place.member)),
        )

    def may_have(self, size: int) -> bool:
        """Whether anything of that size is stored: only then a large file is worth reading twice."""
        return size in self._sizes

    def place(self, sha256: str, size: int) -> Place | None:
        """Where these bytes are."""
        row = self._base.execute(
            "SELECT point, pack, member FROM stored WHERE sha256 = ? AND size = ?", (bytes.fromhex(sha256), size)
        ).fetchone()
        return None if row is None else Place(row[1], row[0], _decoded(row[2]))


def _coded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
