"""What a database holds: each table's rows counted and fingerprinted, so that a restored one can be held against it.

A fingerprint is the sum, over all rows, of the first 8 bytes of SHA-256 of the row's text: the order of the rows does
not matter, and everything that changes a value's text (zones, formats, search paths) is set here, so that a later major
version comes to the same sum. Columns are taken by name, since an inherited table's may come back in another order.
Values become text by their types' own output functions, never by a cast that somebody has made.
Columns that are generated are left out: an archive does not hold them, they are computed anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.errors import PostgresError
from lifeboat.postgres.connecting import Session as WatchedSession
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.logical_details import Contents, LargeObjects, SequenceContent, TableContent
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.refusals import clean_message
from lifeboat.postgres.standby import CONFLICT, CONFLICT_REMEDY

Session = psycopg.Connection[TupleRow]

UNBOUNDED_SECONDS = 7 * 24 * 3600.0
"""How long a statement over a whole table may take: its run's own time limit ends it earlier."""

_SETTINGS = {
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "3",
    "intervalstyle": "postgres",
    "lc_monetary": "C",
    "row_security": "off",
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "timezone": "UTC",
    "xmlbinary": "base64",
}
# Relations that belong to the user: neither the system's own, nor temporary, nor an extension's members.
_OURS = """
    n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
    AND NOT EXISTS (
        SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )"""
# On a standby a table that is not logged has no rows, and can't be read.
_ELSEWHERE = "c.relpersistence = 'u' AND pg_is_in_recovery()"
_TABLES = f"""
    SELECT c.oid::int8, n.nspname, c.relname, c.relkind = 'p' OR ({_ELSEWHERE}), c.relispartition,
        CASE WHEN c.relkind = 'r' THEN coalesce(pg_table_size(c.oid), 0) ELSE 0 END,
        ARRAY(SELECT i.inhparent::int8 FROM pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno),
        (
            SELECT string_agg(
                CASE WHEN a.atttypid = 'bytea'::regtype THEN format('sha256(t.%I)', a.attname)
                ELSE format('t.%I', a.attname) END, ', ' ORDER BY a.attname
            )
            FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        )
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND {_OURS}
    ORDER BY n.nspname, c.relname"""  # noqa: S608 all of it is ours
_SEQUENCES = f"""
    SELECT c.oid::int8, n.nspname, c.relname, s.seqincrement, s.seqcycle
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_sequence s ON s.seqrelid = c.oid
    WHERE {_OURS} AND NOT ({_ELSEWHERE})
    ORDER BY n.nspname, c.relname"""  # noqa: S608 all of it is ours
_UNLOGGED = f"""
    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND {_OURS} AND {_ELSEWHERE} ORDER BY 1"""  # noqa: S608 all of it is ours
# As many bits as a bigint has, of a text in the server's own encoding: SQL_ASCII stands for no conversion.
_HASH = "('x' || left(encode(sha256(convert_to(ROW({})::text, 'SQL_ASCII')), 'hex'), 16))::bit(64)::int8"
# Holes and trailing zeros of a large object come back as zeros or not at all: what it reads as is the same.
_LARGE_OBJECTS = f"""
    WITH page AS (
        SELECT loid::int8 AS loid, pageno::int8 AS number, rtrim(data, '\\x00'::bytea) AS data,
            pageno::int8 * (current_setting('block_size')::int8 / 4) + length(data) AS until
        FROM pg_largeobject
    ), hashed AS (
        SELECT {_HASH.format("loid, number, sha256(data)")} AS hash FROM page WHERE data <> ''
        UNION ALL SELECT {_HASH.format("loid, max(until)")} FROM page GROUP BY loid
    )
    SELECT coalesce(sum(hash), 0)::text FROM hashed"""  # noqa: S608 all of it is ours


@contextmanager
def reading_session(
    parameters: ConnectionParameters, *, lock_seconds: float, tick: Callable[[], None], snapshot: bool = True
) -> Iterator[Session]:
    """A session that reads everything in one snapshot, as text that no setting of the server changes."""
    with connect_sql(parameters, statement_seconds=UNBOUNDED_SECONDS, tick=tick) as session:
        read_exactly(session, lock_seconds=lock_seconds)
        if snapshot:
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield session


