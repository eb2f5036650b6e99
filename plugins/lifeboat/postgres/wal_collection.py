"""One WAL run: the server's WAL since the last committed run, up to this moment, segment by segment.

    where do we stand ─▶ switch ─▶ stream to there ─▶ store ─▶ commit ─▶ and only then move the slot

The slot moves last: whatever dies before leaves the server keeping its WAL, and the next run brings it again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any

from lifeboat.errors import LifeboatError, PostgresError, SlotLost, TimelineConflict
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.connecting import connect_sql, failing_clearly, no_tick
from lifeboat.postgres.details import LostWal, wal_details
from lifeboat.postgres.full import ensure_slot, source_parameters
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.slot import BUSY_SECONDS, Session, advance_slot, find_slot, held_by, wait_until_free
from lifeboat.postgres.standby import hold_alone, is_standby, promoted, replayed, replayed_up_to
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.postgres.wal_collected import Collected
from lifeboat.postgres.wal_gaps import Gaps
from lifeboat.postgres.wal_planning import Leg, branch_in_words, plan_legs
from lifeboat.postgres.wal_points import Stretch, WalPoints
from lifeboat.postgres.wal_receiving import SESSION_SETTINGS, WalReceiver
from lifeboat.postgres.wal_server import WalServer, clock, server_history, switch_segment
from lifeboat.postgres.wal_writing import SegmentWriter
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import newest_id
from lifeboat.repository.journal import EventKind, Journal
from lifeboat.repository.system import SystemRepository, Work


def receiver_name(system: str, source: str) -> str:
    """What the session that collects WAL calls itself (``application_name``)."""
    return f"lifeboat wal {system} {source}"


def collect_wal(
    repository: SystemRepository,
    source_name: str,
    source: PostgresSource,
    work: Work,
    journal: Journal,
    *,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    tick: Callable[[], None] = no_tick,
    retain_until: datetime | None = None,
) -> Collected:
    """Bring and commit the WAL since the last run, on the primary target.

    An idle server has nothing to bring; the run is committed all the same, as the proof that nothing is missing.

    Raises:
        LifeboatError: what was not committed is still kept by the server's slot.
    """
    points = WalPoints(repository, source_name, journal, retain_until)
    collection = WalCollection(repository, source_name, source, work, points, progress=progress, tick=tick)
    with failing_clearly(), collection:
        return collection.collect()


class WalCollection:
    """One run's connections, open while it is entered, and what it learnt over them.

    Attributes:
        session: for SQL.
        connection: for replication.
        slot: the name of the slot that keeps the server's WAL.
        server: whose WAL it is.
        branch: that the server is not the one the repository expects, in a sentence.
        standby: whether it is a standby.
    """

    session: Session
    connection: ReplicationConnection
    server: WalServer

    def __init__(
        self,
        repository: SystemRepository,
        source_name: str,
        source: PostgresSource,
        work: Work,
        points: WalPoints,
        *,
        progress: Callable[[int, int], None],
        tick: Callable[[], None],
        patience: float = BUSY_SECONDS,
    ) -> None:
        self._repository = repository
        self._work = work
        self._points = points
        self._progress = progress
        self._tick = tick
        self._patience = patience
        self.slot = source.slot_name(repository.system, source_name)
        self._application = receiver_name(repository.system, source_name)
        what = self._application.removeprefix("lifeboat ")
        self._parameters = source_parameters(repository, source, what=what)
        self._objective = repository.policy.objectives.rpo_of(source_name)
        self._uncollected_since: datetime | None = None
        self._new_gaps = partial(Gaps, repository, source_name, self._note, tick)
        self.gaps = self._new_gaps()
        self.branch = ""
        self._standby_wanted = source.standby
        self._promotion = ""
        self.standby = False
        self._stack = ExitStack()

    def __enter__(self) -> WalCollection:
        with ExitStack() as stack:
            self.session = stack.enter_context(connect_sql(self._parameters, tick=self._tick))
            self.standby = is_standby(self.session, allowed=self._standby_wanted)
            self._wait_for_others()
            self._wait_for_slot()
            ensure_slot(self.session, self.slot, self.gaps.event)
            self.connection = stack.enter_context(
                ReplicationConnection(self._parameters, settings=SESSION_SETTINGS, tick=self._tick)
            )
            self.server = WalServer.asked(self.session, self.connection.identify_system().system_identifier)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def findings(self) -> tuple[str, ...]:
        """What a person should know of the server, whatever is collected."""
        return tuple(filter(None, [self.branch, promoted(self._standby_wanted, self.standby)]))

    def _wait_for_others(self) -> None:
        """The slot is held while WAL is streamed, the lock until it is committed, too."""
        words = self._application
        hold_alone(self.session, words, seconds=self._patience, tick=self._tick)

    def _wait_for_slot(self) -> None:
        """The run before may still be at its last flush; and where it is behind, it does our work meanwhile."""
        try:
            wait_until_free(self.session, self.slot, tick=self._tick)
        except PostgresError:
            more = self._patience - BUSY_SECONDS
            if more <= 0 or not held_by(self.session, self.slot, self._application):
                raise
            wait_until_free(self.session, self.slot, tick=self._tick, seconds=more)

    def collect(self) -> Collected:
        """Bring what there is, commit it, and move the slot."""
        covered_until, stop = self._end()
        history, document = server_history(self.connection)
        copies: list[Copy] = []
        for leg in self._plan(history, stop):
            try:
                copies.append(self._bring(leg, stop, document, covered_until))
            except SlotLost:
                if leg.end is None:
                    raise
                # The rest of an old timeline is gone for ever: waiting for it would stop all that follows.
                self.gaps.is_lost(LostWal(timeline=leg.timeline, start=leg.start, end=leg.end))
        advance_slot(self.session, self.slot, wal_details(copies[-1].manifest).end_lsn)
        self.gaps.is_collected(self._uncollected_since, covered_until, self._objective)
        return Collected(
            tuple(copies), covered_until, " ".join(self.gaps.lost), self.gaps.due, self.branch, self._promotion
        )

    def collect_again(self) -> Collected:
        """Bring what has come since, as recovery points of their own."""
        point = replace(self._work.recovery_point, begun=self._repository.outside.clock())
        self._work = replace(self._work, recovery_point=point)
        self.gaps = self._new_gaps()
        return self.collect()

    def _end(self) -> tuple[datetime, Lsn]:
        """Up to where this run goes, and the moment that is covered then."""
        if not self.standby:
            # The clock first: what was committed by then lies before the position that the switch returns.
            return clock(self.session), switch_segment(self.session, self.server.segment_size)
        # The end of a record, wherever in a segment that is: nobody but the primary can end one.
        timeline = self.connection.identify_system().timeline
        committed = self._points.newest_of(timeline)
        known = wal_details(committed.manifest) if committed is not None else None
        if known is None or known.system_identifier != self.server.system_identifier:
            mark = replayed(self.session)
            return mark.moment, mark.position
        mark = replayed_up_to(self.session, known.end_lsn, tick=self._tick)
        # After a restart a standby does not remember the transaction that it replayed last.
        return max(mark.moment, known.covered_until), mark.position

    def _note(self, kind: EventKind, **details: Any) -> None:
        self._points.note(kind, self._work, **details)

    def _plan(self, history: TimelineHistory, position: Lsn) -> list[Leg]:
        slot = find_slot(self.session, self.slot)
        if slot is None or slot.restart_lsn is None:
            raise SlotLost(
                f"The replication slot {self.slot!r} vanished.", "Somebody dropped it; the next run makes one."
            )
        newest = self._points.newest()
        self._work = self._work.after(newest_id(newest))
        committed = {details.timeline: details for details in (wal_details(copy.manifest) for copy in newest)}
        self.branch = branch_in_words(committed, history)
        lineage = {history.timeline, *(switch.parent for switch in history.switches)}
        known = [details.covered_until for details in committed.values() if details.timeline in lineage]
        self._uncollected_since = max(known, default=None)
        if self.standby and newest:
            # On a standby the moments stand still while nothing is written: what came since then was not there before.
            begun = max(copy.manifest.begun for copy in newest)
            self._uncollected_since = max(filter(None, [self._uncollected_since, begun]))
        last = max(newest, key=lambda copy: copy.manifest.recovery_point, default=None)
        # People are told once; every recovery point says it.
        if last is not None and wal_details(last.manifest).standby:
            self._promotion = promoted(self._standby_wanted, self.standby)
        legs = plan_legs(
            committed,
            system_identifier=self.server.system_identifier,
            history=history,
            segment_size=self.server.segment_size,
            reserved_from=slot.restart_lsn,
            position=position,
        )
        self.gaps.begin(committed, history, legs[0].start)
        return legs

    def _bring(self, leg: Leg, stop: Lsn, history: bytes | None, covered_until: datetime) -> Copy:
        stop = stop if leg.end is None else leg.end
        history = history if leg.end is None else None
        before = self._points.newest_of(leg.timeline)
        begun = self._points.begin(self._work, leg.timeline, leg.begins, before)
        receiver = WalReceiver(self.connection, self.slot, confirmed=leg.start, tick=self._tick)
        writer = SegmentWriter(
            leg.timeline,
            self.server.segment_size,
            begun.destination,
            self._repository.wal_streams,
            ends_at=stop if self.standby else leg.end,
            tick=receiver.keep_alive,
        )
        start, end = leg.start, max(stop, leg.start)
        if self.standby and before is not None and wal_details(before.manifest).end_lsn == stop:
            start = stop  # nothing was written since: its segment need not be stored once more
        try:
            if start < end:
                start, end = self._receive(receiver, writer, leg, end)
            streams = writer.finish()
            file = self._points.history_file(begun, history)
        except BaseException as failure:
            writer.abort(failure)
            raise
        self._points.insist_on_place(begun)
        stretch = Stretch(
            start,
            end,
            covered_until,
            streams,
            file,
            ended=leg.end is not None,
            findings=(*self.gaps.lost, *self.findings),
            standby=self.standby,
            lost=self.gaps.due,
        )
        return self._points.commit(begun, self.server, stretch)

    def _receive(self, receiver: WalReceiver, writer: SegmentWriter, leg: Leg, end: Lsn) -> tuple[Lsn, Lsn]:
        """Receive a leg; returns from where to where. WAL that the server no longer has is a gap: it is named, and
        collection goes on where the server still has it."""
        start = leg.start
        try:
            ended = receiver.receive(leg.timeline, start, end, _Told(writer, end - start, self._progress))
        except SlotLost as lost:
            writer.drop_unfinished()
            start = self._first_kept(leg, lost)
            ended = receiver.receive(leg.timeline, start, end, _Told(writer, end - start, self._progress))
        if ended.position < end:
            # The timeline ended under our eyes: the piece of its last segment is brought again under its own name.
            piece = writer.drop_unfinished()
            raise TimelineConflict(
                f"The server left timeline {leg.timeline} at {ended.switch} while its WAL was read.",
                "It was promoted. Nothing of this run was committed; the next run brings the end of the old timeline "
                f"as .partial{f' from {piece}' if piece is not None else ''} and goes on with the new one.",
            )
        return start, end

    def _first_kept(self, leg: Leg, lost: LifeboatError) -> Lsn:
        with connect_sql(self._parameters, tick=self._tick) as session:
            slot = find_slot(session, self.slot)
        kept = slot.restart_lsn if slot is not None else None
        if kept is None or kept <= leg.start or leg.end is not None:
            raise lost
        first = Lsn(kept - kept % self.server.segment_size)
        self.gaps.is_lost(LostWal(timeline=leg.timeline, start=leg.start, end=first))
        return first


class _Told:
    """A writer that tells how far it has come."""

    def __init__(self, writer: SegmentWriter, total: int, progress: Callable[[int, int], None]) -> None:
        self._writer = writer
        self._total = total
        self._progress = progress

    def write(self, start: Lsn, data: memoryview) -> None:
        self._writer.write(start, data)
        self._progress(self._writer.received, self._total)
