"""The snapshot of one database: its tables locked first, then looked at once more in the snapshot itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import psycopg
from psycopg import sql

from lifeboat.errors import BackupFailed, PostgresError
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.exports.choosing import Choice, choose, masked_tables
from lifeboat.postgres.exports.session import Sql, exact_session
from lifeboat.postgres.exports.tables import Inventory, Table, read_column_names, read_databases, read_tables
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.refusals import clean_message
from lifeboat.postgres.standby import in_recovery, replayed

TABLES_AT_ONCE = 200
"""How many tables are locked, and looked up, in one statement."""
SNAPSHOT_TRIES = 5
LOCK_SECONDS = 60
_Item = TypeVar("_Item")


def survey(
    to: Callable[[str], ConnectionParameters], source: PostgresSource, session: Sql, *, tick: Callable[[], None]
) -> dict[str, Inventory]:
    """What there is in each database that the policy means.

    Args:
        to: libpq's parameters for a database.

    Raises:
        PostgresError: a database is not there, or does not let the role in.
    """
    there = read_databases(session)
    wanted = source.export.databases or tuple(there)
    if missing := [name for name in wanted if name not in there]:
        raise PostgresError(
            f"There is no database {', '.join(missing)} that takes connections.",
            f"Mend `export.databases` in the policy. There are: {', '.join(there)}.",
        )
    if closed := [name for name in wanted if not there[name]]:
        role = session.info.user
        raise PostgresError(
            f"The role {role} may not enter the database {', '.join(closed)}.",
            f"GRANT CONNECT ON DATABASE … TO {role}; or name the databases to export under `export.databases`.",
        )
    found: dict[str, Inventory] = {}
    for name in wanted:
        with exact_session(to(name), tick=tick) as inside:
            found[name] = read_all(inside, name, source)
    return found


def read_all(session: Sql, database: str, source: PostgresSource) -> Inventory:
    """What a choice must know of one database."""
    tables = read_tables(session, database)
    masked = masked_tables(source.export, tables)
    return Inventory(database, tables, read_column_names(session, [table.oid for table in masked]))


def choice_of(inventories: Mapping[str, Inventory], source: PostgresSource, only: Sequence[str]) -> Choice:
    """What of these databases is exported."""
    return choose(list(inventories.values()), source.export, only)


def take_snapshot(
    session: Sql, name: str, inventories: dict[str, Inventory], source: PostgresSource, only: Sequence[str]
) -> tuple[datetime, str, Choice]:
    """Lock the tables, then take the snapshot: what is dropped or truncated meanwhile waits for us.

    The other way round, a table that was truncated between would be exported empty, since TRUNCATE does not heed
    snapshots. What was made or renamed until the snapshot is found by looking once more in it.
    """
    for _ in range(SNAPSHOT_TRIES):
        # Before the snapshot: what a standby has replayed by then is in it.
        mark = replayed(session).moment if in_recovery(session) else None
        locked = choice_of(inventories, source, only).tables[name]
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            _lock(session, locked)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            session.execute("ROLLBACK")
            inventories[name] = read_all(session, name, source)
            choice_of(inventories, source, only).insist()
            continue
        row = session.execute(
            "SELECT pg_catalog.statement_timestamp(), pg_catalog.current_setting('server_encoding')"
        ).fetchone()
        if row is None:
            raise PostgresError("The server did not tell the time.", "Look at the server's log.")
        inventories[name] = read_all(session, name, source)
        choice = choice_of(inventories, source, only)
        choice.insist()
        if set(choice.tables[name]) <= set(locked):
            return mark or row[0], str(row[1]), choice
        session.execute("ROLLBACK")
    raise BackupFailed(
        f"The tables of database {name} changed each time they were looked at.",
        "Somebody makes, renames or drops tables all the time: exclude those in the policy.",
    )


def _lock(session: Sql, tables: Sequence[Table]) -> None:
    session.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{LOCK_SECONDS}s")))
    for some in in_batches(tables, TABLES_AT_ONCE):
        names = [relation_of(table) if table.kind == "p" else sql.SQL("ONLY {}").format(relation_of(table))
                 for table in some]  # fmt: skip
        statement = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(names))
        try:
            session.execute(statement)
        except psycopg.errors.LockNotAvailable as error:
            raise BackupFailed(
                f"A table of {tables[0].database} was locked by somebody else for {LOCK_SECONDS} s.",
                "SELECT pid, relation::regclass FROM pg_locks WHERE mode = 'AccessExclusiveLock'; shows who; "
                "nothing was committed, the next try starts anew.",
            ) from error
        except psycopg.errors.OutOfMemory as error:
            raise BackupFailed(
                f"The server has no room for locks on {len(tables)} tables: {clean_message(str(error))}.",
                "Raise max_locks_per_transaction, or exclude tables in the policy.",
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise BackupFailed(
                f"The role may not read: {clean_message(str(error))}.",
                "Grant it: GRANT pg_read_all_data TO …; or exclude the table.",
            ) from error


def relation_of(table: Table) -> sql.Identifier:
    """A table's name for the server."""
    return sql.Identifier(table.schema, table.name)


def in_batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """The items, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
