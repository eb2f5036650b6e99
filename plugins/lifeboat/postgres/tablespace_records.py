"""WAL that would make recovery leave its own directory: records of ``CREATE TABLESPACE``.

Such a record names a directory by its absolute path, and whoever replays it writes there. On the machine of the server
that was backed up that is the live server's own tablespace; so this has to be known before recovery begins.

Sources: https://www.postgresql.org/docs/current/sql-createtablespace.html; the layout stands in PostgreSQL's
``commands/tablespace.h`` and ``access/xlogrecord.h``.
"""

from __future__ import annotations

import re
import struct

import google_crc32c

from lifeboat.postgres.wal_pages import LONG_HEADER, PAGE, SHORT_HEADER

_HEADER = 24
_BEFORE_CRC = 20
_LONGEST = 2048
_LENGTH = struct.Struct("<I")
_CRC = struct.Struct("<I")
# In the record's header: no flags, resource manager 5, padding, CRC; then one part of data: an oid and a path. The
# flags are looked at afterwards: a search that begins with a zero takes three times as long in WAL full of them.
_CREATES = re.compile(rb"\x05\x00\x00(?=.{4}(?:\xff.|\xfe.{4}).{4}/)", re.DOTALL)
_FLAGS_AT = 16
_MANAGER_AT = 17


class CreatedTablespaces:
    """Looks through consecutive WAL segments, one after the other."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, segment: bytes) -> list[str]:
        """The absolute locations of the tablespaces that are created up to its end, and were not before, in order."""
        before = len(self._rest)
        payload = _payload(self._rest, segment)
        made = []
        for found in _CREATES.finditer(payload):
            begin = found.start() - _MANAGER_AT
            location = _location(payload, begin)
            if location is not None and begin + _length(payload, begin) > before:
                made.append(location)
        # A record may go on in the next segment; one that was whole already does not count again.
        self._rest = payload[-_LONGEST:]
        return made


def _payload(before: bytes, segment: bytes) -> bytes:
    """What stood before a segment, and it without its page headers: a record may lie on two pages."""
    view = memoryview(segment)
    pages = [view[at + SHORT_HEADER : at + PAGE] for at in range(PAGE, len(segment), PAGE)]
    return b"".join([before, view[LONG_HEADER:PAGE], *pages])


def _length(payload: bytes, begin: int) -> int:
    total: int = _LENGTH.unpack_from(payload, begin)[0]
    return total


def _location(payload: bytes, begin: int) -> str | None:
    """The path in the record that begins there; ``None`` when its length or CRC says that it is no record."""
    if begin < 0 or payload[begin + _FLAGS_AT] != 0:
        return None
    total = _length(payload, begin)
    if not _HEADER < total <= _LONGEST or begin + total > len(payload):
        return None
    record = payload[begin : begin + total]
    (crc,) = _CRC.unpack_from(record, _BEFORE_CRC)
    if google_crc32c.extend(google_crc32c.value(record[_HEADER:]), record[:_BEFORE_CRC]) != crc:
        return None
    data = record[_HEADER + (2 if record[_HEADER] == 0xFF else 5) :]
    return data[4:].split(b"\0")[0].decode("utf-8", "surrogateescape")
