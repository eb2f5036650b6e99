"""An export: every chosen table of every database in every format, in one snapshot of each database, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

import psycopg

from lifeboat.errors import BackupFailed
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.advisory_lock import wait_for_lock
from lifeboat.postgres.exports.choosing import Hidden
from lifeboat.postgres.exports.packing import Packer
from lifeboat.postgres.exports.queries import MAKE_MASK_KEY, copy_statement
from lifeboat.postgres.exports.records import (
    EXPORT,
    TABLES_STREAM,
    ColumnRecord,
    ExportDetails,
    ExportedDatabase,
    FileRecord,
    MaskedColumn,
    TableRecord,
)
from lifeboat.postgres.exports.session import Sql, copy_out, exact_session, export_parameters
from lifeboat.postgres.exports.snapshot import (
    TABLES_AT_ONCE,
    choice_of,
    in_batches,
    relation_of,
    survey,
    take_snapshot,
)
from lifeboat.postgres.exports.tables import (
    Inventory,
    Table,
    read_columns,
)
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.past_server import PastServer
from lifeboat.postgres.standby import is_standby, promoted
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import newest_id, next_place, refuse_if_committed
from lifeboat.repository.committing import Made, commit_made, journal_begun, journal_committed
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.system import PRIMARY, SystemRepository, Work

Progress = Callable[[int, int], None]
LEAVING_SECONDS = 3.0
"""A session that was closed has its locks until the server's process has ended."""


def back_up_export(
    repository: SystemRepository,
    source_name: str,
    source: PostgresSource,
    work: Work,
    journal: Journal,
    *,
    progress: Progress,
    tick: Callable[[], None],
    retain_until: datetime | None = None,
    past: PastServer | None = None,
) -> Copy:
    """Make and commit an export on the primary target.

    Args:
        work: with ``only``, patterns of tables: a partial export, which counts for no tier.
        progress: told the plain bytes read; how many there will be nobody knows.
        tick: called about four times a second; may raise to cancel.
        retain_until: the object lock, if the target sets one.
        past: the server that is read in the source's place; the export stands for its moment then.

    Raises:
        PolicyError: a list names what is not there.
        LifeboatError: nothing was committed.
    """
    target = repository.target(PRIMARY)
    catalogue = repository.catalogue(PRIMARY)
    refuse_if_committed(target, RecoveryPointFolder(repository.system, source_name, str(work.recovery_point)))
    if past is None:
        work = work.after(newest_id(catalogue.recovery_points(source_name, deleted=True).of_kind(EXPORT)))
    if work.only:
        work = replace(work, tiers=())
    begun = repository.outside.clock()
    destination = repository.destination(target, source_name, work, retain_until=retain_until)
    packer = Packer(destination, repository.streams, begun, tick=tick)

    def living(database: str | None = None) -> ConnectionParameters:
        return export_parameters(repository, source, "export", database=database)

    def tick_and_tell() -> None:
        tick()
        progress(packer.plain_size, 0)

    with ExitStack() as stack:
        to = living if past is None else past.parameters
        session = stack.enter_context(exact_session(to(), tick=tick))
        standby = is_standby(session, allowed=source.standby)
        lock = f"lifeboat export {repository.system} {source_name}"
        if past is None:
            _keep_others_out(session, lock, f"{repository.system} {source_name}", tick)
        export = _Export(to, source, work.only, packer, tick_and_tell, past.moment if past is not None else None)
        export.survey(session)
        journal_begun(journal, source_name, work)
        try:
            for database in export.inventories:
                export.database(database)
            packer.records(TABLES_STREAM, b"".join(export.records))
            streams = packer.finish()
        except BaseException as failure:
            packer.abort(failure)
            raise
        details = export.details(session, standby=standby)
        partial_words = (f"A partial export: {', '.join(work.only)}.",) if work.only else ()
        alarm = promoted(source.standby, standby) if past is None else ""
        made = Made(
            begun=begun,
            moment=min(database.moment for database in details.databases),
            findings=(*partial_words, *export.remarks, *filter(None, [alarm])),
            details=details.model_dump(mode="json"),
            streams=streams,
            rebuilt=past.rebuilt if past is not None else None,
            versions={"postgresql": details.version},
        )
        # Under the lock still, or again: another one would take the same place in the row.
        with past.row(lock) if past is not None else nullcontext():
            place = next_place(catalogue.recovery_points(source_name, deleted=True).of_kind(EXPORT))
            copy = commit_made(repository, source_name, work, place, made, retain_until=retain_until)
    journal_committed(journal, copy)
    return copy


def _keep_others_out(session: Sql, lock: str, what: str, tick: Callable[[], None]) -> None:
    """Two exports at once would take the same place in their row. The lock goes with its session."""
    if not wait_for_lock(session, lock, tick=tick, seconds=LEAVING_SECONDS):
        raise BackupFailed(
            f"Another export of {what} is under way.",
            "Let it end, and try again. After a worker's death the server frees its lock when it notices the broken "
            "connection, within a few minutes.",
        )


