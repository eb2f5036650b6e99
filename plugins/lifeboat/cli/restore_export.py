"""``lifeboat restore`` of single tables from an export: into a database, or as plain files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, note, say, show_fields, show_json, size, warn
from lifeboat.cli.outside import in_words, targets_of
from lifeboat.cli.progress import bar
from lifeboat.cli.restore_choice import NEAREST_FIRST
from lifeboat.cli.restore_elsewhere import naming_other_copies
from lifeboat.cli.restore_permission import insist_on_permission
from lifeboat.cli.restore_record import on_record
from lifeboat.errors import Cancelled, LifeboatError, RecoveryPointMissing, RestoreError

if TYPE_CHECKING:
    from lifeboat.policy.export import ExportFormat
    from lifeboat.policy.postgres_source import PostgresSource
    from lifeboat.postgres.exports.loading import Destination
    from lifeboat.postgres.exports.records import FileRecord, TableRecord
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository

MOST_NAMED = 20


@dataclass(frozen=True)
class Wanted:
    """What a person asked for.

    Attributes:
        recovery_point: the export.
        only: patterns of tables; empty: all of them.
        format_name: ``json`` or ``csv``; ``None``: what the export has.
        into: a directory for plain files.
        connection: the connection of a database.
        as_table: the new name of the one table.
        replace: rows that are in the way may go.
        target: read from this target alone.
        plan, yes, as_json: as for every restore.
    """

    recovery_point: str
    only: tuple[str, ...] = ()
    format_name: ExportFormat | None = None
    into: Path | None = None
    connection: str | None = None
    as_table: str | None = None
    replace: bool = False
    target: str | None = None
    plan: bool = False
    yes: bool = False
    as_json: bool = False


def is_export(recovery_point: str | None) -> bool:
    """Whether an id is an export's."""
    return recovery_point is not None and "-export-" in recovery_point


def restore_export(repository: SystemRepository, source: str, policy: PostgresSource, wanted: Wanted) -> None:
    """Show what will be done, ask, do it, say what was done."""
    _insist_on_sense(wanted)
    copy, passed_over = _find(repository, source, wanted)
    restore = _Restore(repository, source, policy, wanted, copy)
    with naming_other_copies(repository, [copy]):
        restore.look()
    for remark in passed_over:
        note(f"note: {remark}", "yellow")
    if not wanted.as_json:
        restore.show_plan()
    if wanted.plan:
        if wanted.as_json:
            show_json(restore.plan_document())
        raise typer.Exit(0)
    insist_on_permission()
    agree("Restore?", wanted.yes)
    done = restore.carry_out()
    if wanted.as_json:
        show_json({"plan": restore.plan_document(), "restored": done})
    else:
        restore.show_done(done)


def _insist_on_sense(wanted: Wanted) -> None:
    if (wanted.into is None) == (wanted.connection is None):
        raise RestoreError(
            "An export is restored into a database or as files.",
            "Say either --connection ID or --into DIR.",
        )
    if wanted.connection is not None and not wanted.only:
        raise RestoreError("Nothing says which tables are to be restored.", "Name them: --only public.users.")
    if wanted.into is not None and (wanted.as_table or wanted.replace):
        raise RestoreError("--as-table and --replace-rows are for a database.", "Say --connection instead of --into.")
    if wanted.format_name not in (None, "json", "csv"):
        raise RestoreError(f"There is no format {wanted.format_name!r}.", "There are json and csv.")


def _find(repository: SystemRepository, source: str, wanted: Wanted) -> tuple[Copy, list[str]]:
    names = targets_of(repository.loaded, wanted.target)
    names.sort(key=lambda name: NEAREST_FIRST.index(name) if name in NEAREST_FIRST else len(NEAREST_FIRST))
    refused: list[tuple[str, LifeboatError]] = []
    for name in names:
        STOP.check()
        try:
            copy = repository.catalogue(name).find(source, wanted.recovery_point)
        except Cancelled:
            raise
        except LifeboatError as error:
            refused.append((name, error))
        else:
            return copy, [f"{other} was passed over: {error}" for other, error in refused]
    if len(refused) == 1:
        raise refused[0][1]
    raise RecoveryPointMissing(
        f"No target can give {wanted.recovery_point}.", f"What each of them says:\n{in_words(refused)}"
    )


