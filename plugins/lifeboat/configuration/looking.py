"""What the files of a configuration look like, without reading them: by size, times and inode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifeboat.configuration.files import FETCHED_AGAIN, FileGathering
from lifeboat.configuration.gathered import Gathered
from lifeboat.configuration.items import ItemKind

Watched = Mapping[ItemKind, Sequence[str]]
"""Paths and patterns by kind."""


class _Looking(FileGathering):
    def _take_file(self, path: str, *, named: bool) -> None:
        try:
            found = Path(path).lstat()
        except OSError as error:
            self._failed(path, error, named=named)
            return
        seen = (found.st_size, found.st_ctime_ns, found.st_ino)
        self._gathered.add(self._about(path, "file", found), repr(seen).encode())


def looks_of(watched: Watched, exclude: Sequence[str], tick: Callable[[], None] = lambda: None) -> str:
    """A digest of how everything looks: another one when something was changed, came or went. What can't be looked at
    is a part of it."""
    gathered = Gathered()
    for kind, paths in watched.items():
        leave_out = (FETCHED_AGAIN,) if kind == "infrastructure" else ()
        _Looking(kind, exclude, gathered, tick, leave_out=leave_out).take_all(paths)
    digest = hashlib.sha256()
    for item in gathered.items():
        digest.update(json.dumps(item.about.told(), sort_keys=True).encode() + item.content)
    for problem in gathered.problems:
        digest.update(str(problem).encode())
    return digest.hexdigest()
