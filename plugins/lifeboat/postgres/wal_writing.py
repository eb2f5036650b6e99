"""WAL on its way to a target: cut into PostgreSQL's own segments, several of them under way at once."""

from __future__ import annotations

from collections.abc import Callable

from lifeboat.errors import BackupFailed
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.segments import SegmentName
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter, abort_all, one_of_many

PARTIAL = ".partial"
UNDER_WAY = 3
"""Segments whose upload may not have ended yet: bounds memory, and keeps a distant target busy."""


class SegmentWriter:
    """Cuts the WAL of one timeline into segments and stores each as a stream of its own name.

    Args:
        timeline: of the WAL.
        segment_size: bytes of a segment.
        destination: the attempt's folder.
        settings: the pipeline's figures.
        ends_at: where the timeline has ended, if it has: a segment that reaches beyond it is stored under ``.partial``,
            never under a whole one's name.
        tick: called while waiting for the target: keeps the replication connection alive.
    """

    def __init__(
        self,
        timeline: int,
        segment_size: int,
        destination: Destination,
        settings: StreamSettings,
        *,
        ends_at: Lsn | None = None,
        tick: Callable[[], None],
    ) -> None:
        self.received = 0
        self._timeline = timeline
        self._segment_size = segment_size
        self._destination = destination
        self._settings = one_of_many(settings)
        self._ends_at = ends_at
        self._tick = tick
        self._current: StreamWriter | None = None
        self._ending: list[StreamWriter] = []
        self._stored: list[StoredStream] = []

    def write(self, start: Lsn, data: memoryview) -> None:
        """Bytes of the timeline, beginning at ``start``."""
        while data:
            if self._current is None:
                self._current = self._begin(start)
            room = self._segment_size - start % self._segment_size
            piece, data = data[:room], data[room:]
            # No copy: psycopg gives each message memory of its own, which lives as long as the view.
            self._current.write(piece)
            self.received += len(piece)
            start += len(piece)
            if start % self._segment_size == 0:
                self._complete()

    def drop_unfinished(self) -> Lsn | None:
        """Give up the segment that was begun and is not full; returns where it begins, ``None`` without one."""
        if self._current is None:
            return None
        name, writer, self._current = self._current.name, self._current, None
        writer.abort()
        return SegmentName.parse(name.removesuffix(PARTIAL)).start(self._segment_size)

    def finish(self) -> tuple[StoredStream, ...]:
        """Wait for all segments, and say what was stored.

        Raises:
            BackupFailed: the last segment is not full, though the timeline goes on.
        """
        if self._current is not None:
            if not self._current.name.endswith(PARTIAL):
                raise BackupFailed(
                    f"The WAL of timeline {self._timeline} ended in the middle of {self._current.name}.",
                    "Nothing of this run was committed; the next run asks for it again.",
                )
            self._complete()
        while self._ending:
            self._store_oldest()
        return tuple(self._stored)

    def abort(self, failure: BaseException) -> None:
        """Give up what is under way."""
        abort_all([*self._ending, *([self._current] if self._current else [])], failure)

    def _begin(self, start: Lsn) -> StreamWriter:
        segment = SegmentName.of(self._timeline, start, self._segment_size)
        cut = self._ends_at is not None and segment.end(self._segment_size) > self._ends_at
        name = f"{segment}{PARTIAL}" if cut else str(segment)
        return StreamWriter(name, self._destination, self._settings, tick=self._tick, plain_digest=True)

    def _complete(self) -> None:
        assert self._current is not None
        self._current.end()
        self._ending.append(self._current)
        self._current = None
        if len(self._ending) > UNDER_WAY:
            self._store_oldest()

    def _store_oldest(self) -> None:
        self._stored.append(self._ending[0].finish())
        # Not before it is done: an abort must reach it.
        del self._ending[0]