class _Restore:
    def __init__(
        self, repository: SystemRepository, source: str, policy: PostgresSource, wanted: Wanted, copy: Copy
    ) -> None:
        from lifeboat.postgres.restore_sources import origin_of

        self._repository = repository
        self._source = source
        self._policy = policy
        self._wanted = wanted
        self._copy = copy
        self._origin = origin_of(repository, copy.target, copy)
        self._records: list[TableRecord] = []
        self._files: list[tuple[TableRecord, FileRecord]] = []
        self._destinations: list[Destination] = []

    def look(self) -> None:
        """Read the tables' records and see what is to be done; nothing is touched."""
        from lifeboat.postgres.exports.files import check_files, files_of
        from lifeboat.postgres.exports.loading import file_of
        from lifeboat.postgres.exports.reading import chosen_tables

        wanted = self._wanted
        self._records = chosen_tables(self._copy.manifest, self._origin, wanted.only)
        if wanted.into is not None:
            self._files = files_of(self._records, wanted.format_name)
            check_files(wanted.into.expanduser().absolute(), self._files)
        else:
            self._files = [(record, file_of(record, wanted.format_name)) for record in self._records]
            self._destinations = list(self._placed())

    def _placed(self) -> Sequence[Destination]:
        from lifeboat.postgres.exports.loading import Destination, beside

        wanted = self._wanted
        if wanted.as_table is not None:
            if len(self._records) != 1:
                raise RestoreError(
                    f"--as-table names one table, and {len(self._records)} are to be restored.", "Name one with --only."
                )
            schema, name = _named(wanted.as_table, self._records[0].schema_name)
            return [Destination(self._records[0], schema, name, wanted.replace)]
        found = [
            Destination(record, record.schema_name, beside(record.name), wanted.replace) for record in self._records
        ]
        if len({(one.schema, one.name) for one in found}) < len(found):
            raise RestoreError(
                "Two tables would come back under one name.",
                "Tables of several databases have it: name one as database.schema.table, or use --as-table.",
            )
        return found

    @property
    def _fetch_bytes(self) -> int:
        streams = {file.stream for _, file in self._files}
        return sum(self._copy.manifest.stream(name).stored_size for name in streams)

    @property
    def _masked(self) -> list[str]:
        return [f"{record.path}.{name}" for record in self._records for name in record.masked]

    def plan_document(self) -> dict[str, Any]:
        """The plan for programs."""
        wanted = self._wanted
        return {
            "recovery_point": self._copy.manifest.recovery_point,
            "moment": self._copy.manifest.moment,
            "target": self._copy.target,
            "into": str(wanted.into) if wanted.into is not None else None,
            "connection": wanted.connection,
            "tables": [
                {
                    "database": record.database,
                    "table": record.path,
                    "format": file.format,
                    "rows": record.rows,
                    "plain_size": file.size,
                    "masked": list(record.masked),
                }
                for record, file in self._files
            ],
            "fetch_bytes": self._fetch_bytes,
        }

    def show_plan(self) -> None:
        """The plan for people."""
        manifest, wanted = self._copy.manifest, self._wanted
        fields = [
            ("export", f"{manifest.recovery_point}, which stands for {exact_moment(manifest.moment)}"),
            ("from target", self._copy.target),
        ]
        names = [one.path for one in self._destinations]
        for number, (record, file) in enumerate(self._files[:MOST_NAMED]):
            goal = f" → {names[number]}" if names else ""
            fields.append(("table", f"{record.path} ({record.rows:,} rows, {file.format}){goal}"))
        if len(self._files) > MOST_NAMED:
            fields.append(("and", f"{len(self._files) - MOST_NAMED} more"))
        fields.append(("into", str(wanted.into) if wanted.into is not None else f"connection {wanted.connection}"))
        fields.append(("to fetch", size(self._fetch_bytes)))
        show_fields(f"Restore {self._repository.system} {self._source}", fields)
        if self._masked:
            shown = ", ".join(self._masked[:MOST_NAMED])
            warn(f"These columns were masked when they were exported; their values don't come back: {shown}.")

    def carry_out(self) -> list[dict[str, Any]]:
        """Do it, on record."""
        wanted = self._wanted
        goal = str(wanted.into) if wanted.into is not None else f"connection {wanted.connection}"
        manifest, target = self._copy.manifest, self._copy.target
        tables = [record.path for record in self._records][:100]
        with (
            on_record(self._repository, manifest, target, [target], into=goal, tables=tables) as outcome,
            naming_other_copies(self._repository, [self._copy]),
            bar("Fetched", self._fetch_bytes) as progress,
        ):
            done = self._files_written(progress.passed) if wanted.into else self._loaded(progress.passed)
            outcome.details = {"masked": self._masked[:100]}
            outcome.size, outcome.data_until = sum(file.size for _, file in self._files), manifest.moment
            outcome.proven = f"{len(done):,} tables, all rows compared"
        return done

    def _files_written(self, passed: Any) -> list[dict[str, Any]]:
        from lifeboat.postgres.exports.files import write_files

        assert self._wanted.into is not None
        into = self._wanted.into.expanduser().absolute()
        written = write_files(self._copy.manifest, self._origin, into, self._files, passed=passed, tick=STOP.check)
        return [
            {"table": record.path, "file": str(path), "rows": record.rows}
            for path, (record, _) in zip(written, self._files, strict=True)
        ]

    def _loaded(self, passed: Any) -> list[dict[str, Any]]:
        from lifeboat.postgres.exports.loading import load
        from lifeboat.postgres.parameters import Tls, connection_parameters

        wanted = self._wanted
        assert wanted.connection is not None
        parameters = connection_parameters(
            self._repository.outside.connection(wanted.connection),
            Tls(self._policy.tls, self._policy.tls_minimum),
            application_name="lifeboat restore",
        )
        loaded = load(
            self._copy.manifest,
            self._origin,
            self._destinations,
            parameters,
            format_name=wanted.format_name,
            passed=passed,
            tick=STOP.check,
        )
        return [
            {"table": record.path, "as": one.path, "rows": one.rows, "made": one.made}
            for record, one in zip(self._records, loaded, strict=True)
        ]

    def show_done(self, done: Sequence[dict[str, Any]]) -> None:
        """The outcome for people."""
        fields = [
            (one["table"], f"{one['rows']:,} rows, all compared: {one.get('file') or one['as']}")
            for one in done[:MOST_NAMED]
        ]
        if len(done) > MOST_NAMED:
            fields.append(("and", f"{len(done) - MOST_NAMED} more"))
        show_fields("Restored", fields)
        if self._destinations:
            say(
                "An export holds rows, columns and primary keys: indexes, other constraints, defaults, triggers and "
                "privileges are the database's own."
            )
        note("Done.", "green")


def _named(text: str, schema: str) -> tuple[str, str]:
    from lifeboat.policy.problems import Refused
    from lifeboat.policy.table_patterns import table_pattern

    try:
        pattern = table_pattern(text if "." in text else f'"{schema}".{text}')
    except Refused as error:
        raise RestoreError(f"--as-table: {error.what}", error.remedy) from None
    if not pattern.exact or pattern.database is not None:
        raise RestoreError(f"--as-table {text!r} is no table's name.", "Write NAME or SCHEMA.NAME.")
    return pattern.schema.text, pattern.table.text
