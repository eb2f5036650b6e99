"""The folders of a tree that is being written, by descriptors that no link can lead astray."""

from __future__ import annotations

import os
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folders:
    """Descriptors of the folders of a tree, each reached from the one that it is in without following a link."""

    _MOST = 256

    def __init__(self, root: Path) -> None:
        self._open = {"": os.open(root, _FOLDER)}

    def parent(self, path: str) -> tuple[int, str]:
        """The folder that a path is in, open until others were asked for, and the path's name there."""
        folder, _, name = path.rpartition("/")
        return self._of(folder), name

    def _of(self, folder: str) -> int:
        found = self._open.get(folder)
        if found is not None:
            return found
        if len(self._open) >= self._MOST:
            self._forget()
        above, name = self.parent(folder)
        self._open[folder] = os.open(name, _FOLDER, dir_fd=above)
        return self._open[folder]

    def _forget(self) -> None:
        for folder in [name for name in self._open if name]:
            os.close(self._open.pop(folder))

    def close(self) -> None:
        """Close all of them."""
        self._forget()
        if self._open:
            os.close(self._open.pop(""))
