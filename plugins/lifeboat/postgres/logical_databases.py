"""Which databases of a server a logical archive holds, and what belongs to each besides its contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.errors import PolicyError, PostgresError
from lifeboat.policy.logical import LogicalPolicy
from lifeboat.postgres.logical_details import DatabasePrivilege, RoleSettings

Session = psycopg.Connection[TupleRow]

_DATABASES = """
    SELECT d.oid::int8, d.datname, r.rolname, shobj_description(d.oid, 'pg_database'), d.datallowconn,
        d.datconnlimit = -2, d.datistemplate,
        coalesce((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = d.oid AND s.setrole = 0), '{}'),
        ARRAY(
            SELECT DISTINCT o.rolname::text FROM pg_shdepend p JOIN pg_roles o ON o.oid = p.refobjid
            WHERE p.dbid = d.oid AND p.refclassid = 'pg_authid'::regclass AND p.deptype IN ('o', 'a', 'r')
            ORDER BY 1
        ),
        (
            SELECT json_agg(json_build_object('role', o.rolname, 'settings', s.setconfig) ORDER BY o.rolname)
            FROM pg_db_role_setting s JOIN pg_roles o ON o.oid = s.setrole WHERE s.setdatabase = d.oid
        ),
        CASE WHEN d.datacl IS NOT NULL THEN coalesce(
            (
                SELECT json_agg(json_build_object('role', g.role, 'privilege', g.privilege, 'grantable', g.grantable))
                FROM (
                    SELECT coalesce(o.rolname, '') AS role, a.privilege_type AS privilege,
                        bool_or(a.is_grantable) AS grantable
                    FROM aclexplode(d.datacl) a LEFT JOIN pg_roles o ON o.oid = a.grantee GROUP BY 1, 2 ORDER BY 1, 2
                ) g
            ), '[]'
        ) END,
        (SELECT t.spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace), d.datconnlimit,
        ARRAY(SELECT u.subname::text FROM pg_subscription u WHERE u.subdbid = d.oid ORDER BY 1)
    FROM pg_database d LEFT JOIN pg_roles r ON r.oid = d.datdba
    ORDER BY d.datname"""


_CATALOGUES = (
    *("pg_class", "pg_namespace", "pg_extension", "pg_type", "pg_proc", "pg_largeobject_metadata", "pg_publication"),
    *("pg_event_trigger", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_default_acl", "pg_cast", "pg_collation"),
    *("pg_conversion", "pg_language", "pg_transform", "pg_am", "pg_operator", "pg_opclass", "pg_opfamily"),
    *("pg_ts_config", "pg_ts_dict", "pg_ts_parser", "pg_ts_template"),
)
"""What a database may hold, the most telling first. What can't be without another thing, an index, is not asked for."""


@dataclass(frozen=True)
class Database:
    """A database as the server lists it.

    Attributes:
        obstacle: why it can't be read; empty where it can.
        roles: those that own something in it, have privileges in it or on it, or settings in it; its owner, too.
        others: as :class:`~lifeboat.postgres.logical_details.DatabaseArchive` has them.
    """

    oid: int
    name: str
    owner: str
    comment: str | None
    settings: tuple[str, ...]
    roles: tuple[str, ...]
    template: bool
    obstacle: str
    role_settings: tuple[RoleSettings, ...] = ()
    privileges: tuple[DatabasePrivilege, ...] | None = None
    tablespace: str = "pg_default"
    connection_limit: int = -1
    subscriptions: tuple[str, ...] = ()


def databases_of(session: Session) -> list[Database]:
    """All databases of the server, by name."""
    found = []
    for row in session.execute(_DATABASES.encode()).fetchall():
        oid, name, owner, comment, open_, invalid, template, settings, roles, alone, granted, space, limit, subs = row
        obstacle = ""
        if invalid:
            obstacle = "its DROP DATABASE was cut short; drop it"
        elif not open_:
            obstacle = "it allows no connections"
        role_settings = tuple(RoleSettings.model_validate(one) for one in alone or ())
        privileges = None if granted is None else tuple(DatabasePrivilege.model_validate(one) for one in granted)
        everybody = {*roles, owner or "", *(one.role for one in role_settings), *(one.role for one in privileges or ())}
        found.append(
            Database(
                oid=oid,
                name=name,
                owner=owner or "",
                comment=comment,
                settings=tuple(settings),
                roles=tuple(sorted(everybody - {""})),
                template=template,
                obstacle=obstacle,
                role_settings=role_settings,
                privileges=privileges,
                tablespace=space or "pg_default",
                connection_limit=limit,
                subscriptions=tuple(subs),
            )
        )
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
    return bool(things_in(session, at_most=1))


def things_in(session: Session, *, at_most: int = 10) -> list[str]:
    """What is in the session's database that PostgreSQL itself did not make, in the server's words."""
    found: list[str] = []
    for catalogue in _CATALOGUES:
        # Large objects are described by the number of the catalogue that holds their pages.
        objects = catalogue == "pg_largeobject_metadata"
        kind = "pg_largeobject" if objects else catalogue
        # FirstNormalObjectId: what initdb makes has smaller oids. It makes no large objects, whose numbers are free.
        query = sql.SQL(
            "SELECT pg_describe_object({}::regclass, x.oid, 0) FROM {} x WHERE x.oid >= {} ORDER BY x.oid LIMIT {}"
        ).format(
            sql.Literal(kind),
            sql.Identifier(catalogue),
            sql.Literal(0 if objects else 16384),
            sql.Literal(at_most - len(found)),
        )
        found += [str(described) for (described,) in session.execute(query).fetchall()]
        if len(found) >= at_most:
            break
    return found


def _one(session: Session, query: str) -> object:
    row = session.execute(query.encode()).fetchone()
    if row is None:
        raise PostgresError("The server gave no answer to a question about its databases.")
    return row[0]