class _Wanted(NamedTuple):
    """A table under the snapshot."""

    table: Table
    columns: tuple[ColumnRecord, ...]
    primary_key: tuple[str, ...]


class _Export:
    """One export on its way."""

    def __init__(
        self,
        to: Callable[[str], ConnectionParameters],
        source: PostgresSource,
        only: tuple[str, ...],
        packer: Packer,
        tick: Callable[[], None],
        stands_for: datetime | None,
    ) -> None:
        self._to = to
        self._stands_for = stands_for
        self._source = source
        self._only = only
        self._packer = packer
        self._tick = tick
        self._databases: list[ExportedDatabase] = []
        self._masked: dict[str, MaskedColumn] = {}
        self.inventories: dict[str, Inventory] = {}
        self.records: list[bytes] = []
        self.remarks: tuple[str, ...] = ()

    def survey(self, session: Sql) -> None:
        """Look at what there is, and insist on the policy's lists' fitting it, before anything is written."""
        self.inventories = survey(self._to, self._source, session, tick=self._tick)
        choice = choice_of(self.inventories, self._source, self._only)
        choice.insist()
        self.remarks = choice.remarks

    def database(self, name: str) -> None:
        """Export one database."""
        with exact_session(self._to(name), tick=self._tick) as session:
            session.execute(MAKE_MASK_KEY)
            taken, encoding, choice = take_snapshot(session, name, self.inventories, self._source, self._only)
            tables, rows = choice.tables[name], 0
            for some in in_batches(tables, TABLES_AT_ONCE):
                columns = read_columns(session, [table.oid for table in some])
                for table in some:
                    wanted = _Wanted(table, *columns[table.oid])
                    rows += self._table(session, wanted, choice.masks.get((name, table.oid), {}), encoding)
            session.execute("COMMIT")
        self._databases.append(
            ExportedDatabase(
                name=name, encoding=encoding, moment=self._stands_for or taken, tables=len(tables), rows=rows
            )
        )

    def _table(self, session: Sql, wanted: _Wanted, masks: Mapping[str, Hidden], encoding: str) -> int:
        table = wanted.table
        columns = tuple(_recorded(column, masks.get(column.name)) for column in wanted.columns)
        files: list[FileRecord] = []
        rows: set[int] = set()
        for format_name in self._source.export.formats:
            statement = copy_statement(relation_of(table), columns, format_name, masks, only=table.kind != "p")
            what = f"table {table.path} of database {table.database}"
            file = self._packer.file(table.database, table.schema, table.name, format_name)
            header = format_name == "csv"
            for row in copy_out(session, statement.as_string(session), what, tick=self._tick):
                if encoding == "SQL_ASCII":
                    _insist_on_utf8(row, what)
                file.write(row, header=header)
                header = False
            files.append(file.end())
            rows.add(file.fingerprint.rows)
        if len(rows) != 1:
            raise BackupFailed(
                f"Table {table.path} had {' and '.join(map(str, sorted(rows)))} rows in one snapshot.",
                "Its data or an index is damaged: look at the server's log, and run pg_amcheck.",
            )
        record = TableRecord(
            database=table.database,
            schema_name=table.schema,
            name=table.name,
            partitioned=table.kind == "p",
            columns=columns,
            primary_key=wanted.primary_key,
            rows=next(iter(rows)),
            files=tuple(files),
        )
        self.records.append(record.model_dump_json(exclude_defaults=True).encode() + b"\n")
        for column in columns:
            if column.mask is not None:
                name = f"{table.database}.{table.path}.{column.name}"
                self._masked[name] = MaskedColumn(column=name, mask=column.mask)
        return record.rows

    def details(self, session: Sql, *, standby: bool) -> ExportDetails:
        """The summary."""
        return ExportDetails(
            system_identifier=_system_identifier(session),
            version_num=session.info.server_version,
            version=session.info.parameter_status("server_version") or "",
            formats=self._source.export.formats,
            partial=bool(self._only),
            only=self._only,
            databases=tuple(self._databases),
            tables=sum(database.tables for database in self._databases),
            rows=sum(database.rows for database in self._databases),
            masked=tuple(self._masked.values()),
            standby=standby,
        )


def _recorded(column: ColumnRecord, hidden: Hidden | None) -> ColumnRecord:
    if hidden is None:
        return column
    return column.model_copy(update={"mask": hidden.kind, "number": False})


def _insist_on_utf8(row: memoryview, what: str) -> None:
    try:
        str(row, "utf-8")
    except UnicodeDecodeError:
        raise BackupFailed(
            f"In {what}, whose encoding is SQL_ASCII, there is text that is not UTF-8.",
            "An export is UTF-8 and can't hold it: exclude the table; a physical or logical backup holds it.",
        ) from None


def _system_identifier(session: Sql) -> int | None:
    try:
        row = session.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
        return None
    return int(row[0]) if row is not None else None
