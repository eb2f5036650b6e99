"""Whether the beginning of a segment holds nothing but what the server writes by itself while nobody uses it.

After the last transaction a server takes one more checkpoint and notes which transactions are running: a few hundred
bytes that nobody would miss. WAL that holds nothing else holds no commit, so it needs no flush.
Source: the layout stands in PostgreSQL's ``access/xlogrecord.h``, the kinds in ``catalog/pg_control.h`` and
``storage/standbydefs.h``.
"""

from __future__ import annotations

import struct

from lifeboat.postgres.wal_pages import LONG_HEADER, PAGE

_PAGE = struct.Struct("<2xH12xI")
_CONTINUES = 0x0001
_RECORD = struct.Struct("<IIQBBxxI")
_XLOG, _STANDBY = 0, 8
_HOUSEKEEPING = frozenset({(_XLOG, 0x10), (_XLOG, 0xE0), (_STANDBY, 0x10)})
"""By resource manager and kind: an online checkpoint, its beginning (from PostgreSQL 17 on), running transactions."""


def is_quiet(beginning: bytes | bytearray) -> bool:
    """Whether a segment's first bytes, as far as they are there, hold only the server's own housekeeping.

    Whatever can't be told for certain is no housekeeping: a record that began in the segment before, or more than one
    page.
    """
    if len(beginning) > PAGE:
        return False
    if len(beginning) >= _PAGE.size and _PAGE.unpack_from(beginning)[0] & _CONTINUES:
        return False
    at = LONG_HEADER
    while at + _RECORD.size <= len(beginning):
        length, _, _, info, manager, _ = _RECORD.unpack_from(beginning, at)
        if length < _RECORD.size or (manager, info & 0xF0) not in _HOUSEKEEPING:
            return False
        at += -(-length // 8) * 8
    return at <= PAGE
