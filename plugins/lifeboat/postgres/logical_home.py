"""The server, and the database on it, that an archive comes back to: looked at, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import LifeboatError, RestoreError
from lifeboat.postgres.client_programs import ProgramFailed, Programs, access_for, run_program
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.logical_contents import sequences_of
from lifeboat.postgres.logical_fitting import Definition, Name, There, asks_for_definitions, definitions
from lifeboat.postgres.logical_marks import remains_of
from lifeboat.postgres.logical_planning import DatabasePlan, Home
from lifeboat.postgres.logical_reading import WITHOUT_ROWS
from lifeboat.postgres.parameters import ConnectionParameters

Session = psycopg.Connection[TupleRow]
LOCK_MILLISECONDS = 60_000


def home_of(session: Session, system: str, settings: Collection[str] = ()) -> Home:
    """Look at the server that databases of a system shall come back to, and whether it knows these settings."""

    def names(query: str) -> frozenset[str]:
        return frozenset(str(name) for (name,) in session.execute(query.encode()).fetchall())

    row = session.execute("SELECT rolcreatedb, rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    create, superuser = row if row is not None else (False, False)
    databases = names("SELECT datname FROM pg_database")
    unknown = session.execute(
        # Names with a dot belong to extensions, which need not be loaded yet.
        "SELECT s FROM unnest(%s::text[]) s WHERE pg_settings_get_flags(s) IS NULL AND s NOT LIKE '%%.%%'",
        [sorted(settings)],
    ).fetchall()
    return Home(
        major=session.info.server_version // 10000,
        databases=databases,
        roles=names("SELECT rolname FROM pg_roles"),
        extensions=names("SELECT name FROM pg_available_extensions"),
        tablespaces=names("SELECT spcname FROM pg_tablespace"),
        may_create=create,
        superuser=superuser,
        remains=remains_of(session, system),
        unknown_settings=frozenset(str(name) for (name,) in unknown),
    )


def encoding_obstacles(session: Session, plan: DatabasePlan) -> list[LifeboatError]:
    """Whether a database that is there holds text as the old one did: rows are compared byte by byte."""
    row = session.execute("SELECT current_setting('server_encoding')").fetchone()
    encoding = str(row[0]) if row is not None else ""
    if encoding == plan.archive.facts.encoding:
        return []
    return [
        RestoreError(
            f"The database {plan.name} has the encoding {encoding}, the archive {plan.archive.facts.encoding}.",
            f"CREATE DATABASE … TEMPLATE template0 ENCODING '{plan.archive.facts.encoding}'; makes one that fits.",
        )
    ]


def there_in(
    session: Session,
    parameters: ConnectionParameters,
    programs: Programs,
    wanted: Sequence[Definition],
    *,
    tick: Callable[[], None] = no_tick,
) -> There:
    """Look at a database that tables shall come back into.

    Args:
        session: one in it.
        parameters: for ``pg_dump``, which reads how things are defined where that matters.
        wanted: what is to come.

    Raises:
        RestoreError: ``pg_dump`` can't read its definitions.
    """

    def pairs(query: str) -> frozenset[tuple[str, str]]:
        return frozenset((str(schema), str(name)) for schema, name in session.execute(query.encode()).fetchall())

    def names(query: str) -> frozenset[str]:
        return frozenset(str(name) for (name,) in session.execute(query.encode()).fetchall())

    sequences = {(one.name.schema, one.name.name) for one in wanted if one.name.kind == "SEQUENCE"}
    there = There(
        relations=pairs("SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"),
        types=pairs(
            "SELECT n.nspname, t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace"
            " WHERE t.typelem = 0 OR t.typname !~ '^_'"
        ),
        schemas=names("SELECT nspname FROM pg_namespace"),
        extensions=names("SELECT extname FROM pg_extension"),
        sequences={(one.schema_name, one.name): one for one in sequences_of(session, sequences)},
    )
    if not asks_for_definitions(wanted, there):
        return there
    return replace(there, defined=_defined(parameters, programs, tick))


def _defined(parameters: ConnectionParameters, programs: Programs, tick: Callable[[], None]) -> dict[Name, str]:
    pieces: list[bytes] = []
    with access_for(parameters) as access:
        arguments = [
            programs.path("pg_dump"),
            *("--verbose", "--no-owner", "--no-privileges", "--no-password", *WITHOUT_ROWS),
            *(f"--lock-wait-timeout={LOCK_MILLISECONDS}", f"--dbname={access.database(parameters.keywords['dbname'])}"),
        ]
        try:
            run_program(arguments, access=access, take=pieces.append, tick=tick)
        except ProgramFailed as error:
            raise RestoreError(
                f"How the database defines what the tables need can't be read: {error.what}",
                "Use a connection of a superuser; or restore into a new database, without --into-database.",
            ) from error
    script = b"".join(pieces).decode("utf-8", "surrogateescape")
    return {one.name: one.text for one in definitions(script)}
