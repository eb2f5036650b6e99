"""What a recovery can aim at: commits, aborts and named restore points, as the WAL's records tell of them.

Source: https://www.postgresql.org/docs/current/runtime-config-wal.html#RUNTIME-CONFIG-WAL-RECOVERY-TARGET; the layout
stands in PostgreSQL's ``access/xact.h`` and ``access/xlogrecord.h``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lifeboat.postgres.lsn import Lsn

_HEADER = 24
_TIME = struct.Struct("<q")
_LATEST = 2**57
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

_XLOG = 0
_TRANSACTION = 1
_RESTORE_POINT = 0x70
_OPERATION = 0x70
_COMMITS = frozenset({0x00, 0x30})
_ENDS = frozenset({0x00, 0x20, 0x30, 0x40})
# Marks of the parts of a record without page images: the origin and the top-level transaction come before the data.
_SKIPPED = {253: 3, 252: 5}
_MAIN_DATA = {255: 2, 254: 5}


@dataclass(frozen=True)
class RestorePoint:
    """A named restore point (``pg_create_restore_point``): its name, its moment, and where its record begins."""

    name: str
    moment: datetime
    lsn: Lsn


class Marks:
    """Collects marks from records.

    Attributes:
        restore_points: the named restore points that were seen, in order.
    """

    def __init__(self) -> None:
        self._last_commit: int | None = None
        self._last_end: int | None = None
        self.restore_points: tuple[RestorePoint, ...] = ()

    @property
    def last_commit(self) -> datetime | None:
        """The latest moment of a commit that was seen. Commits are not strictly in the order of their moments."""
        return None if self._last_commit is None else _moment(self._last_commit)

    @property
    def last_transaction_end(self) -> datetime | None:
        """The latest moment of a commit or an abort: where ``recovery_target_time`` can stop."""
        return None if self._last_end is None else _moment(self._last_end)

    def note(self, lsn: int, manager: int, info: int, head: bytes) -> str | None:
        """Look at the beginning of a record; return what is wrong with it, ``None`` when nothing is."""
        point = manager == _XLOG and info & 0xF0 == _RESTORE_POINT
        operation = info & _OPERATION
        if not point and (manager != _TRANSACTION or operation not in _ENDS):
            return None
        data = _main_data(head)
        if data is None or len(data) < _TIME.size + point:
            return "the record has not the form of its kind"
        moment: int = _TIME.unpack_from(data)[0]
        if not 0 < moment < _LATEST:
            return "the record names an impossible time"
        if point:
            name = data[_TIME.size :].split(b"\0")[0].decode("utf-8", "replace")
            self.restore_points = (*self.restore_points, RestorePoint(name, _moment(moment), Lsn(lsn)))
            return None
        self._last_end = max(moment, self._last_end or moment)
        if operation in _COMMITS:
            self._last_commit = max(moment, self._last_commit or moment)
        return None


def _main_data(head: bytes) -> bytes | None:
    at = _HEADER
    while at < len(head) and head[at] in _SKIPPED:
        at += _SKIPPED[head[at]]
    if at < len(head) and head[at] in _MAIN_DATA:
        return head[at + _MAIN_DATA[head[at]] :]
    return None


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
