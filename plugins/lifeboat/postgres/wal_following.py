"""A WAL run that stays with the server: it receives what is written as it is written, and commits again and again.

    collect what there is ─▶ stay on the stream ─▶ every so often: switch ─▶ stream to there ─▶ commit ─▶ move the slot
                                    ▲                                                                         │
                                    └─────────────────────────────────────────────────────────────────────────┘

Each flush makes a recovery point like any other run's. An idle server is left alone: its segment is not switched, and
that nothing but its own housekeeping was written is the proof that it is covered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from time import monotonic

from lifeboat.errors import BackupFailed, Cancelled, PostgresError, TimelineConflict
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.connecting import TICK_SECONDS, failing_clearly, no_tick
from lifeboat.postgres.details import wal_details
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.slot import BUSY_SECONDS
from lifeboat.postgres.standby_following import follow_standby
from lifeboat.postgres.wal_collected import Collected
from lifeboat.postgres.wal_collection import WalCollection
from lifeboat.postgres.wal_points import Begun, Stretch, WalPoints
from lifeboat.postgres.wal_quiet import is_quiet
from lifeboat.postgres.wal_receiving import WalReceiver
from lifeboat.postgres.wal_server import is_idle, switch_segment, value, written
from lifeboat.postgres.wal_writing import SegmentWriter
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.source import Stay
from lifeboat.streams.stored import StoredStream
from lifeboat.targets.background import in_background

LOOK_SECONDS = 5.0
"""How often the server is asked how far it has written, and what it takes us for."""
_UNDECIDED_AT_MOST = 8
"""How often in a row a flush waits for what was written and not sent: asynchronous commits are, within a second."""
PROOF_EVERY = timedelta(minutes=15)
"""How often it is committed that an idle server is covered although it has written nothing."""


def follow_wal(
    repository: SystemRepository,
    source_name: str,
    source: PostgresSource,
    work: Work,
    journal: Journal,
    stay: Stay,
    flush_every: timedelta,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    tick: Callable[[], None] = no_tick,
    retain_until: datetime | None = None,
) -> Collected:
    """Bring and commit the WAL since the last run, then what is written meanwhile, for as long as told.

    Args:
        work: names the first recovery point; the others have ids of their own with the same four digits at the end.
        stay: for how long, and who is told of each recovery point.
        flush_every: how often what was written is committed, where anything was.

    Raises:
        LifeboatError: what is committed stays; what is not, is still kept by the server's slot.
    """
    points = WalPoints(repository, source_name, journal, retain_until)
    patience = max(BUSY_SECONDS, stay.lasting.total_seconds() if stay.lasting is not None else 0.0)
    collection = WalCollection(
        repository, source_name, source, work, points, progress=progress, tick=tick, patience=patience
    )
    begun = monotonic()
    with failing_clearly(), collection:
        collected = collection.collect()
        for copy in collected.copies:
            stay.committed(copy)
        if collected.gap and collected.due is not None:
            # Nothing that came after the gap can be reached before the full is made: it begins when this run has ended.
            return collected
        end = None if stay.lasting is None else begun + stay.lasting.total_seconds()
        if collection.standby:
            return follow_standby(collection, collected, stay, flush_every, end, tick)
        follower = _Follower(repository, collection, points, work, collected, stay, flush_every, end, tick)
        follower.follow()
        collection.gaps.look_again()
        copies, due = (*collected.copies, *follower.copies), collection.gaps.due
        return replace(collected, copies=copies, covered_until=follower.covered_until, due=due)


class _Follower:
    """One stay on the stream of the server's timeline."""

    def __init__(
        self,
        repository: SystemRepository,
        collection: WalCollection,
        points: WalPoints,
        work: Work,
        collected: Collected,
        stay: Stay,
        flush_every: timedelta,
        end: float | None,
        tick: Callable[[], None],
    ) -> None:
        self.copies: list[Copy] = []
        self.covered_until = collected.covered_until
        self._repository = repository
        self._collection = collection
        self._session = collection.session
        self._size = collection.server.segment_size
        self._points = points
        self._work = work
        self._stay = stay
        self._flush_every = flush_every.total_seconds()
        self._leave_at = end
        self._tick = tick
        self._last = collected.copies[-1]
        details = wal_details(self._last.manifest)
        self._timeline, self._branches_at = details.timeline, details.begins
        self._committed = details.end_lsn
        self._receiver = WalReceiver(collection.connection, collection.slot, confirmed=self._committed, tick=tick)
        self._batch: _Batch | None = None
        self._held = bytearray()
        self._wanted: Lsn | None = None
        self._flush_covers = collected.covered_until
        self._leaving = False
        self._look_at = 0.0
        self._flush_at = monotonic() + self._flush_every
        self._undecided = 0

    def follow(self) -> None:
        """Stay until it is time to leave; raises as :func:`follow_wal`."""
        if self._over():
            return
        try:
            self._receive()
        except BaseException as failure:
            self._leave_behind(failure)
            raise
        self._prove_idle(timedelta(seconds=self._flush_every))
        # A server that is in use wrote on while the last flush was stored.
        self._leave_behind(Cancelled("What came after the last flush is the next run's."))

    def _leave_behind(self, reason: BaseException) -> None:
        """What had arrived since the last flush stays with the server. Whole segments of it, committed without their
        switch, could end in the middle of a record: no restore could tell that from damage."""
        if self._batch is not None:
            self._batch.writer.abort(reason)
            self._batch = None

    def _receive(self) -> None:
        ended = self._receiver.follow(self._timeline, self._committed, self, self._attend)
        if ended.switch is not None:
            raise TimelineConflict(
                f"The server left timeline {self._timeline} at {ended.switch} while it was followed.",
                "It was promoted. The next run brings the end of the old timeline and goes on with the new one.",
            )

    # -- the stream's sink

    def write(self, start: Lsn, data: memoryview) -> None:
        """WAL that came: up to the position of a flush it belongs to the recovery point that the flush makes."""
        if self._batch is None and is_quiet(self._held + data):
            self._held += data
            return
        if self._held:
            start, data = self._committed, memoryview(bytes(self._held + data))
            self._held.clear()
        while data:
            if self._batch is None:
                self._batch = self._begin()
            piece = data if self._wanted is None else data[: self._wanted - start]
            self._batch.writer.write(start, piece)
            data = data[len(piece) :]
            start = Lsn(start + len(piece))
            if start == self._wanted:
                self._commit(self._wanted, self._flush_covers)
                self._wanted = None

    def _begin(self) -> _Batch:
        now = self._repository.outside.clock()
        work = replace(self._work, recovery_point=replace(self._work.recovery_point, begun=now))
        work = work.after(self._last.manifest.recovery_point)
        begun = self._points.begin(work, self._timeline, self._branches_at, self._last)
        writer = SegmentWriter(
            self._timeline,
            self._size,
            begun.destination,
            self._repository.wal_streams,
            tick=self._receiver.keep_alive,
        )
        return _Batch(begun, writer)

    # -- what is done about four times a second

    def _attend(self, position: Lsn) -> bool:
        now = monotonic()
        if self._wanted is not None:
            return True  # on the way to a flush's end
        if self._over():
            if self._leaving:
                return False
            self._leaving = self._flush()
        elif now >= self._flush_at:
            self._flush()
        elif now >= self._look_at:
            self._look()
            self._prove_idle(PROOF_EVERY)
        return True

    def _over(self) -> bool:
        return self._stay.enough() or (self._leave_at is not None and monotonic() >= self._leave_at)

    def _look(self) -> tuple[datetime, Lsn]:
        """See how far the server has written."""
        self._insist_on_asynchronous()
        moment, position = written(self._session)
        self._look_at = monotonic() + LOOK_SECONDS
        if self._is_idle(position):
            self.covered_until = moment
        return moment, position

    def _is_idle(self, written: Lsn) -> bool:
        """Whether all that the server has written since the last commit is here, and is housekeeping."""
        received = Lsn(self._committed + len(self._held))
        return self._batch is None and (received >= written or is_idle(self._committed, written))

    def _flush(self) -> bool:
        """Let the server end its segment, if it has written anything; what comes up to there is committed then.

        Returns:
            Whether that could be decided: what was written last may not have been sent yet.
        """
        moment, position = self._look()
        if self._batch is None and not self._is_idle(position) and self._undecided < _UNDECIDED_AT_MOST:
            self._undecided += 1
            return False
        self._undecided = 0
        self._flush_at = monotonic() + self._flush_every
        if not self._is_idle(position):
            self._flush_covers = moment
            self._wanted = switch_segment(self._session, self._size)
        return True

    def _insist_on_asynchronous(self) -> None:
        """A server that takes us for one of its synchronous standbys makes every commit wait for our next flush."""
        priority = value(
            self._session,
            "SELECT sync_priority FROM pg_catalog.pg_stat_replication WHERE pid = %s",
            self._receiver.server_process,
        )
        if priority:
            raise PostgresError(
                "The server counts us among its synchronous standbys: its commits would wait for our flushes.",
                "Name the standbys in synchronous_standby_names instead of writing *, or take names that begin with "
                "'lifeboat' out of it. Without `mode: follow` WAL is collected as before.",
            )

    # -- recovery points

    def _commit(self, end: Lsn, covered_until: datetime) -> None:
        """Commit what was received up to a segment's end; the stream is kept alive meanwhile."""
        batch = self._batch
        assert batch is not None
        streams = batch.writer.finish()
        self._insist_on_slot()
        stretch = self._stretch(end, covered_until, streams)
        self._committed_point(self._stored(batch, stretch))
        self._batch = None
        self._receiver.confirm(end)

    def _committed_point(self, copy: Copy) -> None:
        details = wal_details(copy.manifest)
        self._last = copy
        self._committed = details.end_lsn
        self.covered_until = details.covered_until
        self.copies.append(copy)
        self._stay.committed(copy)

    def _stretch(self, end: Lsn, covered_until: datetime, streams: tuple[StoredStream, ...] = ()) -> Stretch:
        findings, lost = self._collection.findings, self._collection.gaps.due
        return Stretch(self._committed, end, covered_until, streams, findings=findings, lost=lost)

    def _insist_on_slot(self) -> None:
        """While the slot is ours nobody else can have committed WAL: others need it before they look what there is."""
        statement = "SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
        holder = value(self._session, statement, self._collection.slot)
        if holder != self._receiver.server_process:
            raise BackupFailed(
                f"The replication slot {self._collection.slot!r} is no longer ours.",
                "The server ended our session: look at its log. The next run goes on from what was committed.",
            )

    def _stored(self, batch: _Batch, stretch: Stretch) -> Copy:
        """Commit beside us: a target that is slow must not keep the server waiting for a word."""
        future = in_background(partial(self._points.commit, batch.begun, self._collection.server, stretch))
        while True:
            try:
                return future.result(TICK_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
                self._receiver.keep_alive()

    def _prove_idle(self, every: timedelta) -> None:
        """Commit that an idle server is covered, where that was committed long ago."""
        proven = wal_details(self._last.manifest).covered_until
        if self._batch is not None or self.covered_until - proven < every:
            return
        batch = self._begin()
        stretch = self._stretch(self._committed, self.covered_until)
        self._committed_point(self._stored(batch, stretch))


class _Batch:
    """A recovery point on its way."""

    def __init__(self, begun: Begun, writer: SegmentWriter) -> None:
        self.begun = begun
        self.writer = writer
