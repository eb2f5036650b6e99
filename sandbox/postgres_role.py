"""The role that backs a sandbox server up, with the least that it needs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from psycopg import sql

from sandbox.postgres import PostgresServer


def create_backup_role(server: PostgresServer, name: str = "lifeboat", *, databases: Sequence[str] = ()) -> str:
    """Make the role, let it in, and return its password, which ``server.dsn(name)`` knows as well.

    ``databases``: where it may switch WAL besides ``postgres``; privileges on functions hold in one database each.
    """
    password = secrets.token_urlsafe(16)
    role = sql.Identifier(name)
    with server.connect() as session:
        session.execute(sql.SQL("CREATE ROLE {} LOGIN REPLICATION PASSWORD {}").format(role, password))
        session.execute(sql.SQL("GRANT pg_monitor TO {}").format(role))
    for database in ("postgres", *databases):
        with server.connect(database=database) as session:
            session.execute(sql.SQL("GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO {}").format(role))
    server.passwords[name] = password
    server.allow("replication", name)
    return password


def create_reading_role(server: PostgresServer, name: str = "lifeboat") -> str:
    """Make a role that may read all data and nothing more, for logical archives; returns its password."""
    password = secrets.token_urlsafe(16)
    with server.connect() as session:
        session.execute(sql.SQL("CREATE ROLE {} LOGIN BYPASSRLS PASSWORD {}").format(sql.Identifier(name), password))
    let_read_everything(server, name)
    server.passwords[name] = password
    return password


def let_read_everything(server: PostgresServer, name: str = "lifeboat") -> None:
    """Let a role read all data of all databases, row security and large objects included."""
    role = sql.Identifier(name)
    with server.connect() as session:
        session.execute(sql.SQL("GRANT pg_read_all_data, pg_monitor TO {}").format(role))
        session.execute(sql.SQL("ALTER ROLE {} BYPASSRLS").format(role))
        session.execute(sql.SQL("ALTER ROLE {} SET lo_compat_privileges = on").format(role))
