"""A file on an SFTP server that is read, and what the server's answers mean for it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from lifeboat.errors import ObjectMissing, SourceUnreadable, TargetError, TargetUnavailable
from lifeboat.files.entries import Entry
from lifeboat.targets.sftp_reading import ResumedReading
from lifeboat.targets.sftp_session import Session
from lifeboat.targets.sftp_tree import Tree

STILL_FRESH = timedelta(minutes=5)
"""A file that was changed so shortly before it was read is read again by the next snapshot: SFTP tells whole seconds,
and the server's clock need not be right."""


class SftpFile:
    """A file that is read, with several requests under way."""

    def __init__(self, session: Session, tree: Tree, entry: Entry, *, where: str, fresh_from: int) -> None:
        self._session = session
        self._tree = tree
        try:
            self._stream = ResumedReading(session, tree, entry.path)
        except TargetError as error:
            raise what_it_means(error) from error
        mtime = self._stream.mtime
        fresh = fresh_from <= mtime <= fresh_from + 2 * int(STILL_FRESH.total_seconds())
        identity = "" if fresh else identity_of(where, mtime, self._stream.size)
        self._entry = replace(entry, size=self._stream.size, mtime_ns=mtime * 10**9, identity=identity)

    @property
    def entry(self) -> Entry:
        """It as it was when it was opened."""
        return self._entry

    def read(self, size: int, /) -> bytes:
        """As the protocol says."""
        try:
            return self._stream.read(size)
        except TargetError as error:
            raise what_it_means(error) from error

    def unchanged(self) -> bool:
        """Whether the file of that name has the size and the time that it had; one that is gone was read."""
        path = self._entry.path
        try:
            found = self._session.run(lambda link: self._tree.look(link, path), f"looking at {path}")
        except TargetError as error:
            if isinstance(error, TargetUnavailable):
                raise SourceUnreadable(error.what, error.remedy) from error
            return False
        return found is None or (found.size, found.mtime) == (self._stream.size, self._stream.mtime)

    def close(self) -> None:
        """Let it go."""
        self._stream.close()


def identity_of(where: str, mtime: int, size: int) -> str:
    """By which a later snapshot knows that a file is the same.

    Args:
        where: the same for the same directory of the same server.
    """
    return f"{where} {mtime} {size}"


@contextmanager
def readable() -> Iterator[None]:
    """Within it, what a target would raise becomes an error of the source."""
    try:
        yield
    except TargetError as error:
        raise SourceUnreadable(error.what, error.remedy) from error


def what_it_means(error: TargetError) -> Exception:
    """What an error of reading means: for one file, or for all."""
    if isinstance(error, ObjectMissing):
        return FileNotFoundError(errno.ENOENT, "is gone")
    if isinstance(error, TargetUnavailable):
        return SourceUnreadable(error.what, error.remedy)
    if error.__cause__ is not None:
        return PermissionError(errno.EACCES, said(error))
    return OSError(errno.ESTALE, error.what)


def said(error: TargetError) -> str:
    """What the server answered, where it did."""
    reason = getattr(error.__cause__, "reason", "")
    return f"the server answered: {reason}" if reason else error.what
