"""A new database for what comes back: made as the old one was, named and opened up only at the end.

Source: https://www.postgresql.org/docs/current/sql-createdatabase.html
"""

from __future__ import annotations

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.postgres.logical_details import DatabaseArchive
from lifeboat.postgres.logical_planning import DatabasePlan

Session = psycopg.Connection[TupleRow]

_LISTS = frozenset(
    {
        *("local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries"),
        *("temp_tablespaces", "unix_socket_directories"),
    }
)
"""Settings whose value is a list of names, each of them quoted by itself (GUC_LIST_QUOTE in the server's sources)."""


def create(admin: Session, name: str, archive: DatabaseArchive) -> None:
    """Make an empty database with the old one's encoding and locale, and say that it is not proven yet."""
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
    admin.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 {}").format(sql.Identifier(name), sql.SQL(" ").join(options))
    )
    admin.execute(
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(
            sql.Identifier(name), sql.Literal("A restore of Lifeboat's that was not proven: nobody should use it.")
        )
    )


def finish(admin: Session, plan: DatabasePlan, name: str, *, owners: bool) -> None:
    """Settings, comment and owner of the old one; the name last: it says that everything is there."""
    place, archive = sql.Identifier(name), plan.archive
    for setting in archive.settings:
        key, _, value = setting.partition("=")
        words = [part.strip().strip('"') for part in value.split(",")] if key in _LISTS else [value]
        values = sql.SQL(", ").join(sql.Literal(word) for word in words)
        parts = sql.SQL(".").join(sql.Identifier(part) for part in key.split("."))
        admin.execute(sql.SQL("ALTER DATABASE {} SET {} TO {}").format(place, parts, values))
    admin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(place, sql.Literal(archive.comment)))
    if owners and archive.owner:
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(place, sql.Identifier(archive.owner)))
    admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(place, sql.Identifier(plan.name)))
