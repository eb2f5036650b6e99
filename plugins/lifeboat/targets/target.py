"""The one small protocol that every place of rest fulfils.

Keys are relative paths with ``/`` between their parts (``erp/database/…/manifest.json``); a target puts its own root
before them. Objects are written once: nothing in Lifeboat changes an object that exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from lifeboat.errors import TargetError

LOCKED_WITHOUT_END = datetime(9999, 1, 1, tzinfo=UTC)
"""Until then counts as locked what a store keeps until somebody lifts that: a legal hold."""


class Readable(Protocol):
    """A stream of bytes that ends: ``read`` gives ``b""`` at its end and raises when it can't go on."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes (all of the rest when negative); fewer only at the end of the stream."""
        ...


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object.

    Attributes:
        key: its key, relative to the target's root.
        size: stored bytes.
        modified: when the store says it was last written, in UTC.
    """

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Finding:
    """One thing that a preflight found.

    Attributes:
        severity: ``"error"`` stops a backup, ``"warning"`` is shown and recorded, ``"ok"`` is shown where asked for.
        subject: what it is about: a target, a setting, a privilege.
        what: what was found.
        remedy: what to do about it; for a privilege, the statements to run.
    """

    severity: str
    subject: str
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Kept:
    """What must stay on a target.

    Attributes:
        folders: beginnings of the keys, each with a slash at its end.
        lasting: for how long after it was written, at most.
    """

    folders: tuple[str, ...]
    lasting: timedelta


class Target(Protocol):
    """A place that keeps recovery points.

    Every method raises a :class:`~lifeboat.errors.TargetError` with the target's name, the key and a remedy:
    ``TargetUnavailable`` when the place can't be reached or is not the right one, ``TargetFull``, ``ObjectMissing``,
    ``ObjectExists``.
    """

    @property
    def name(self) -> str:
        """The target's name in the policy: ``primary``, ``offsite``, ``local``."""
        ...

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        ...

    def check(self, kept: Kept | None = None) -> list[Finding]:
        """Look at everything a backup to this target needs, without leaving anything behind.

        Args:
            kept: what must stay there, for a store that may delete by rules of its own; ``None``: don't look.
        """
        ...

    def put(self, key: str, body: Readable, *, retain_until: datetime | None = None, shared: bool = False) -> int:
        """Store ``body`` to its end under ``key`` and return the stored size in bytes.

        The object appears whole or not at all: when ``body.read`` raises, when the store fails, or when the process
        dies, no object of that key is to be seen, and (except after a death) nothing is left over.
        Memory stays bounded however long the body is. ``retain_until`` asks for an object lock, where the target has
        been told to set one. ``shared`` says that another process may store the same bytes under this key, and count
        on them: a failure then removes no object, for what is to be seen may be the other's.
        """
        ...

    def put_new(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        """Store a small object if and only if there is none of that key; else raise ``ObjectExists``.

        Atomic where :attr:`conditional_writes` is true; elsewhere a look before the write. ``retain_until`` asks for an
        object lock, as in :meth:`put`.
        """
        ...

    @property
    def conditional_writes(self) -> bool:
        """Whether ``put_new`` is atomic among several writers."""
        ...

    def open(self, key: str) -> AbstractContextManager[Readable]:
        """The object's bytes as a stream; a connection that breaks is taken up again where it broke, a bounded number
        of times, and never against another version of the object."""
        ...

    def read(self, key: str, *, limit: int = 64 * 1024 * 1024) -> bytes:
        """A small object as a whole; one larger than ``limit`` bytes raises ``TargetError``."""
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """What is stored under ``key``; ``None`` when nothing is."""
        ...

    def stat_each(self, keys: Sequence[str]) -> dict[str, ObjectInfo]:
        """What is stored under each of many keys that have a beginning in common, in far fewer steps than a
        :meth:`stat` of each.

        A key is left out when nothing is stored under it, or something that ``stat`` would raise an error for.
        """
        ...

    def list_folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below ``prefix`` (which ends in ``/`` or is ``""``), sorted."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is no error. Its bytes may stay where readers don't see them: as
        an older version, or in the blocks of a disk."""
        ...

    def dispose(self, key: str) -> None:
        """Remove an object for good, with all older versions of it; one that is gone already is no error.

        However far it comes, the object is seen whole or not at all. What the store has locked can't go: the error says
        until when, where the store tells.
        """
        ...

    def locked_until(self, key: str) -> datetime | None:
        """Until when the store itself keeps the object from being removed, in UTC; it may be past.

        :data:`LOCKED_WITHOUT_END` for a legal hold. ``None``: it is not locked, or nothing is stored under the key, or
        the store locks nothing, whatever it shows.
        """
        ...

    def extend_lock(self, key: str, until: datetime) -> bool:
        """Have the store lock the object until then at least; false when it was locked so long already.

        A lock that reaches further stays as it is. The lock is read back. A store that locks nothing is an error, and
        so is one that does not show the lock.
        """
        ...

    def store_crc32(self, key: str) -> int | None:
        """The CRC-32 of the whole object as the store itself computed and keeps it; ``None`` where it keeps none."""
        ...

    def abandon_uploads(self, prefix: str, *, older_than: datetime) -> list[str]:
        """Remove uploads below ``prefix`` begun before ``older_than`` and never ended; return their keys."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All committed objects whose key begins with ``prefix`` (a folder, ending in ``/``, or ``""``), by key."""
        ...


def no_locks(target: str, key: str) -> TargetError:
    """The error of a place that locks nothing."""
    return TargetError(
        f"Target {target} can't lock {key}: such a place locks nothing.",
        "Take object_lock out of the policy, or use an S3 bucket with object lock enabled.",
    )
