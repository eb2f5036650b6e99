"""The server that a source is read from must never be the one that a test restores to.

Two names may lead to one server: what tells is the cluster's system identifier, which a standby and a physical copy
share with it.
Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-CONTROLDATA
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import PostgresError, RestoreError
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.parameters import ConnectionParameters

Session = psycopg.Connection[TupleRow]
LIVING_SECONDS = 5.0
"""A lost source does not keep its test waiting."""


@dataclass(frozen=True)
class Living:
    """What is known of the server that a source is read from.

    Attributes:
        identifiers: the system identifiers that it has, and had when its backups were made.
        address: where it is, as its connection says; empty where there is no such connection here.
    """

    identifiers: Collection[int]
    address: str = ""

    def refuse(self, session: Session, parameters: ConnectionParameters) -> None:
        """Insist on a server's being another one.

        Raises:
            RestoreError: it is the same, or may be.
        """
        server = f"The connection {parameters.connection_id} leads to {parameters.address}"
        if parameters.address == self.address:
            raise RestoreError(f"{server}, where the source itself is.", _REMEDY)
        identifier = identifier_of(session)
        if identifier is None:
            raise RestoreError(
                f"{server}, which does not say its system identifier: it may be the source itself.",
                "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO the connection's role.",
            )
        if identifier in self.identifiers:
            raise RestoreError(
                f"{server}, which has the source's own system identifier ({identifier}): it is that server, its "
                "standby, or a physical copy of it.",
                _REMEDY,
            )


_REMEDY = "Let it name a server of its own, made with initdb; without `tests.connection`, a scratch server is made."


def identifier_of(session: Session) -> int | None:
    """The system identifier of a cluster; ``None`` where the role may not know it."""
    try:
        row = session.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFunction):
        return None
    return int(row[0]) if row is not None else None


def living_identifier(parameters: ConnectionParameters, tick: Callable[[], None] = no_tick) -> int | None:
    """The identifier of the source as it is now; ``None`` where it does not answer, or does not say."""
    try:
        with connect_sql(parameters, connect_seconds=LIVING_SECONDS, tick=tick) as session:
            return identifier_of(session)
    except (PostgresError, psycopg.Error):
        return None
