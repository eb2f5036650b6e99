"""The pages of a WAL segment: their headers, and the record bytes between them.

A segment is a row of 8 kB pages. Each begins with a header that names the WAL format, the timeline, its own address in
the log and how much of a record it continues; the first page of a segment also names the cluster and the sizes. Their
bytes are protected by no checksum, so each is compared with what it must be.

Source: the layout stands in PostgreSQL's ``access/xlog_internal.h``; the format is described at
https://www.postgresql.org/docs/current/wal-internals.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from lifeboat.errors import VerificationFailed
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import SegmentName
from lifeboat.targets.target import Readable

PAGE = 8192
SHORT_HEADER = 24
LONG_HEADER = 40
PAYLOAD = PAGE - SHORT_HEADER
CHUNK = 128 * PAGE

MAJOR_OF_MAGIC = {0xD110: 15, 0xD113: 16, 0xD116: 17, 0xD118: 18}
"""The mark at the beginning of every page, by PostgreSQL's major version."""

_CONTINUES = 0x0001
_LONG = 0x0002
_REMOVABLE = 0x0004
_OVERWRITES = 0x0008
_ALL_FLAGS = _CONTINUES | _LONG | _REMOVABLE | _OVERWRITES
_HEADERS = struct.Struct(f"<HHIQI{PAGE - 20}x")
_IDENTITY = struct.Struct("<QII")
_ZERO_PAGE = bytes(PAGE)


def damaged(segment: str, offset: int, lsn: int, what: str) -> VerificationFailed:
    """The error for a place in the WAL that is not as it must be."""
    return VerificationFailed(
        f"WAL segment {segment}, offset {offset} (position {Lsn(lsn)}): {what}.",
        "Use another copy of this segment; without a good one, recovery ends before it.",
    )


@dataclass(frozen=True)
class Run:
    """Record bytes of consecutive pages, without the page headers.

    Attributes:
        address: the position of the first page.
        header: the size of the first page's header; the others have short ones.
        payload: the bytes between the headers.
        remaining: for each page, how many bytes of an earlier record it begins with.
        overwrites: the first page replaces the rest of a record that a crash cut short.
    """

    address: int
    header: int
    payload: bytes
    remaining: tuple[int, ...]
    overwrites: bool


