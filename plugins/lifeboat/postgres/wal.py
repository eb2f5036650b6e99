"""Proof that WAL segments lead without a gap from one position to another."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from datetime import datetime

from lifeboat.errors import VerificationFailed
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import SegmentName, WalFile, WalFileKind, check_segment_size
from lifeboat.postgres.wal_marks import RestorePoint
from lifeboat.postgres.wal_pages import PAGE, PageReader, damaged
from lifeboat.postgres.wal_records import RecordReader
from lifeboat.targets.target import Readable


@dataclass(frozen=True)
class SegmentSummary:
    """What one segment holds.

    Attributes:
        name: the file's name.
        timeline: the timeline of its last page; that of the name, except in a piece copied from a parent.
        major: PostgreSQL's major version that wrote it.
        start: the position of its first byte.
        end: up to where it was followed: behind its last whole record or, without records, its last page in use.
        records: whole records that end in it; 0 when records were not looked at.
        switched: the server closed it early: the rest is empty.
        last_commit: the latest moment of a commit seen up to its end; ``None`` when there was none.
    """

    name: str
    timeline: int
    major: int
    start: Lsn
    end: Lsn
    records: int
    switched: bool
    last_commit: datetime | None


class WalWalker:
    """Goes over consecutive segments in their order and proves that nothing is missing, foreign or changed.

    Every page's header is compared with what it must be. With ``records``, every record's link to the one before it,
    its length and (with ``checksums``) its CRC-32C are checked as well, over the borders of pages and segments: what
    PostgreSQL's own recovery checks. Without ``records`` a segment's bytes between the page headers are not
    looked at, and an end that was cut off and filled with zeros is not told from an early switch.

    A piece (``.partial``) may be followed by the segment of the same number on a later timeline, which begins with a
    copy of it.

    Args:
        system_identifier: the cluster that all segments must come from.
        segment_size: in bytes.
        start_lsn: where the first record begins, such as a base backup's start; the first segment fed must hold it.
            ``None`` begins with the first record of the first segment.
        follows: where the record before the first one lies, if that is known from what came before.
        records: look at the records.
        checksums: compute their CRC-32C.
    """

    def __init__(
        self,
        system_identifier: int,
        segment_size: int,
        start_lsn: Lsn | None = None,
        *,
        follows: Lsn | None = None,
        records: bool = True,
        checksums: bool = True,
    ) -> None:
        self._segment_size = check_segment_size(segment_size)
        self._pages = PageReader(system_identifier, segment_size)
        self._records = RecordReader(segment_size, start_lsn, follows=follows, checksums=checksums) if records else None
        self._start = start_lsn
        self._position = start_lsn or Lsn(0)
        self._last: SegmentName | None = None
        self._before_piece: tuple[PageReader, RecordReader | None] | None = None

    @property
    def position(self) -> Lsn:
        """Up to where the WAL is proven."""
        return self._position

    @property
    def records(self) -> int:
        """How many whole records were read."""
        return self._records.records if self._records else 0

    @property
    def last_record(self) -> Lsn | None:
        """Where the last record begins; the first one of what follows must name it."""
        return self._records.last if self._records else None

    @property
    def last_commit(self) -> datetime | None:
        """The latest moment of a commit that was seen, in UTC."""
        return self._records.marks.last_commit if self._records else None

    @property
    def last_transaction_end(self) -> datetime | None:
        """The latest moment of a commit or an abort that was seen: what ``recovery_target_time`` can stop at."""
        return self._records.marks.last_transaction_end if self._records else None

    @property
    def restore_points(self) -> tuple[RestorePoint, ...]:
        """The named restore points that were seen, in order."""
        return self._records.marks.restore_points if self._records else ()

    def feed(self, name: str | SegmentName, stream: Readable, *, until: Lsn | None = None) -> SegmentSummary:
        """Read the next segment, or a piece of it (``….partial``), to its end.

        Args:
            name: the file's name.
            stream: its plain bytes.
            until: for a piece, the position that it must reach; behind it only zeros may follow.

        Raises:
            VerificationFailed: it is not the next one, or not what it must be; the text names segment, offset and
                position. The walker is of no use afterwards.
        """
        file = WalFile.parse(str(name))
        if file.segment is None or file.kind not in (WalFileKind.SEGMENT, WalFileKind.PARTIAL):
            raise VerificationFailed(f"{file.name} is no WAL segment, so no WAL can be followed through it.")
        partial = file.kind is WalFileKind.PARTIAL
        self._check_order(file.segment)
        if partial:
            self._before_piece = copy(self._pages), self._records.copy() if self._records else None
        before = self.records
        end = self._read(file.segment, stream, partial=partial)
        self._last = file.segment
        start = file.segment.start(self._segment_size)
        switched = self._check_end(file.segment, end, partial=partial)
        if self._records is not None:
            self._position = self._records.position
        else:
            self._position = Lsn(start + self._segment_size) if not partial else end
        if until is not None and self._position < until:
            raise damaged(file.name, self._position - start, self._position, f"the records end here, before {until}")
        return SegmentSummary(
            file.name,
            self._pages.timeline,
            self._pages.major or 0,
            start,
            min(self._position, Lsn(start + self._segment_size)) if self._records else end,
            self.records - before,
            switched,
            self.last_commit,
        )

    def _check_order(self, segment: SegmentName) -> None:
        number = segment.number(self._segment_size)
        if self._last is None:
            if self._start is not None and number != int(self._start) // self._segment_size:
                raise VerificationFailed(
                    f"WAL segment {segment} does not hold position {self._start}, where the WAL must begin.",
                    f"Begin with {SegmentName.of(segment.timeline, self._start, self._segment_size)}.",
                )
            return
        before = self._last.number(self._segment_size)
        if self._before_piece is not None:
            if number != before or segment.timeline <= self._last.timeline:
                raise VerificationFailed(f"WAL segment {segment} can't follow the piece of {self._last}.")
            self._pages, self._records = self._before_piece
            self._before_piece = None
        elif number != before + 1 or segment.timeline < self._last.timeline:
            wanted = self._last.next(self._segment_size)
            raise VerificationFailed(
                f"WAL segment {wanted} is missing: {self._last} is followed by {segment}.",
                f"Look for {wanted} on the other targets; without it recovery ends at {self._position}.",
            )

    def _read(self, segment: SegmentName, stream: Readable, *, partial: bool) -> Lsn:
        """Read all pages; return the position behind the last one in use."""
        if self._records is None:
            return self._pages.skim(segment, stream, partial=partial)
        end = segment.start(self._segment_size)
        self._records.begin_segment(segment.timeline)
        for run in self._pages.runs(segment, stream, partial=partial):
            end = Lsn(run.address + len(run.remaining) * PAGE)
            self._records.read(run)
        return end

    def _check_end(self, segment: SegmentName, end: Lsn, *, partial: bool) -> bool:
        """See that a whole segment is in use to its end, or was closed early; return whether it was."""
        start = segment.start(self._segment_size)
        whole = end == start + self._segment_size
        if self._records is None or partial:
            if end == start and not partial:
                raise damaged(str(segment), 0, start, "the segment is empty")
            return not whole
        if self._records.ended:
            at = self._records.position
            raise damaged(str(segment), at - start, at, "the records end here, before the end of the segment")
        if not whole and not self._records.switched:
            raise damaged(str(segment), end - start, end, "an empty page stands where records should go on")
        return self._records.switched


def check_segment(
    stream: Readable, name: str | SegmentName, *, segment_size: int, system_identifier: int
) -> SegmentSummary:
    """Check the pages of one segment by itself, without its records; raises ``VerificationFailed``."""
    return WalWalker(system_identifier, segment_size, records=False).feed(name, stream)
