"""A physical backup: every tablespace in one streaming pass, its own WAL included.

A full stands alone. An incremental is the same pass, of what has changed since its parent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, datetime
from functools import partial
from threading import Thread

from lifeboat.errors import BackupFailed, PostgresError, SlotLost
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.base_backup import (
    MANIFEST_STREAM,
    BaseBackup,
    BaseBackupOptions,
    SentTablespace,
    stream_base_backup,
)
from lifeboat.postgres.connecting import connect_sql, failing_clearly, no_tick
from lifeboat.postgres.details import FULL, INCREMENTAL, FullDetails, IncrementalDetails, Tablespace, as_details
from lifeboat.postgres.manifest_upload import upload_manifest_of
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.reach import Base
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.server_checks import (
    bootstrap_superuser,
    insist_on_all_tablespaces,
    insist_on_parents_server,
    insist_on_same_cluster,
    insist_on_same_timeline,
    tablespace_names,
    whole_sizes,
)
from lifeboat.postgres.server_facts import ServerFacts, server_facts
from lifeboat.postgres.slot import Session, create_slot, drop_slot, find_slot
from lifeboat.postgres.standby import Bounds, is_standby, promoted
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import newest_id, next_place, refuse_if_committed
from lifeboat.repository.committing import Made, commit_made, journal_committed
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.system import PRIMARY, SystemRepository, Work
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter, abort_all

BASE_BACKUP_SLOT = "lifeboat_base_backup"
"""A temporary slot of this name is made in the session that runs the base backup. It keeps the WAL from its start
while the WAL collector moves the lasting slot on; and since names of slots are unique on a server, and a temporary one
goes with its session, it keeps two base backups of one server apart. (An advisory lock would hold within one database
only.)"""

Progress = Callable[[int, int], None]


def source_parameters(repository: SystemRepository, source: PostgresSource, *, what: str) -> ConnectionParameters:
    """libpq's parameters for a source, from its connection and the policy's TLS rules."""
    return connection_parameters(
        repository.outside.connection(source.connection),
        Tls(source.tls, source.tls_minimum),
        application_name=f"lifeboat {what}",
    )


def back_up_full(
    repository: SystemRepository,
    source_name: str,
    source: PostgresSource,
    work: Work,
    journal: Journal,
    *,
    progress: Progress = lambda _done, _total: None,
    tick: Callable[[], None] = no_tick,
    retain_until: datetime | None = None,
    remarks: tuple[str, ...] = (),
) -> Copy:
    """Make and commit a full backup on the primary target; as :func:`back_up_physical`, without a parent."""
    return back_up_physical(
        repository,
        source_name,
        source,
        work,
        journal,
        progress=progress,
        tick=tick,
        retain_until=retain_until,
        remarks=remarks,
    )


def back_up_physical(
    repository: SystemRepository,
    source_name: str,
    source: PostgresSource,
    work: Work,
    journal: Journal,
    *,
    parent: Base | None = None,
    still_fits: Callable[[Session], None] = lambda _: None,
    progress: Progress = lambda _done, _total: None,
    tick: Callable[[], None] = no_tick,
    retain_until: datetime | None = None,
    remarks: tuple[str, ...] = (),
) -> Copy:
    """Make and commit a physical backup on the primary target.

    Args:
        work: names a recovery point of kind ``incremental`` with a parent, of kind ``full`` without.
        parent: the link on the primary target to which it shall be incremental; ``None`` for a full.
        still_fits: asked once the server has sent everything, and before anything is committed; raises when the parent
            does not fit after all.
        progress: told the bytes read and the bytes expected.
        tick: called about four times a second; may raise to cancel.
        retain_until: the object lock, if the target sets one.
        remarks: sentences for the manifest's findings.

    Returns:
        The committed recovery point; one whose pages the server found damaged has ``state == "damaged"``.

    Raises:
        ParentRefused: the server can't build upon the parent; nothing was committed.
        LifeboatError: nothing was committed.
    """
    kind = FULL if parent is None else INCREMENTAL
    target = repository.target(PRIMARY)
    catalogue = repository.catalogue(PRIMARY)
    refuse_if_committed(target, RecoveryPointFolder(repository.system, source_name, str(work.recovery_point)))
    earlier = catalogue.recovery_points(source_name, deleted=True)
    work = work.after(newest_id(earlier.of_kind(kind)))
    destination = repository.destination(target, source_name, work, retain_until=retain_until)
    begun = repository.outside.clock()
    point = str(work.recovery_point)
    write_event = partial(journal.write, source=source_name, recovery_point=point)
    parameters = source_parameters(repository, source, what=f"{kind} {repository.system} {source_name}")
    with ExitStack() as stack:
        stack.enter_context(failing_clearly())
        session = stack.enter_context(connect_sql(parameters, tick=tick))
        facts = server_facts(session)
        standby = is_standby(session, allowed=source.standby)
        insist_on_same_cluster(facts, earlier.of_kind(FULL))
        if parent is not None:
            insist_on_parents_server(facts, parent)
        ensure_slot(session, source.slot_name(repository.system, source_name), write_event)
        write_event("backup_begun", target=PRIMARY, attempt=work.attempt, tiers=list(work.tiers))
        bounds = Bounds(session, standby=standby)
        tablespaces = tablespace_names(session)
        connection = stack.enter_context(ReplicationConnection(parameters, tick=tick))
        reserve(connection)
        if parent is not None:
            upload_manifest_of(repository, parent, connection, tick=tick)
        archives = _Archives(destination, repository.streams, progress, tick)
        try:
            backup = stream_base_backup(
                connection,
                BaseBackupOptions(
                    label=f"lifeboat {point}",
                    checkpoint=source.checkpoint,
                    manifest_checksums=source.manifest_checksums,
                    max_rate=source.max_rate,
                    incremental=parent is not None,
                ),
                archives,
                tick=tick,
            )
            # At once: what is committed while the last bytes are stored is no part of this backup.
            bounds.end()
            still_fits(session)
            streams = archives.finish()
        except BaseException as failure:
            # Side by side: each may need a moment, and a stopped task has few.
            closing = Thread(target=connection.close, name="close", daemon=True)
            closing.start()
            archives.abort(failure)
            closing.join()
            raise
        started, stopped = bounds.around(backup.stop)
        details = _details(
            facts, bootstrap_superuser(session), backup, started, stopped, streams, standby=standby, due=work.due
        )
        if parent is not None:
            details = IncrementalDetails(
                **dict(details), parent_manifest=parent.copy.sha256, whole=whole_sizes(session, backup)
            )
        insist_on_all_tablespaces(tablespaces, session, backup)
        insist_on_same_timeline(facts, backup)
        # Under the reservation still: another one would take the same place in the row.
        place = next_place(catalogue.recovery_points(source_name, deleted=True).of_kind(kind))
        made = Made(
            begun=begun,
            moment=started if standby else stopped,
            state="damaged" if backup.damage else "good",
            findings=tuple(filter(None, [backup.damage, *remarks, *backup.notices, promoted(source.standby, standby)])),
            details=as_details(details),
            streams=streams,
            chain=parent.manifest.chain if parent is not None else point,
            parent=parent.manifest.recovery_point if parent is not None else None,
            versions={"postgresql": facts.version},
        )
        copy = commit_made(repository, source_name, work, place, made, retain_until=retain_until)
    manifest = copy.manifest
    journal_committed(
        journal, copy, **({"parent": manifest.parent, "chain": manifest.chain} if parent is not None else {})
    )
    if backup.damage:
        write_event("backup_damaged", target=PRIMARY, report=backup.damage, notices=list(backup.notices))
    return copy


def ensure_slot(session: Session, name: str, write_event: Callable[..., object]) -> None:
    """See to it that the lasting slot exists with WAL reserved, before the first full reads anything.

    A slot that has lost WAL is made anew: the backup that follows begins a new chain, and the gap is named by the next
    WAL run.
    """
    try:
        slot = find_slot(session, name)
    except SlotLost as lost:
        write_event("wal_gap", state="lost", slot=name, what=str(lost))
        drop_slot(session, name)
        slot = None
    if slot is not None and slot.restart_lsn is None:
        # Made by hand without reserving WAL: it keeps nothing.
        drop_slot(session, name)
        slot = None
    if slot is None:
        made = create_slot(session, name)
        write_event("slot_created", slot=name, restart_lsn=str(made.restart_lsn))


def reserve(connection: ReplicationConnection) -> None:
    """Make the session's temporary slot.

    Raises:
        BackupFailed: another base backup of this server is under way.
    """
    try:
        connection.query(f"CREATE_REPLICATION_SLOT {BASE_BACKUP_SLOT} TEMPORARY PHYSICAL (RESERVE_WAL true)")
    except PostgresError as error:
        if "already exists" not in error.what:
            raise
        raise BackupFailed(
            f"Another base backup of this server is under way: the temporary slot {BASE_BACKUP_SLOT!r} is taken.",
            "Let it end, and try again. After a worker's death the server frees the slot when it notices the broken "
            "connection, within a few minutes.",
        ) from error


def _details(
    facts: ServerFacts,
    superuser: str,
    backup: BaseBackup,
    started: datetime,
    stopped: datetime,
    streams: tuple[StoredStream, ...],
    *,
    standby: bool,
    due: date | None,
) -> FullDetails:
    return FullDetails(
        system_identifier=facts.system_identifier,
        timeline=backup.start_timeline,
        start_lsn=backup.start,
        stop_lsn=backup.stop,
        started=started,
        stopped=stopped,
        superuser=superuser,
        tablespaces=tuple(_tablespace(sent) for sent in backup.tablespaces),
        plain_total=sum(stream.plain_size for stream in streams),
        server=facts,
        standby=standby,
        due=due,
    )


def _tablespace(sent: SentTablespace) -> Tablespace:
    return Tablespace(oid=sent.oid, location=sent.location, archive=sent.archive)


class _Archives:
    """Gives each of the server's streams a writer of its own."""

    def __init__(
        self, destination: Destination, settings: StreamSettings, progress: Progress, tick: Callable[[], None]
    ) -> None:
        self._tick = tick
        self._destination = destination
        self._settings = settings
        self._progress = progress
        self._writers: list[StreamWriter] = []
        self._stored: list[StoredStream] = []

    def begin(self, name: str) -> None:
        if self._writers:
            self._writers[-1].end()
        # One archive may finish its upload while the next begins; with hundreds of tablespaces memory stays the same.
        while len(self._writers) > 1:
            self._stored.append(self._writers[0].finish())
            # Not before it is done: an abort must reach it.
            del self._writers[0]
        self._writers.append(
            StreamWriter(name, self._destination, self._settings, tick=self._tick, plain_digest=name == MANIFEST_STREAM)
        )

    def write(self, data: memoryview) -> None:
        self._writers[-1].write(data)

    def progress(self, done: int, total: int) -> None:
        self._progress(done, total)

    def finish(self) -> tuple[StoredStream, ...]:
        self._stored.extend(writer.finish() for writer in self._writers)
        return tuple(self._stored)

    def abort(self, failure: BaseException) -> None:
        abort_all(self._writers, failure)