class PageReader:
    """Reads the pages of consecutive segments and checks each header.

    The timeline in a page's header is that of the page's first record: it never exceeds the timeline in the segment's
    name and never falls. It may be smaller, for a new timeline's first segment begins with a copy of its parent's.

    Args:
        system_identifier: the cluster that the segments must come from.
        segment_size: in bytes.
    """

    def __init__(self, system_identifier: int, segment_size: int) -> None:
        self._system_identifier = system_identifier
        self._segment_size = segment_size
        self.timeline = 0
        self.magic = 0
        self._owed = 0

    @property
    def major(self) -> int | None:
        """PostgreSQL's major version that wrote the pages read so far."""
        return MAJOR_OF_MAGIC.get(self.magic)

    def skim(self, name: SegmentName, stream: Readable, *, partial: bool) -> Lsn:
        """Check the pages of one segment as :meth:`runs` does; return the position behind the last one in use."""
        start = end = name.start(self._segment_size)
        for address, pages, _ in self._chunks(name, stream, partial=partial):
            end = start + (address - start + len(pages))
        return end

    def runs(self, name: SegmentName, stream: Readable, *, partial: bool) -> Iterator[Run]:
        """The record bytes of one segment, about a megabyte at a time, up to its end or to its first empty page.

        Behind an empty page only empty pages may follow; all of them are read. With ``partial`` the stream may end
        early. The stream must hold no more than a segment.

        Raises:
            VerificationFailed: a page is not what belongs there; the segment is too short or too long.
        """
        for address, pages, absent in self._chunks(name, stream, partial=partial):
            yield from self._split(pages, address, absent)

    def _chunks(self, name: SegmentName, stream: Readable, *, partial: bool) -> Iterator[tuple[int, bytes, int]]:
        """Addresses, checked pages in use, and how many of their last bytes were not in the stream."""
        start = int(name.start(self._segment_size))
        offset = 0
        zeros = False
        while offset < self._segment_size:
            chunk = stream.read(min(CHUNK, self._segment_size - offset))
            if not chunk:
                if partial:
                    return
                raise damaged(str(name), offset, start + offset, "it ends here, too early")
            absent = -len(chunk) % PAGE
            if absent and not partial:
                cut = offset + len(chunk)
                raise damaged(str(name), cut, start + cut, "it ends here, too early")
            chunk += bytes(absent)
            used = 0 if zeros else self._used(chunk, start + offset, name)
            if used:
                yield start + offset, chunk[:used], absent if used == len(chunk) else 0
            zeros = zeros or used < len(chunk)
            if zeros and chunk.count(0, used) != len(chunk) - used:
                raise damaged(str(name), offset + used, start + offset + used, "an empty page is followed by others")
            offset += len(chunk)
        if stream.read(1):
            raise damaged(str(name), offset, start + offset, "bytes follow the end of the segment")

    def _used(self, chunk: bytes, address: int, name: SegmentName) -> int:
        """How many bytes of ``chunk`` come before its first empty page; the headers of these are checked."""
        for at, (magic, info, timeline, place, remaining) in zip(
            range(0, len(chunk), PAGE), _HEADERS.iter_unpack(chunk), strict=True
        ):
            if magic == 0 and chunk[at : at + PAGE] == _ZERO_PAGE:
                return at
            here = address + at
            first = here % self._segment_size == 0
            what = self._fault(magic, info, timeline, place, remaining, here, first, name)
            if what is None and first:
                what = self._stranger(*_IDENTITY.unpack_from(chunk, at + SHORT_HEADER))
            if what is not None:
                raise damaged(str(name), here % self._segment_size, here, what)
            self.magic, self.timeline = magic, timeline
            capacity = PAGE - (LONG_HEADER if first else SHORT_HEADER)
            self._owed = max(0, remaining - capacity)
        return len(chunk)

    def _fault(  # noqa: C901 one line for each field of the header
        self,
        magic: int,
        info: int,
        timeline: int,
        place: int,
        remaining: int,
        here: int,
        first: bool,
        name: SegmentName,
    ) -> str | None:
        if magic not in MAJOR_OF_MAGIC:
            return f"the page's mark {magic:#06x} belongs to no supported PostgreSQL"
        if self.magic and magic != self.magic:
            return f"the page comes from PostgreSQL {MAJOR_OF_MAGIC[magic]}, those before from {self.major}"
        if place != here:
            return f"the page belongs to position {Lsn(place)}"
        if timeline > name.timeline:
            return f"the page is of timeline {timeline}, the segment of timeline {name.timeline}"
        if timeline < max(1, self.timeline):
            return f"the page is of timeline {timeline}, the page before of timeline {self.timeline}"
        if info & ~_ALL_FLAGS:
            return f"the page has unknown flags {info:#06x}"
        if bool(info & _LONG) != first:
            return "the page's header has the wrong form for its place"
        if bool(info & _CONTINUES) != (remaining > 0):
            return "the page does not say clearly whether it continues a record"
        if info & _OVERWRITES:
            return None if remaining == 0 else "the page both continues and replaces a record"
        if self._owed and remaining != self._owed:
            return f"the page continues a record by {remaining} bytes where {self._owed} are missing"
        return None

    def _stranger(self, identifier: int, segment_size: int, page_size: int) -> str | None:
        if identifier != self._system_identifier:
            return f"the segment is of the server with system identifier {identifier}, not {self._system_identifier}"
        if segment_size != self._segment_size:
            return f"the segment says that segments have {segment_size} bytes, not {self._segment_size}"
        if page_size != PAGE:
            return f"the WAL has pages of {page_size} bytes; only {PAGE} can be read"
        return None

    def _split(self, pages: bytes, address: int, absent: int) -> Iterator[Run]:
        """The pages as runs; a page that replaces the rest of a record begins a new one.

        ``absent`` bytes at the end were never in the stream; what is left is cut to whole words.
        """
        headers = list(_HEADERS.iter_unpack(pages))
        begins = [0, *(at for at, header in enumerate(headers) if at and header[1] & _OVERWRITES), len(headers)]
        for begin, end in pairwise(begins):
            first = address + begin * PAGE
            header = LONG_HEADER if first % self._segment_size == 0 else SHORT_HEADER
            payload = [pages[begin * PAGE + header : (begin + 1) * PAGE]]
            payload += [pages[at * PAGE + SHORT_HEADER : (at + 1) * PAGE] for at in range(begin + 1, end)]
            remaining = tuple(header[4] for header in headers[begin:end])
            if end == len(headers) and absent:
                payload[-1] = payload[-1][: max(0, len(payload[-1]) - absent) & ~7]
            yield Run(first, header, b"".join(payload), remaining, bool(headers[begin][1] & _OVERWRITES))
