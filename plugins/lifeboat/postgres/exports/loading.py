"""Tables of an export brought back into a database: all of them or nothing, and proven before they are committed.

A table comes back beside the old one, made from the columns that were recorded. After loading, the new table is read
back as an export would read it, and its count and fingerprint must be those that were recorded, in the same
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lifeboat.errors import DestinationInUse, RestoreError
from lifeboat.policy.export import ExportFormat
from lifeboat.postgres.exports.queries import copy_statement
from lifeboat.postgres.exports.reading import Passed, TableReader, table_file
from lifeboat.postgres.exports.records import ColumnRecord, FileRecord, TableRecord
from lifeboat.postgres.exports.rows import Fingerprint, Value, copy_line
from lifeboat.postgres.exports.session import Sql, copy_out, exact_session
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.refusals import clean_message
from lifeboat.repository.manifest import Manifest
from lifeboat.streams.reading import Origin

LONGEST_NAME_BYTES = 63
PIECE_BYTES = 256 * 1024
SUFFIX = "_restored"
Tick = Callable[[], None]


@dataclass(frozen=True)
class Destination:
    """Where one table goes.

    Attributes:
        record: the table.
        schema, name: its new name.
        replace: the rows of a table that is there and not empty may go; else such a table is left as it is.
    """

    record: TableRecord
    schema: str
    name: str
    replace: bool = False

    @property
    def path(self) -> str:
        """Its new name for people."""
        return f"{self.schema}.{self.name}"

    @property
    def relation(self) -> sql.Identifier:
        """Its new name for the server."""
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class Loaded:
    """A table that was brought back.

    Attributes:
        path: its name in the database.
        rows: how many.
        made: it was made new; else its rows went into a table that was there.
    """

    path: str
    rows: int
    made: bool


def beside(name: str) -> str:
    """The default name of a table that comes back beside the old one: at most 63 bytes."""
    room = LONGEST_NAME_BYTES - len(SUFFIX)
    return name.encode()[:room].decode("utf-8", "ignore") + SUFFIX


def file_of(record: TableRecord, format_name: ExportFormat | None) -> FileRecord:
    """The file to read: in the format asked for, else in the first there is.

    Raises:
        RestoreError: the export has no such format.
    """
    if format_name is None:
        return record.files[0]
    file = record.file(format_name)
    if file is None:
        known = ", ".join(one.format for one in record.files)
        raise RestoreError(f"The export does not hold {record.path} as {format_name}.", f"It holds it as {known}.")
    return file


def load(
    manifest: Manifest,
    origin: Origin,
    destinations: Sequence[Destination],
    parameters: ConnectionParameters,
    *,
    format_name: ExportFormat | None = None,
    passed: Passed = lambda _: None,
    tick: Tick,
) -> list[Loaded]:
    """Bring tables back in one transaction.

    Args:
        manifest, origin: the export and where it is read from.
        destinations: what goes where.
        parameters: of the database's connection.
        format_name: which file to read.
        passed: told the stored bytes as they arrive.
        tick: called about four times a second; may raise to cancel.

    Raises:
        DestinationInUse: a table is there and not empty.
        RestoreError: a table can't be made or loaded, or what was loaded is not what was exported. Nothing has changed.
        ObjectDamaged, VerificationFailed: the copy is not good. Nothing has changed.
    """
    loaded: list[Loaded] = []
    with exact_session(parameters, tick=tick) as session:
        session.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
        for destination in destinations:
            try:
                loaded.append(_load_one(session, manifest, origin, destination, format_name, passed, tick))
            except psycopg.Error as error:
                raise _refused(destination, error) from error
        session.execute("COMMIT")
    return loaded


def _load_one(
    session: Sql,
    manifest: Manifest,
    origin: Origin,
    destination: Destination,
    format_name: ExportFormat | None,
    passed: Passed,
    tick: Tick,
) -> Loaded:
    record, relation = destination.record, destination.relation
    columns = [_as_loaded(column, masked=bool(record.masked)) for column in record.columns]
    made = not _is_there(session, destination)
    if made:
        session.execute(_create(destination, columns))
    else:
        _take_over(session, destination, columns)
    file = file_of(record, format_name)
    into = [column for column in columns if column.generated is None]
    places = [number for number, column in enumerate(columns) if column.generated is None]
    with table_file(manifest, origin, file, passed) as content:
        rows = TableReader(record, file).rows(content)
        if into:
            _copy_in(session, relation, into, ([row[place] for place in places] for row in rows), tick)
        else:
            session.execute(
                sql.SQL("INSERT INTO {} SELECT FROM pg_catalog.generate_series(1, {})").format(
                    relation, sql.Literal(sum(1 for _ in rows))
                )
            )
    if made and record.primary_key and not set(record.primary_key) & set(record.masked):
        keys = sql.SQL(", ").join(map(sql.Identifier, record.primary_key))
        session.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(relation, keys))
    _compare(session, destination, columns, file, tick)
    for column in columns:
        if column.identity is not None and column.last_value is not None:
            _advance(session, destination, column)
    return Loaded(destination.path, record.rows, made)


def _as_loaded(column: ColumnRecord, *, masked: bool) -> ColumnRecord:
    """A column as it comes back. What a mask made is text; in a table with masks nothing is computed anew from them."""
    if column.mask is not None:
        type_name = column.type if column.mask == "null" else "text"
        return ColumnRecord(name=column.name, type=type_name)
    return column.model_copy(update={"generated": None, "virtual": False}) if masked else column


def _is_there(session: Sql, destination: Destination) -> bool:
    row = session.execute(
        "SELECT c.relkind::text IN ('r', 'p') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        [destination.schema, destination.name],
    ).fetchone()
    if row is not None and not row[0]:
        raise RestoreError(f"{destination.path} is there, and is no table.", "Choose another name with --as-table.")
    return row is not None


def _create(destination: Destination, columns: Sequence[ColumnRecord]) -> sql.Composed:
    # Types and expressions are PostgreSQL's own words of them, from a record that was signed.
    lines = []
    for column in columns:
        line = f"{{}} {column.type.replace('{', '{{').replace('}', '}}')}"
        parts: list[sql.Composable] = [sql.SQL(line).format(sql.Identifier(column.name))]
        if column.collation is not None:
            parts.append(sql.SQL("COLLATE ") + sql.SQL(column.collation))
        if column.generated is not None:
            kind = sql.SQL("VIRTUAL" if column.virtual else "STORED")
            parts.append(sql.SQL("GENERATED ALWAYS AS (") + sql.SQL(column.generated) + sql.SQL(") ") + kind)
        if column.identity is not None:
            parts.append(sql.SQL(f"GENERATED {column.identity.upper()} AS IDENTITY"))
        if not column.nullable:
            parts.append(sql.SQL("NOT NULL"))
        lines.append(sql.SQL(" ").join(parts))
    return sql.SQL("CREATE TABLE {} ({})").format(destination.relation, sql.SQL(", ").join(lines))


def _take_over(session: Sql, destination: Destination, columns: Sequence[ColumnRecord]) -> None:
    """Make ready a table that is there: locked against all others, without triggers, empty."""
    session.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(destination.relation))
    rows = session.execute(
        "SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
        [destination.schema, destination.name],
    )
    there = {str(name) for (name,) in rows}
    if missing := [column.name for column in columns if column.name not in there]:
        raise RestoreError(
            f"{destination.path} is there, and lacks the columns {', '.join(missing)}.",
            "Let the table be made new under another name: --as-table.",
        )
    triggers = session.execute(
        "SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')",
        [destination.schema, destination.name],
    ).fetchall()
    if triggers:
        raise RestoreError(
            f"{destination.path} has triggers that would run: {', '.join(str(name) for (name,) in triggers)}.",
            "Restore into a new table, or first: ALTER TABLE … DISABLE TRIGGER USER.",
        )
    found = session.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(destination.relation)).fetchone()
    if found is None or not found[0]:
        return
    if not destination.replace:
        raise DestinationInUse(
            f"The table {destination.path} is there and not empty; nothing was changed.",
            "Choose another name with --as-table, or say --replace-rows to put the exported rows in their place.",
        )
    session.execute(sql.SQL("TRUNCATE {}").format(destination.relation))


def _copy_in(
    session: Sql, relation: sql.Identifier, columns: Sequence[ColumnRecord], rows: Iterator[list[Value]], tick: Tick
) -> None:
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT text, ENCODING 'UTF8')").format(relation, names)
    pending = bytearray()
    with session.cursor() as cursor, cursor.copy(statement) as copy:
        for values in rows:
            pending += copy_line(values)
            if len(pending) >= PIECE_BYTES:
                copy.write(bytes(pending))
                pending.clear()
                tick()
        if pending:
            copy.write(bytes(pending))


def _compare(
    session: Sql, destination: Destination, columns: Sequence[ColumnRecord], file: FileRecord, tick: Tick
) -> None:
    """Read the table as an export would, and insist on its being the same."""
    record = destination.record
    # A mask's text was written as a string, whatever the column had been.
    asked = [
        column.model_copy(update={"number": old.number}) for column, old in zip(columns, record.columns, strict=True)
    ]
    statement = copy_statement(destination.relation, asked, file.format, only=not record.partitioned)
    found = Fingerprint()
    header = file.format == "csv"
    for row in copy_out(session, statement.as_string(session), f"the restored {destination.path}", tick=tick):
        if not header:
            found.add(row[:-1])
        header = False
    if (found.rows, found.hex) != (record.rows, file.fingerprint):
        raise RestoreError(
            f"{destination.path} holds {found.rows} rows that are not the {record.rows} exported ones; nothing was "
            "changed.",
            "A type means something else in this database, or a rule changed the rows: restore into a new table, or "
            "into a server as the exported one was.",
        )


def _advance(session: Sql, destination: Destination, column: ColumnRecord) -> None:
    """Let the identity go on where it stood."""
    session.execute(
        "SELECT setval(s, %s) FROM pg_get_serial_sequence(format('%%I.%%I', %s::text, %s::text), %s) AS s"
        " WHERE s IS NOT NULL",
        [column.last_value, destination.schema, destination.name, column.name],
    )


def _refused(destination: Destination, error: psycopg.Error) -> RestoreError:
    remedies = {
        "3F000": f"Make the schema first: CREATE SCHEMA {destination.schema};, or name another with --as-table.",
        "42704": "The type, collation or extension is not in this database: make it first (a backup of the database "
        "holds it), or restore files with --into.",
        "42883": "A generated column needs a function that is not in this database: make it first.",
        "42501": "Give the connection a role that may create tables in that schema.",
        "0A000": "A newer PostgreSQL made it: restore into one as new.",
    }
    return RestoreError(
        f"{destination.path} could not be restored: {clean_message(str(error))}. Nothing was changed.",
        remedies.get(error.sqlstate or "", "Look at the server's log."),
    )
