"""The records of the WAL: each linked to the one before it, each with its own CRC-32C.

Source: the layout stands in PostgreSQL's ``access/xlogrecord.h`` and ``access/xact.h``.
"""

from __future__ import annotations

import struct
from copy import copy
from dataclasses import dataclass, replace

import google_crc32c

from lifeboat.errors import VerificationFailed
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import SegmentName
from lifeboat.postgres.wal_marks import Marks
from lifeboat.postgres.wal_pages import PAGE, PAYLOAD, SHORT_HEADER, Run, damaged

_RECORD = struct.Struct("<IIQBBxxI")
_LENGTH = struct.Struct("<I")
_HEADER = _RECORD.size
_WITHOUT_CRC = 20
_KEPT = 256
_LONGEST = 1020 * 1024 * 1024

_RMGR_XLOG = 0
_RMGR_TRANSACTION = 1
_RMGR_LAST_BUILT_IN = 21
_RMGR_FIRST_CUSTOM = 128
_SWITCH = 0x40


@dataclass
class _Pending:
    """A record whose end has not been read yet; ``total`` is 0 for one whose beginning was not read."""

    lsn: int
    total: int
    missing: int
    head: bytes = b""
    crc: int = 0


class RecordReader:
    """Walks over records in the runs of consecutive pages, keeping no more than the beginning of one.

    Args:
        segment_size: in bytes.
        start: where the first record begins; ``None`` takes the first one that begins in the first run.
        follows: where the record before the first one lies, if that is known.
        checksums: compute every record's CRC-32C.

    Attributes:
        position: just behind the last whole record, as PostgreSQL counts it; behind a switch the segment's end.
        records: how many records were read.
        marks: what a recovery can aim at, as far as it was read.
        switched: by the server's own word, the rest of the present segment is empty.
        ended: nothing but zeros follows the last record.
    """

    def __init__(
        self, segment_size: int, start: Lsn | None = None, *, follows: Lsn | None = None, checksums: bool = True
    ) -> None:
        self._segment_size = segment_size
        self._start = None if start is None else int(start)
        self._checksums = checksums
        self._entered = False
        self._previous: int | None = None if follows is None else int(follows)
        self._pending: _Pending | None = None
        self._timeline = 1
        self.position = start or Lsn(0)
        self.records = 0
        self.marks = Marks()
        self.switched = False
        self.ended = False

    @property
    def last(self) -> Lsn | None:
        """Where the last record begins that was read or is known to be the one before; ``None`` without any."""
        return None if self._previous is None else Lsn(self._previous)

    @property
    def unfinished(self) -> Lsn | None:
        """Where a record begins whose end was not read; ``None`` when the last one is whole."""
        return None if self._pending is None else Lsn(self._pending.lsn)

    def copy(self) -> RecordReader:
        """The present state, to go back to."""
        twin = copy(self)
        twin.marks = copy(self.marks)
        twin._pending = None if self._pending is None else replace(self._pending)
        return twin

    def begin_segment(self, timeline: int) -> None:
        """The next run is the first one of a segment of ``timeline``."""
        self._timeline = timeline
        self.switched = self.ended = False

    def read(self, run: Run) -> None:
        """Walk over the records of one run; raises ``VerificationFailed``."""
        if self.switched or self.ended:
            raise self._damaged(run.address, "a page follows although the records ended before it")
        if run.overwrites:
            self._pending = None
        page, offset = 0, 0
        if not self._entered:
            if self._start is None:
                self._enter_anywhere(run)
            else:
                place = self._enter_at(run, self._start)
                if place is None:
                    return
                page, offset = place
            self._entered = True
        walk = _Walk(run, page)
        if offset == walk.page_begin:
            self._expect(walk, 0 if self._pending is None else self._pending.missing)
        if self._pending is not None:
            offset = self._continue(walk, self._pending)
        self._walk(walk, offset)

    def _enter_anywhere(self, run: Run) -> None:
        if run.remaining[0]:
            self._pending = _Pending(run.address, 0, run.remaining[0])

    def _enter_at(self, run: Run, start: int) -> tuple[int, int] | None:
        """The page and the offset where the first record begins; ``None`` when it is not in this run."""
        page, within = divmod(start - run.address, PAGE)
        if page >= len(run.remaining):
            return None
        header = run.header if page == 0 else SHORT_HEADER
        if 0 < within < header or within % 8:
            raise self._damaged(start, "no record can begin here")
        return page, _Walk(run, page).page_begin + max(0, within - header)

    def _continue(self, walk: _Walk, pending: _Pending) -> int:
        """Take the rest of an earlier record, as far as the run holds it; return the offset behind it."""
        end = pending.missing
        piece = walk.payload[:end]
        if pending.total:
            self._take(pending, piece)
        pending.missing -= len(piece)
        self._cross(walk, end)
        if not pending.missing:
            self._pending = None
            if pending.total:
                self._finish(pending, walk)
        return (len(piece) + 7) & ~7

    def _take(self, pending: _Pending, piece: bytes) -> None:
        read = pending.total - pending.missing
        if len(pending.head) < _KEPT:
            pending.head += piece[: _KEPT - len(pending.head)]
        if self._checksums:
            pending.crc = google_crc32c.extend(pending.crc, piece[max(0, _HEADER - read) :])

    def _finish(self, pending: _Pending, walk: _Walk) -> None:
        _, _, previous, info, manager, crc = _RECORD.unpack_from(pending.head)
        self._check_header(pending.lsn, previous, manager)
        if self._checksums and google_crc32c.extend(pending.crc, pending.head[:_WITHOUT_CRC]) != crc:
            raise self._damaged(pending.lsn, "the record's CRC-32C is wrong")
        self._previous = pending.lsn
        self.records += 1
        if manager <= _RMGR_TRANSACTION:
            self._note(pending.lsn, manager, info, pending.head)

    def _walk(self, walk: _Walk, offset: int) -> None:
        # One long loop on purpose: a call for each step would double its time.
        payload, size = walk.payload, len(walk.payload)
        unpack, extend, checksums = _RECORD.unpack_from, google_crc32c.extend, self._checksums
        previous, records = self._previous, self.records
        page_end, shift = walk.page_end, walk.shift
        while offset < size and not self.switched:
            if offset == page_end:
                walk.turn()
                page_end, shift = walk.page_end, walk.shift
                self._expect(walk, 0)
            lsn = shift + offset
            if size - offset < _HEADER:
                self._begin(walk, offset, lsn)
                break
            total, _, link, info, manager, crc = unpack(payload, offset)
            end = offset + total
            if total < _HEADER or end > size:
                self._begin(walk, offset, lsn)
                break
            if link != previous or manager > _RMGR_LAST_BUILT_IN:
                self._previous = previous
                self._check_header(lsn, link, manager)
            if checksums and extend(extend(0, payload[offset + _HEADER : end]), payload[offset : offset + 20]) != crc:
                raise self._damaged(lsn, "the record's CRC-32C is wrong")
            previous = lsn
            records += 1
            if manager <= _RMGR_TRANSACTION:
                self._note(lsn, manager, info, payload[offset : min(end, offset + _KEPT)])
            if end > page_end:
                self._cross(walk, end)
                page_end, shift = walk.page_end, walk.shift
            offset = (end + 7) & ~7
        self._previous, self.records = previous, records
        self._settle(walk, offset)

    def _settle(self, walk: _Walk, offset: int) -> None:
        """Fix the position at the end of a run."""
        if self.switched:
            if walk.payload.count(0, offset) != max(0, len(walk.payload) - offset):
                raise self._damaged(walk.shift + offset, "bytes follow the switch to the next segment")
            here = walk.shift + offset
            self.position = Lsn(-(-here // self._segment_size) * self._segment_size)
        elif self._pending is None:
            self.position = Lsn(walk.shift + min(offset, walk.page_end))
        elif self._pending.total and self._pending.lsn >= walk.run.address:
            self.position = Lsn(self._pending.lsn)

    def _begin(self, walk: _Walk, offset: int, lsn: int) -> None:
        """Begin a record that goes on behind the run, or see that there is none."""
        (total,) = _LENGTH.unpack_from(walk.payload, offset)
        if total == 0 and walk.payload.count(0, offset) == len(walk.payload) - offset:
            self.position, self.ended = Lsn(lsn), True
            return
        if not _HEADER <= total <= _LONGEST:
            raise self._damaged(lsn, f"no record can be {total} bytes long")
        self._pending = _Pending(lsn, total, total)
        piece = walk.payload[offset:]
        self._take(self._pending, piece)
        self._pending.missing -= len(piece)
        self._cross(walk, offset + total)

    def _cross(self, walk: _Walk, end: int) -> None:
        """Turn to the page on which the record that ends at ``end`` ends; each page on the way must know of it."""
        while end > walk.page_end and walk.turn():
            self._expect(walk, end - walk.page_begin)

    def _expect(self, walk: _Walk, missing: int) -> None:
        found = walk.run.remaining[walk.page]
        if found != missing:
            here = walk.run.address + walk.page * PAGE
            raise self._damaged(here, f"the page continues a record by {found} bytes where {missing} are missing")

    def _check_header(self, lsn: int, link: int, manager: int) -> None:
        if self._previous is None:
            if link >= lsn:
                raise self._damaged(lsn, f"the record names {Lsn(link)} as the one before it")
        elif link != self._previous:
            raise self._damaged(
                lsn, f"the record names {Lsn(link)} as the one before it, which is at {Lsn(self._previous)}"
            )
        if _RMGR_LAST_BUILT_IN < manager < _RMGR_FIRST_CUSTOM:
            raise self._damaged(lsn, f"the record is of the unknown kind {manager}")

    def _note(self, lsn: int, manager: int, info: int, head: bytes) -> None:
        if manager == _RMGR_XLOG and info & 0xF0 == _SWITCH:
            self.switched = True
            return
        what = self.marks.note(lsn, manager, info, head)
        if what is not None:
            raise self._damaged(lsn, what)

    def _damaged(self, lsn: int, what: str) -> VerificationFailed:
        name = SegmentName.of(self._timeline, Lsn(lsn), self._segment_size)
        return damaged(str(name), lsn % self._segment_size, lsn, what)


class _Walk:
    """Where we are in a run: the page, where it begins and ends in the payload, and how offsets become positions."""

    def __init__(self, run: Run, page: int) -> None:
        self.run = run
        self.payload = run.payload
        self.page = page
        self.page_begin = 0 if page == 0 else PAGE - run.header + (page - 1) * PAYLOAD
        self.page_end = PAGE - run.header + page * PAYLOAD
        self.shift = run.address + run.header + page * SHORT_HEADER

    def turn(self) -> bool:
        """Turn to the next page of the run; false when there is none."""
        if self.page + 1 >= len(self.run.remaining):
            return False
        self.page += 1
        self.page_begin, self.page_end = self.page_end, self.page_end + PAYLOAD
        self.shift += SHORT_HEADER
        return True
