"""Names and arithmetic of the files that hold the write-ahead log.

A segment's name is 24 hexadecimal digits: timeline, then the number of the segment in two halves. How many bytes a
segment holds was chosen at ``initdb`` and is never written in its name, so every method that needs it asks for it.

Source: https://www.postgresql.org/docs/current/wal-internals.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from lifeboat.errors import PostgresError
from lifeboat.postgres.lsn import Lsn

MIB = 1024 * 1024
SMALLEST_SEGMENT = MIB
LARGEST_SEGMENT = 1024 * MIB
_LOG_FILE = 2**32
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})")
_FILE = re.compile(
    r"(?P<segment>[0-9A-F]{24})(?P<suffix>\.partial|\.[0-9A-F]{8}\.backup)?|(?P<history>[0-9A-F]{8})\.history"
)


def check_segment_size(segment_size: int) -> int:
    """Return ``segment_size`` when it is a power of two from 1 MiB to 1 GiB; else raise ``PostgresError``."""
    if not SMALLEST_SEGMENT <= segment_size <= LARGEST_SEGMENT or segment_size & (segment_size - 1):
        raise PostgresError(f"{segment_size} bytes is no WAL segment size: it must be a power of two, 1 MiB to 1 GiB.")
    return segment_size


@dataclass(frozen=True, order=True)
class SegmentName:
    """The name of one WAL segment; ``str`` gives it as a file name. Ordered by timeline, then by position.

    Attributes:
        timeline: the timeline it was written on, from 1.
        log: the second eight digits: which 4 GiB of the log.
        part: the last eight digits: which segment of these 4 GiB.
    """

    timeline: int
    log: int
    part: int

    @classmethod
    def parse(cls, text: str) -> SegmentName:
        """Read the 24 digits of a segment's name; raises ``PostgresError`` for anything else, suffixes included."""
        match = _SEGMENT.fullmatch(text)
        if match is None:
            raise PostgresError(f"{text!r} is no WAL segment name: it must be 24 hexadecimal digits in upper case.")
        name = cls(int(match[1], 16), int(match[2], 16), int(match[3], 16))
        if name.timeline == 0:
            raise PostgresError(f"{text!r} is no WAL segment name: timelines are counted from 1.")
        return name

    @classmethod
    def of(cls, timeline: int, lsn: Lsn, segment_size: int) -> SegmentName:
        """The segment that holds the byte at ``lsn``."""
        return cls.numbered(timeline, int(lsn) // check_segment_size(segment_size), segment_size)

    @classmethod
    def numbered(cls, timeline: int, number: int, segment_size: int) -> SegmentName:
        """The segment with this number, counted from the beginning of the log."""
        if not 1 <= timeline <= 0xFFFFFFFF:
            raise PostgresError(f"{timeline} is no timeline: they are counted from 1, in 32 bits.")
        log, part = divmod(number, _LOG_FILE // check_segment_size(segment_size))
        return cls(timeline, log, part)

    def number(self, segment_size: int) -> int:
        """Its number, counted from the beginning of the log; ``PostgresError`` when the size can't belong to it."""
        per_log = _LOG_FILE // check_segment_size(segment_size)
        if self.part >= per_log:
            raise PostgresError(f"WAL segment {self} can't exist with segments of {segment_size} bytes.")
        return self.log * per_log + self.part

    def start(self, segment_size: int) -> Lsn:
        """The position of its first byte."""
        return Lsn(self.number(segment_size) * segment_size)

    def end(self, segment_size: int) -> Lsn:
        """The position just behind its last byte, which is the start of the next segment."""
        return self.start(segment_size) + segment_size

    def next(self, segment_size: int) -> SegmentName:
        """The segment that follows it on the same timeline."""
        return SegmentName.numbered(self.timeline, self.number(segment_size) + 1, segment_size)

    def __str__(self) -> str:
        return f"{self.timeline:08X}{self.log:08X}{self.part:08X}"


def covering(start: Lsn, stop: Lsn, timeline: int, segment_size: int) -> Iterator[SegmentName]:
    """The segments that hold the bytes from ``start`` up to, and without, ``stop``, in order.

    None when both are equal; ``PostgresError`` when ``stop`` lies before ``start``.
    """
    if stop < start:
        raise PostgresError(f"No WAL leads from {start} back to {stop}.")
    first, behind = int(start) // check_segment_size(segment_size), -(-int(stop) // segment_size)
    if start == stop:
        behind = first
    return (SegmentName.numbered(timeline, number, segment_size) for number in range(first, behind))


class WalFileKind(StrEnum):
    """What a file of the ``pg_wal`` directory or of a WAL archive is, by its name."""

    SEGMENT = "segment"
    PARTIAL = "partial"
    HISTORY = "history"
    BACKUP_LABEL = "backup"


@dataclass(frozen=True)
class WalFile:
    """A file of the WAL by its name.

    Attributes:
        name: the name as it stands.
        kind: segment, piece of a segment at the end of a timeline, timeline history, or label of a base backup.
        timeline: the timeline it belongs to.
        segment: the segment it belongs to; ``None`` for a timeline history.
    """

    name: str
    kind: WalFileKind
    timeline: int
    segment: SegmentName | None

    @classmethod
    def parse(cls, name: str) -> WalFile:
        """Tell what ``name`` is; raises ``PostgresError`` when it is none of the files of a WAL."""
        match = _FILE.fullmatch(name)
        if match is None:
            raise PostgresError(f"{name!r} is no name of a WAL file.")
        if match["history"] is not None:
            return cls(name, WalFileKind.HISTORY, int(match["history"], 16), None)
        segment = SegmentName.parse(match["segment"])
        if match["suffix"] is None:
            kind = WalFileKind.SEGMENT
        else:
            kind = WalFileKind.PARTIAL if match["suffix"] == ".partial" else WalFileKind.BACKUP_LABEL
        return cls(name, kind, segment.timeline, segment)
