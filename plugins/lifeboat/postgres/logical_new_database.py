"""A new database for what comes back: made as the old one was, named and opened up only at the end.

Source: https://www.postgresql.org/docs/current/sql-createdatabase.html
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.postgres.logical_details import DatabaseArchive
from lifeboat.postgres.logical_planning import DatabasePlan

Session = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Settling:
    """What decides how much of a database's own comes back.

    Attributes:
        owners: whether owner and privileges do.
        roles: those that the server has.
        unknown: settings that the server does not know.
    """

    owners: bool
    roles: Collection[str]
    unknown: Collection[str]


_LISTS = frozenset(
    {
        *("local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries"),
        *("temp_tablespaces", "unix_socket_directories"),
    }
)
"""Settings whose value is a list of names, each of them quoted by itself (GUC_LIST_QUOTE in the server's sources)."""
_WORD = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


def create(
    admin: Session, name: str, archive: DatabaseArchive, *, tablespace: bool, mark: str, private: bool = False
) -> None:
    """Make an empty database with the old one's encoding and locale, and say that it is not proven yet.

    Args:
        tablespace: whether it goes into the tablespace that it lay in.
        mark: what says so: its comment.
        private: whether nobody but its owner may enter, under whichever name.
    """
    facts = archive.facts
    options = [
        sql.SQL("ENCODING {}").format(sql.Literal(facts.encoding)),
        sql.SQL("LC_COLLATE {}").format(sql.Literal(facts.collate)),
        sql.SQL("LC_CTYPE {}").format(sql.Literal(facts.ctype)),
        sql.SQL("LOCALE_PROVIDER {}").format(sql.Identifier(facts.locale_provider)),
    ]
    if facts.locale is not None and facts.locale_provider in ("icu", "builtin"):
        word = "ICU_LOCALE" if facts.locale_provider == "icu" else "BUILTIN_LOCALE"
        options.append(sql.SQL(word + " {}").format(sql.Literal(facts.locale)))
    if facts.icu_rules is not None:
        options.append(sql.SQL("ICU_RULES {}").format(sql.Literal(facts.icu_rules)))
    if tablespace and archive.tablespace != "pg_default":
        options.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(archive.tablespace)))
    admin.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(sql.Identifier(name), sql.SQL(" ").join(options))
    )
    admin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(mark)))
    if private:
        admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


def rehearse(admin: Session, plan: DatabasePlan, name: str, settling: Settling) -> None:
    """Do what :func:`finish` will do, and take it back: what the server refuses it refuses before the rows are read.

    Where the name is still another database's, a free one stands for it.
    """
    admin.execute("BEGIN")
    try:
        finish(admin, plan, name, settling, to=plan.replaces.aside if plan.replaces is not None else None)
    finally:
        admin.execute("ROLLBACK")


def finish(admin: Session, plan: DatabasePlan, name: str, settling: Settling, *, to: str | None = None) -> None:
    """What belongs to the database itself, as the old one had it; the name last: it says that everything is there."""
    place, archive = sql.Identifier(name), plan.archive
    database = sql.SQL("ALTER DATABASE {} ").format(place)
    for setting in archive.settings:
        _set(admin, database, setting, settling)
    for one in archive.role_settings:
        if one.role in settling.roles:
            role = sql.SQL("ALTER ROLE {} IN DATABASE {} ").format(sql.Identifier(one.role), place)
            for setting in one.settings:
                _set(admin, role, setting, settling)
    if archive.connection_limit >= 0:
        admin.execute(database + sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(archive.connection_limit)))
    admin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(place, sql.Literal(archive.comment)))
    if settling.owners:
        if archive.owner:
            admin.execute(database + sql.SQL("OWNER TO {}").format(sql.Identifier(archive.owner)))
        if archive.privileges is not None:
            _grant(admin, place, archive)
    admin.execute(database + sql.SQL("RENAME TO {}").format(sql.Identifier(to or plan.name)))


def _set(admin: Session, whose: sql.Composed, setting: str, settling: Settling) -> None:
    key, _, value = setting.partition("=")
    if key in settling.unknown:
        return
    words = [value]
    if key in _LISTS:
        words = [quoted.replace('""', '"') if quoted else plain for quoted, plain in _WORD.findall(value)] or [""]
    values = sql.SQL(", ").join(sql.Literal(word) for word in words)
    parts = sql.SQL(".").join(sql.Identifier(part) for part in key.split("."))
    admin.execute(whose + sql.SQL("SET {} TO {}").format(parts, values))


def _grant(admin: Session, place: sql.Identifier, archive: DatabaseArchive) -> None:
    """Grant what was granted, and nothing that a new database has of itself; all of it in the owner's name."""
    owner: sql.Composable = sql.Identifier(archive.owner) if archive.owner else sql.SQL("CURRENT_USER")
    admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(place, owner))
    for one in archive.privileges or ():
        who: sql.Composable = sql.Identifier(one.role) if one.role else sql.SQL("PUBLIC")
        more = sql.SQL(" WITH GRANT OPTION" if one.grantable and one.role != archive.owner else "")
        privilege = sql.SQL(one.privilege)
        admin.execute(sql.SQL("GRANT {} ON DATABASE {} TO {}").format(privilege, place, who) + more)
