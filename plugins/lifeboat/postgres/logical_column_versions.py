"""What a server notes in its catalogues for itself, and a ``pg_dump`` that does not know it writes into archives.

PostgreSQL 17.12, and what was released with it, keeps a version of each column among the column's options. A
``pg_dump`` of before takes it for an option that somebody has set, and no server takes that back: the archive looks
whole and can't be restored. No number tells which programs know it, since those of another major version count
otherwise; so ``pg_dump`` is asked for one such table's definition, and what it writes is looked at.
Source: https://www.postgresql.org/docs/current/catalog-pg-attribute.html (``attoptions``)
"""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg

from lifeboat.errors import BackupFailed
from lifeboat.postgres.client_programs import Access, ProgramFailed, Programs, run_program
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.logical_contents import refused_reading
from lifeboat.postgres.logical_dump import explained
from lifeboat.postgres.parameters import ConnectionParameters

_MARKED = """
    SELECT format('%I.%I', n.nspname, c.relname)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attoptions::text LIKE '%pg\\_attver=%' AND c.relkind = 'r'
        AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.oid LIMIT 1"""
_WRITTEN = re.compile(rb"^ALTER TABLE [^;]* SET \([^;]*pg_attver=", re.MULTILINE)
_LOCK_MILLISECONDS = 60_000


def refuse_unaware(
    parameters: ConnectionParameters,
    database: str,
    programs: Programs,
    access: Access,
    *,
    tick: Callable[[], None],
) -> bool:
    """Refuse programs whose archive of this database no server would take.

    Returns:
        Whether there was a table to ask for.

    Raises:
        BackupFailed: ``pg_dump`` writes the server's own marks as options, and the text says which programs will do;
            or it could not read the table's definition.
        PostgresError: the database can't be looked at.
    """
    try:
        with connect_sql(parameters, tick=tick) as session:
            row = session.execute(_MARKED.encode()).fetchone()
    except psycopg.Error as error:
        raise refused_reading(error, f"Database {database} can't be read") from error
    if row is None:
        return False
    written = bytearray()
    arguments = [
        programs.path("pg_dump"),
        *("--schema-only", "--no-password", f"--lock-wait-timeout={_LOCK_MILLISECONDS}", f"--table={row[0]}"),
        f"--dbname={access.database(database)}",
    ]
    try:
        run_program(arguments, access=access, take=written.extend, tick=tick)
    except ProgramFailed as failure:
        raise explained(failure, f"the definition of {row[0]} in database {database}") from failure
    if _WRITTEN.search(written):
        raise BackupFailed(
            f"pg_dump {programs.version} in {programs.directory} is older than what this server keeps of its columns "
            f"(pg_attver): no server would take its archive of database {database} back.",
            "Install newer client programs of the server's or a later major version (PostgreSQL 17.12 and what was "
            "released with it, or later), and name their directory with `binaries` in the policy.",
        )
    return True
