"""Which databases of a server a logical archive holds, and what belongs to each besides its contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import PolicyError, PostgresError
from lifeboat.policy.logical import LogicalPolicy

Session = psycopg.Connection[TupleRow]

_DATABASES = """
    SELECT d.oid::int8, d.datname, r.rolname, shobj_description(d.oid, 'pg_database'), d.datallowconn,
        d.datconnlimit = -2, d.datistemplate,
        coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0), '{}'),
        ARRAY(
            SELECT DISTINCT o.rolname::text FROM pg_shdepend p JOIN pg_roles o ON o.oid = p.refobjid
            WHERE p.dbid = d.oid AND p.refclassid = 'pg_authid'::regclass AND p.deptype IN ('o', 'a', 'r')
            ORDER BY 1
        )
    FROM pg_database d LEFT JOIN pg_roles r ON r.oid = d.datdba
    ORDER BY d.datname"""


@dataclass(frozen=True)
class Database:
    """A database as the server lists it.

    Attributes:
        obstacle: why it can't be read; empty where it can.
        roles: those that own something in it or have privileges there, its owner among them.
    """

    oid: int
    name: str
    owner: str
    comment: str | None
    settings: tuple[str, ...]
    roles: tuple[str, ...]
    template: bool
    obstacle: str


def databases_of(session: Session) -> list[Database]:
    """All databases of the server, by name."""
    found = []
    for oid, name, owner, comment, open_, invalid, template, settings, roles in session.execute(
        _DATABASES.encode()
    ).fetchall():
        obstacle = ""
        if invalid:
            obstacle = "its DROP DATABASE was cut short; drop it"
        elif not open_:
            obstacle = "it allows no connections"
        everybody = tuple(sorted({*roles, *([owner] if owner else [])}))
        found.append(Database(oid, name, owner or "", comment, tuple(settings), everybody, template, obstacle))
    return found


def chosen(databases: Sequence[Database], policy: LogicalPolicy) -> tuple[list[Database], dict[str, str]]:
    """The databases to read, and those that are left out, by name, with the reason.

    ``postgres`` is one like any other: people keep things in it. Templates are left out: what they hold is in the
    databases that were made of them.

    Raises:
        PolicyError: the policy names a database that is not there, or leaves none.
    """
    taken: list[Database] = []
    left: dict[str, str] = {}
    for database in databases:
        if database.template:
            left[database.name] = "it is a template"
        elif not policy.takes(database.name):
            left[database.name] = "the policy leaves it out"
        elif database.obstacle:
            left[database.name] = database.obstacle
        else:
            taken.append(database)
    plain = [name for name in policy.databases if not set("*?[") & set(name)]
    missing = sorted(set(plain) - {database.name for database in taken})
    if missing or not taken:
        reasons = [f"{name} ({left.get(name, 'there is no such database')})" for name in missing]
        raise PolicyError(
            f"Databases that the policy names can't be read: {', '.join(reasons)}."
            if missing
            else "The policy leaves no database to read.",
            "Mend `logical: databases` or `exclude_databases`.",
        )
    return taken, left


def is_superuser(session: Session) -> bool:
    """Whether the session's role may do everything."""
    return bool(_one(session, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))


def may_read_passwords(session: Session) -> bool:
    """Whether the role may read the roles' passwords (their hashes), as a superuser or through pg_read_all_data."""
    return bool(_one(session, "SELECT has_table_privilege('pg_authid', 'SELECT')"))


def holds_something(session: Session) -> bool:
    """Whether there is anything in the session's database that PostgreSQL itself did not make."""
    # FirstNormalObjectId: what initdb makes has smaller oids.
    catalogues = ("pg_class", "pg_proc", "pg_type", "pg_namespace", "pg_extension", "pg_largeobject_metadata")
    return any(
        _one(session, f"SELECT EXISTS (SELECT 1 FROM {catalogue} WHERE oid >= 16384)")  # noqa: S608 the names are ours
        for catalogue in catalogues
    )


def _one(session: Session, query: str) -> object:
    row = session.execute(query.encode()).fetchone()
    if row is None:
        raise PostgresError("The server gave no answer to a question about its databases.")
    return row[0]
