"""Walking a tree: every path once, in the order of the index, by descriptors that no link can lead astray."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from lifeboat.errors import SourceUnreadable
from lifeboat.files.entries import ROOT, path_order
from lifeboat.files.patterns import Selection
from lifeboat.repository.sharing import Share

DEEPEST = 400
"""Folders within folders that are entered: each takes a descriptor and a frame of Python's stack."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Seen(NamedTuple):
    """A path as it is now.

    Attributes:
        path: as in the index.
        folder: a descriptor of the folder that it is in, open until the next path is asked for.
        name: in that folder.
        stat: of itself, not of what a link points to.
    """

    path: str
    folder: int
    name: str
    stat: os.stat_result

    @property
    def order(self) -> bytes:
        """As :attr:`Entry.order`."""
        return path_order(self.path)


@dataclass(frozen=True, slots=True)
class Unseen:
    """A path that could not be looked at, and why.

    Attributes:
        left_out: what of its kind is never kept, in the plural; empty: it is missed.
    """

    path: str
    reason: str
    left_out: str = ""


def walk(
    root: str,
    selection: Selection,
    unseen: Callable[[Unseen], None],
    tick: Callable[[], None] = lambda: None,
    share: Share | None = None,
) -> Iterator[Seen]:
    """Every path that belongs to a set, the root first. A folder is there although nothing in it is.

    Args:
        root: the set's directory; may itself be reached through links.
        unseen: told of what could not be looked at. What vanishes while it is looked at is none of that: it is gone.
        tick: called for each folder; may raise to stop.
        share: only what belongs to it, by the number of its inode: all names of one file are in one share. Every folder
            is listed all the same.

    Raises:
        SourceUnreadable: the root itself can't be read.
    """
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SourceUnreadable(
            f"The directory {root} can't be read: {error.strerror}.",
            "Is it mounted on this worker, and may the worker's user read it? The source's `queue` names the workers "
            "that see it.",
        ) from error
    try:
        yield Seen(ROOT, descriptor, ROOT, os.fstat(descriptor))
        yield from _Walk(selection, unseen, tick, share).inside(descriptor, "")
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Walk:
    selection: Selection
    unseen: Callable[[Unseen], None]
    tick: Callable[[], None]
    share: Share | None

    def inside(self, folder: int, path: str) -> Iterator[Seen]:
        self.tick()
        try:
            names = sorted(self._names(folder), key=os.fsencode)
        except OSError as error:
            self.unseen(Unseen(path or ROOT, f"can't be listed: {error.strerror}"))
            return
        for name in names:
            whole = f"{path}/{name}" if path else name
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.unseen(Unseen(whole, f"can't be looked at: {error.strerror}"))
                continue
            if not stat.S_ISDIR(found.st_mode):
                if self.selection.has(whole):
                    yield Seen(whole, folder, name, found)
                continue
            if not self.selection.may_enter(whole):
                continue
            if self.share is None or self.share.has(found.st_ino):
                yield Seen(whole, folder, name, found)
            yield from self._below(folder, name, whole)

    def _names(self, folder: int) -> list[str]:
        if self.share is None:
            return os.listdir(folder)
        # Names and numbers come together: what is in another share is not even looked at.
        with os.scandir(folder) as entries:
            return [one.name for one in entries if self.share.has(one.inode()) or one.is_dir(follow_symlinks=False)]

    def _below(self, folder: int, name: str, path: str) -> Iterator[Seen]:
        if path.count("/") >= DEEPEST:
            self.unseen(Unseen(path, f"lies more than {DEEPEST} folders deep"))
            return
        try:
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except OSError as error:
            # Gone, or a link now: what it was is no longer there.
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                self.unseen(Unseen(path, f"can't be opened: {error.strerror}"))
            return
        try:
            yield from self.inside(inner, path)
        finally:
            with suppress(OSError):
                os.close(inner)
