"""The keys of an object store as a tree: sorted as an index is, folders made of what is before each slash.

A store lists keys in the order of their bytes, and there ``a-b`` comes before ``a/c``; an index has a folder's content
directly behind it. So all of a listing is sorted before the first object is read, in a table that keeps to a bounded
memory.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from lifeboat.files.entries import ROOT, Entry
from lifeboat.files.far_place import NOBODY
from lifeboat.files.patterns import Selection
from lifeboat.files.walking import DEEPEST, Unseen

_LONGEST_NAME = 255
"""Bytes of a name on the usual file systems."""
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it.

    Attributes:
        path: its key below the set's prefix; one that ends in ``/`` only marks a folder.
        size: bytes.
        etag: without quotes.
        seconds: when it was last written, since 1970.
    """

    path: str
    size: int
    etag: str
    seconds: int

    @property
    def identity(self) -> str:
        """By which a later snapshot knows that it is the same; empty where a store gives no ETag, and nothing could be
        known."""
        return f"{self.etag} {self.size} {self.seconds}" if self.etag else ""

    @property
    def entry(self) -> Entry:
        """It as a file."""
        return Entry(
            self.path, "file", _FILE_MODE, NOBODY, NOBODY, self.seconds * 10**9, size=self.size, identity=self.identity
        )


class SortedKeys:
    """A listing, sorted as an index is. Used by one thread."""

    def __init__(self) -> None:
        # As in KnownBytes: private, in memory as far as the cache goes, in a file without a name beyond.
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.execute("PRAGMA cache_size = -65536")
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute(
            "CREATE TABLE keys (place BLOB PRIMARY KEY, size INTEGER, etag TEXT, seconds INTEGER) WITHOUT ROWID"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()

    def add(self, page: Iterable[Listed]) -> None:
        """Add a page of a listing."""
        # What is written while the pages come may be listed twice: the later one counts.
        self._base.execute("BEGIN")
        self._base.executemany(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)",
            ((_place(one.path), one.size, one.etag, one.seconds) for one in page),
        )
        self._base.execute("COMMIT")

    def __iter__(self) -> Iterator[Listed]:
        for place, size, etag, seconds in self._base.execute("SELECT * FROM keys ORDER BY place"):
            yield Listed(os.fsdecode(place.replace(b"\0", b"/")), size, etag, seconds)


def _place(path: str) -> bytes:
    return os.fsencode(path).replace(b"/", b"\0")


def fault_of_object(listed: Listed) -> str:
    """Why no file can be called as an object is; empty when one can."""
    path = listed.path.removesuffix("/")
    if "\0" in path:
        return "has a key with a NUL in it, which no file can have"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return f"has a key with the part {part!r}, which no file can have"
        if len(os.fsencode(part)) > _LONGEST_NAME:
            return f"has a key with a part of more than {_LONGEST_NAME} bytes, which no file can have"
    if path.count("/") >= DEEPEST:
        return f"lies more than {DEEPEST} folders deep"
    if path != listed.path and listed.size:
        return f"has a key that ends in '/' and {listed.size} bytes: it can't be a folder and a file"
    return ""


def tree_of(keys: Iterable[Listed], selection: Selection, unseen: Callable[[Unseen], None]) -> Iterator[Entry]:
    """The paths that belong to a set, in the order of the index, the root first.

    Args:
        keys: without those that have a fault, in that order.
        unseen: told of an object that has the name of a folder.
    """
    yield _folder(ROOT)
    inside: list[str] = []
    rest = iter(keys)
    key = next(rest, None)
    while key is not None:
        following = next(rest, None)
        *above, name = key.path.split("/")
        depth = 0
        while depth < min(len(inside), len(above)) and inside[depth] == above[depth]:
            depth += 1
        del inside[depth:]
        entered = True
        for part in above[depth:]:
            folder = "/".join((*inside, part))
            if not selection.may_enter(folder):
                entered = False
                break
            inside.append(part)
            yield _folder(folder)
        if entered and name and selection.has(key.path):
            if following is not None and following.path.startswith(f"{key.path}/") and selection.may_enter(key.path):
                unseen(Unseen(key.path, "can't be kept: other objects have its key as their folder. Rename it."))
            else:
                yield key.entry
        key = following


def _folder(path: str) -> Entry:
    return Entry(path, "directory", _FOLDER_MODE, NOBODY, NOBODY, 0)