def read_exactly(session: Session, *, lock_seconds: float) -> None:
    """Let a session read everything as text that no setting of the server changes."""
    settings = _SETTINGS | {"lock_timeout": f"{round(lock_seconds * 1000)}"}
    if session.info.server_version >= 170000:
        settings["transaction_timeout"] = "0"
    for name, value in settings.items():
        session.execute(sql.SQL("SET {} TO {}").format(sql.Identifier(name), sql.Literal(value)))


def watch(session: Session, tick: Callable[[], None]) -> None:
    """Let somebody else look around while a session waits."""
    if isinstance(session, WatchedSession):
        session.watch(tick, UNBOUNDED_SECONDS)


def tables_of(session: Session) -> list[tuple[TableContent, str | None]]:
    """The tables, not counted yet, each with its columns as the fingerprint takes them."""
    rows = session.execute(_TABLES.encode()).fetchall()
    return [
        (
            TableContent(
                oid=oid, schema_name=schema, name=name, parents=tuple(parents), partition=partition, size_bytes=size
            ),
            None if without else columns or "",
        )
        for oid, schema, name, without, partition, size, parents, columns in rows
    ]


def unlogged_elsewhere(session: Session) -> list[str]:
    """The unlogged tables of a standby, whose rows are on its primary alone; none on a primary."""
    return [str(name) for (name,) in session.execute(_UNLOGGED.encode()).fetchall()]


def contents_of(
    session: Session,
    *,
    large_objects: bool = True,
    only: Collection[tuple[str, str]] | None = None,
    sequences: Collection[tuple[str, str]] = (),
    stood: tuple[SequenceContent, ...] | None = None,
) -> Contents:
    """Count and fingerprint everything.

    Args:
        large_objects: whether the large objects' content is looked at; they are counted in any case.
        only: tables, by schema and name; by default all.
        sequences: which of them, where not all tables are counted.
        stood: all sequences, where that was read before: they are in no snapshot, and go on while rows are counted.

    Raises:
        PostgresError: a table can't be read: the text says which and why.
    """
    try:
        found = []
        for table, columns in tables_of(session):
            if only is None or (table.schema_name, table.name) in only:
                found.append(table if columns is None else _counted(session, table, columns))
        if stood is None:
            stood = tuple(sequences_of(session, None if only is None else sequences))
        return Contents(
            tables=tuple(found),
            sequences=stood,
            large_objects=_large_objects(session, content=large_objects),
        )
    except psycopg.Error as error:
        raise refused_reading(error, "The contents of the database can't be listed") from error


def refused_reading(error: psycopg.Error, what: str) -> PostgresError:
    """The error for a question that the server refused, with what to do about it."""
    text = clean_message(error.diag.message_primary or str(error))
    remedies = {
        "42501": "Run as a superuser: GRANT pg_read_all_data TO the role of the connection; and, for tables with row "
        "security: ALTER ROLE … BYPASSRLS;",
        "55P03": "Somebody holds a lock on it (pg_locks says who). Run it again at a quieter time, or raise "
        "`logical: lock_timeout` in the policy.",
        "42P01": "It was dropped while it was being read. Run it again.",
        "40001": "Run it again.",
    }
    remedy = (
        CONFLICT_REMEDY
        if CONFLICT in text
        else remedies.get(error.sqlstate or "", "Look at the server's log, and run it again.")
    )
    return PostgresError(f"{what}: {text}.", remedy)


def _counted(session: Session, table: TableContent, columns: str) -> TableContent:
    place = sql.Identifier(table.schema_name, table.name)
    query = sql.SQL("SELECT count(*), coalesce(sum({}), 0)::text FROM ONLY {} AS t").format(
        sql.SQL(_HASH.format(columns)),
        place,
    )
    try:
        row = _one(session, query)
    except psycopg.Error as error:
        raise refused_reading(error, f"The table {table.label} can't be read") from error
    return table.model_copy(update={"rows": int(row[0]), "fingerprint": str(row[1])})


