"""One WAL run: the server's WAL since the last committed run, up to this moment, segment by segment.

    where do we stand ─▶ switch ─▶ stream to there ─▶ store ─▶ commit ─▶ and only then move the slot

The slot moves last: whatever dies before leaves the server keeping its WAL, and the next run brings it again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psycopg

from lifeboat.errors import LifeboatError, ManifestInvalid, PostgresError, SlotLost, TimelineConflict
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.details import WAL, WalDetails, as_details, wal_details
from lifeboat.postgres.full import ensure_slot, source_parameters
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.slot import Session, advance_slot, find_slot, wait_until_free
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.postgres.wal_planning import Leg, branch_in_words, plan_legs
from lifeboat.postgres.wal_receiving import SESSION_SETTINGS, WalReceiver
from lifeboat.postgres.wal_writing import SegmentWriter
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import Place, commit, newest_id, next_place, wrapped_keys
from lifeboat.repository.journal import EventKind, Journal
from lifeboat.repository.manifest import Manifest
from lifeboat.repository.system import PRIMARY, SystemRepository, Work, tool_versions
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter


@dataclass(frozen=True)
class Collected:
    """What a WAL run brought.

    Attributes:
        copies: a recovery point for each timeline, on the primary target.
        covered_until: every transaction committed by then is in the repository.
        gap: what was lost before it, in a sentence; empty when nothing was. A new full is needed after a gap.
        branch: that the server is not the one the repository expects, in a sentence; empty when it is.
    """

    copies: tuple[Copy, ...]
    covered_until: datetime
    gap: str = ""
    branch: str = ""

    @property
    def alarm(self) -> str:
        """What somebody must be told although WAL was committed."""
        return " ".join(filter(None, [self.gap, self.branch]))

    @property
    def received(self) -> int:
        """Plain bytes of WAL."""
        return sum(copy.manifest.plain_size for copy in self.copies)


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
    run = _Run(repository, source_name, source, work, journal, progress, tick, retain_until)
    return run.collect()


class _Run:
    def __init__(
        self,
        repository: SystemRepository,
        source_name: str,
        source: PostgresSource,
        work: Work,
        journal: Journal,
        progress: Callable[[int, int], None],
        tick: Callable[[], None],
        retain_until: datetime | None,
    ) -> None:
        self._repository = repository
        self._source_name = source_name
        self._work = work
        self._progress = progress
        self._tick = tick
        self._retain_until = retain_until
        self._catalogue = repository.catalogue(PRIMARY)
        self._slot = source.slot_name(repository.system, source_name)
        self._parameters = source_parameters(repository, source, what=f"wal {repository.system} {source_name}")
        self._event = partial(journal.write, source=source_name, recovery_point=str(work.recovery_point))
        self._gaps: list[str] = []
        self._branch = ""

    def collect(self) -> Collected:
        with ExitStack() as stack:
            session = stack.enter_context(connect_sql(self._parameters, tick=self._tick))
            self._ensure_slot(session)
            connection = stack.enter_context(
                ReplicationConnection(self._parameters, settings=SESSION_SETTINGS, tick=self._tick)
            )
            self._system_identifier = connection.identify_system().system_identifier
            self._segment_size = _segment_size(session)
            self._server_version = str(_value(session, "SELECT pg_catalog.current_setting('server_version')"))
            # The clock first: what was committed by then lies before the position that the switch returns.
            covered_until = _moment(session)
            stop = self._switch(session)
            history, document = _history(connection)
            legs = self._plan(session, history, stop)
            copies: list[Copy] = []
            for leg in legs:
                try:
                    copies.append(self._bring(leg, stop, connection, document, covered_until))
                except SlotLost:
                    if leg.end is None:
                        raise
                    # The rest of an old timeline is gone for ever: waiting for it would stop all that follows.
                    self._name_gap(leg.timeline, leg.start, leg.end)
            end = wal_details(copies[-1].manifest).end_lsn
            advance_slot(session, self._slot, end)
        return Collected(tuple(copies), covered_until, self._gap, self._branch)

    @property
    def _gap(self) -> str:
        return " ".join(self._gaps)

    def _ensure_slot(self, session: Session) -> None:
        wait_until_free(session, self._slot, tick=self._tick)
        ensure_slot(session, self._slot, self._note_event)

    def _note_event(self, kind: EventKind, **details: Any) -> None:
        if kind == "wal_gap":
            self._gaps.append(str(details.get("what", "")))
        self._event(kind, **details)

    def _switch(self, session: Session) -> Lsn:
        """End the segment that the server writes to, and return the position behind it. Nothing happens on an idle
        server: it stands at the beginning of a segment, and everything before is complete."""
        try:
            position = Lsn.parse(str(_value(session, "SELECT pg_catalog.pg_switch_wal()::text")))
        except psycopg.errors.InsufficientPrivilege as error:
            raise PostgresError(
                "The backup role may not switch WAL segments.",
                "Run as a superuser, in the database that the connection names: "
                "GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO <role>;",
            ) from error
        except psycopg.Error as error:
            raise PostgresError(
                f"The server did not switch its WAL segment: {error.diag.message_primary or type(error).__name__}.",
                "A standby can't: let the connection lead to the primary.",
            ) from error
        return Lsn(-(-position // self._segment_size) * self._segment_size)

    def _plan(self, session: Session, history: TimelineHistory, position: Lsn) -> list[Leg]:
        slot = find_slot(session, self._slot)
        if slot is None or slot.restart_lsn is None:
            raise SlotLost(
                f"The replication slot {self._slot!r} vanished.", "Somebody dropped it; the next run makes one."
            )
        newest = [copy for timeline in self._catalogue.timelines(self._source_name) if (copy := self._newest(timeline))]
        self._work = self._work.after(newest_id(newest))
        committed = {details.timeline: details for details in (wal_details(copy.manifest) for copy in newest)}
        self._branch = branch_in_words(committed, history)
        return plan_legs(
            committed,
            system_identifier=self._system_identifier,
            history=history,
            segment_size=self._segment_size,
            reserved_from=slot.restart_lsn,
            position=position,
        )

    def _newest(self, timeline: int) -> Copy | None:
        try:
            return self._catalogue.newest_wal(self._source_name, timeline)
        except ManifestInvalid as error:
            raise TimelineConflict(
                f"The newest WAL run of timeline {timeline} can't be believed: {error.what}",
                "Nothing is collected upon it, and the server keeps its WAL. Bring its manifest back from another "
                "target.",
            ) from error

    def _bring(
        self,
        leg: Leg,
        stop: Lsn,
        connection: ReplicationConnection,
        history: bytes | None,
        covered_until: datetime,
    ) -> Copy:
        stop = stop if leg.end is None else leg.end
        history = history if leg.end is None else None
        target = self._repository.target(PRIMARY)
        destination = self._repository.destination(
            target, self._source_name, self._work, timeline=leg.timeline, retain_until=self._retain_until
        )
        begun = self._repository.outside.clock()
        place = self._place(leg)
        receiver = WalReceiver(connection, self._slot, confirmed=leg.start, tick=self._tick)
        writer = SegmentWriter(
            leg.timeline,
            self._segment_size,
            destination,
            self._repository.streams,
            ends_at=leg.end,
            tick=receiver.keep_alive,
        )
        start, end = leg.start, max(stop, leg.start)
        more: tuple[StoredStream, ...] = ()
        try:
            if start < end:
                start, end = self._receive(receiver, writer, leg, end)
            streams = writer.finish()
            if history is not None and leg.timeline > 1 and place.previous is None:
                more = (_store(f"{leg.timeline:08X}.history", history, destination, self._repository),)
        except BaseException as failure:
            writer.abort(failure)
            raise
        partial_name = next((stream.name for stream in streams if stream.name.endswith(".partial")), None)
        details = WalDetails(
            system_identifier=self._system_identifier,
            timeline=leg.timeline,
            segment_size=self._segment_size,
            start_lsn=start,
            end_lsn=end,
            covered_until=covered_until,
            history=more[0].name if more else None,
            partial=partial_name,
            ended=leg.end is not None,
            begins=leg.begins,
        )
        manifest = Manifest(
            system=self._repository.system,
            source=self._source_name,
            recovery_point=str(self._work.recovery_point),
            attempt=self._work.attempt,
            timeline=leg.timeline,
            kind=WAL,
            tiers=self._work.tiers,
            sequence=place.sequence,
            previous=place.previous,
            chain=str(self._work.recovery_point),
            begun=begun,
            committed=self._repository.outside.clock(),
            moment=covered_until,
            findings=tuple(filter(None, [*self._gaps, self._branch])),
            degraded=destination.keyring.left_out,
            details=as_details(details),
            streams=(*streams, *more),
            wrapped_keys=wrapped_keys(destination.keyring.wrapping_keys),
            tool_versions=tool_versions() | {"postgresql": self._server_version},
            policy_digest=self._repository.loaded.digest,
            run=self._work.run,
            note=self._work.note,
        )
        self._nobody_else(leg, place)
        self._repository.keep_policy(target)
        copy = commit(target, manifest, self._repository.signer)
        if leg.end is not None:
            self._event("timeline_ended", timeline=leg.timeline, at=str(end))
        self._event(
            "backup_committed",
            target=PRIMARY,
            manifest=copy.sha256,
            sequence=manifest.sequence,
            start=str(start),
            end=str(end),
            segments=len(streams),
            stored_size=manifest.stored_size,
        )
        return copy

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
            slot = find_slot(session, self._slot)
        kept = slot.restart_lsn if slot is not None else None
        if kept is None or kept <= leg.start or leg.end is not None:
            raise lost
        first = Lsn(kept - kept % self._segment_size)
        self._name_gap(leg.timeline, leg.start, first)
        return first

    def _name_gap(self, timeline: int, start: Lsn, end: Lsn) -> None:
        what = (
            f"WAL of timeline {timeline} from {start} to {end} is lost: the server removed it before it was "
            "collected. A new full is needed: moments after the gap can be reached only from a full taken after it."
        )
        self._gaps.append(what)
        self._event("wal_gap", state="lost", timeline=timeline, start=str(start), end=str(end), what=what)

    def _place(self, leg: Leg) -> Place:
        newest = self._newest(leg.timeline)
        return next_place([newest] if newest is not None else [])

    def _nobody_else(self, leg: Leg, place: Place) -> None:
        if self._place(leg) != place:
            raise TimelineConflict(
                f"Another run has committed WAL of timeline {leg.timeline} meanwhile.",
                "Nothing is lost: that run's WAL is there, and this one's objects go with the next clean-up. Two "
                "runs for one source at a time have no use; two servers writing one timeline would be a fault to find.",
            )


def _store(name: str, content: bytes, destination: Destination, repository: SystemRepository) -> StoredStream:
    writer = StreamWriter(name, destination, repository.streams, plain_digest=True)
    writer.write(content)
    return writer.finish()


def _history(connection: ReplicationConnection) -> tuple[TimelineHistory, bytes | None]:
    timeline = connection.identify_system().timeline
    if timeline == 1:
        return TimelineHistory(1), None
    rows = connection.query(f"TIMELINE_HISTORY {timeline}")
    content = (rows[0][1] or "").encode()
    return TimelineHistory.parse(timeline, content), content


class _Told:
    """A writer that tells how far it has come."""

    def __init__(self, writer: SegmentWriter, total: int, progress: Callable[[int, int], None]) -> None:
        self._writer = writer
        self._total = total
        self._progress = progress

    def write(self, start: Lsn, data: memoryview) -> None:
        self._writer.write(start, data)
        self._progress(self._writer.received, self._total)


def _segment_size(session: Session) -> int:
    return int(str(_value(session, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'")))


def _moment(session: Session) -> datetime:
    moment = _value(session, "SELECT pg_catalog.clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment


def _value(session: Session, statement: str) -> object:
    row = session.execute(statement.encode()).fetchone()
    return row[0] if row is not None else None