def sequences_of(session: Session, only: Collection[tuple[str, str]] | None = None) -> Iterable[SequenceContent]:
    """The sequences, or some by schema and name, and where they stand."""
    for oid, schema, name, increment, cycle in session.execute(_SEQUENCES.encode()).fetchall():
        if only is not None and (schema, name) not in only:
            continue
        place = sql.Identifier(schema, name)
        last, called = _one(session, sql.SQL("SELECT last_value, is_called FROM {}").format(place))
        yield SequenceContent(
            oid=oid, schema_name=schema, name=name, last=last, called=called, increment=increment, cycle=cycle
        )


def _large_objects(session: Session, *, content: bool) -> LargeObjects:
    (count,) = _one(session, sql.SQL("SELECT count(*) FROM pg_largeobject_metadata"))
    fingerprint = None
    if content and count:
        (fingerprint,) = _one(session, sql.SQL(_LARGE_OBJECTS))
    return LargeObjects(count=int(count), fingerprint=fingerprint)


def _one(session: Session, query: sql.SQL | sql.Composed) -> Any:
    row = session.execute(query).fetchone()
    if row is None:
        raise PostgresError("The server gave no answer to a question about its contents.")
    return row


def differences(
    wanted: Contents,
    found: Contents,
    only: Collection[tuple[str, str]] | None = None,
    sequences: Iterable[SequenceContent] = (),
) -> list[str]:
    """What of an archive is not in a restored database as it was: a sentence for each thing; none when all is.

    Args:
        only: the tables, by schema and name, that were to come back; by default everything.
        sequences: those that were to come back with them.
    """
    wrong: list[str] = []
    there = {(table.schema_name, table.name): table for table in found.tables}
    roots = wanted.roots()
    families: dict[str, list[tuple[TableContent, TableContent]]] = {}
    for table in wanted.tables:
        key = (table.schema_name, table.name)
        if table.rows is None or (only is not None and key not in only):
            continue
        if (other := there.get(key)) is None:
            wrong.append(f"{table.label} is missing")
        else:
            families.setdefault(roots[table.oid].label, []).append((table, other))
    for name, members in families.items():
        # Rows may have moved among the partitions of one table: hashes of an enum's values differ between servers.
        if _sums(table for table, _ in members) != _sums(other for _, other in members):
            wrong += _unlike(members) or [f"{name} has other rows than it had"]
    wrong += _behind(wanted.sequences if only is None else sequences, found)
    if only is None and (wanted.large_objects.count, wanted.large_objects.fingerprint) != (
        found.large_objects.count,
        found.large_objects.fingerprint,
    ):
        wrong.append(f"of {wanted.large_objects.count} large objects {found.large_objects.count} are as they were")
    return wrong


def _sums(tables: Iterable[TableContent]) -> tuple[int, int]:
    members = list(tables)
    return sum(table.rows or 0 for table in members), sum(int(table.fingerprint or 0) for table in members)


def _unlike(members: Iterable[tuple[TableContent, TableContent]]) -> list[str]:
    return [
        f"{table.label} has {other.rows} rows instead of {table.rows}"
        if other.rows != table.rows
        else f"{table.label} has {table.rows} rows, and others than it had"
        for table, other in members
        if (other.rows, other.fingerprint) != (table.rows, table.fingerprint)
    ]


def _behind(wanted: Iterable[SequenceContent], found: Contents) -> list[str]:
    """Sequences that would give numbers out a second time."""
    there = {(sequence.schema_name, sequence.name): sequence for sequence in found.sequences}
    wrong = []
    for sequence in wanted:
        other = there.get((sequence.schema_name, sequence.name))
        if other is None:
            wrong.append(f"the sequence {sequence.label} is missing")
            continue
        if other.behind(sequence):
            wrong.append(f"the sequence {sequence.label} stands at {other.last}, before {sequence.last}")
    return wrong
