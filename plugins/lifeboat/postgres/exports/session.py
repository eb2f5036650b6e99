"""A session that reads a database as it was at one moment, in forms that any PostgreSQL reads back exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from lifeboat.errors import BackupFailed, PostgresError
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.connecting import Session, connect_sql
from lifeboat.postgres.copy_stream import CopyStream, failure_of, is_error
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.refusals import clean_message
from lifeboat.postgres.standby import CONFLICT, CONFLICT_REMEDY
from lifeboat.repository.system import SystemRepository

Sql = psycopg.Connection[TupleRow]

SILENCE_SECONDS = 3600.0
"""How long a COPY may bring nothing. A server that reads a large table of dead rows is silent, and at work."""

CANCEL_SECONDS = 1.0

FIXED_SETTINGS = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "search_path": "pg_catalog",
    "row_security": "off",
    "synchronize_seqscans": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
"""What the text forms of values depend on, the same when they are written and when they are read. ``row_security =
off``: a server that would leave rows out refuses instead."""


def export_parameters(
    repository: SystemRepository, source: PostgresSource, what: str, *, database: str | None = None
) -> ConnectionParameters:
    """libpq's parameters for one database of a source; the connection's own without a name."""
    return connection_parameters(
        repository.outside.connection(source.connection),
        Tls(source.tls, source.tls_minimum),
        application_name=f"lifeboat {what} {repository.system}",
        database=database,
    )


@contextmanager
def exact_session(parameters: ConnectionParameters, *, tick: Callable[[], None]) -> Iterator[Sql]:
    """A session with the fixed settings, whose statements may take long; ended with what it runs.

    Raises:
        PostgresError: no connection; the text says what to do.
    """
    session = connect_sql(parameters, tick=tick)
    try:
        settings = dict(FIXED_SETTINGS)
        if session.info.server_version >= 170000:
            settings["transaction_timeout"] = "0"
        session.execute(
            "SELECT pg_catalog.set_config(s.name, s.value, false)"
            " FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
            [list(settings), list(settings.values())],
        )
        if isinstance(session, Session):
            session.watch(tick, SILENCE_SECONDS)
        yield session
    except psycopg.Error as error:
        end(session)
        remedy = CONFLICT_REMEDY if CONFLICT in str(error) else "Look at the server's log."
        raise PostgresError(f"The server refused: {clean_message(str(error))}.", remedy) from error
    except BaseException:
        end(session)
        raise
    else:
        session.close()


def end(session: Sql) -> None:
    """End what runs on the server, within a second, and close."""
    try:
        if (
            session.pgconn.status == pq.ConnStatus.OK
            and session.pgconn.transaction_status == pq.TransactionStatus.ACTIVE
        ):
            session.cancel_safe(timeout=CANCEL_SECONDS)
    except (psycopg.Error, OSError):
        # The server notices the closed connection instead.
        pass
    finally:
        session.pgconn.finish()


def copy_out(session: Sql, statement: str, what: str, *, tick: Callable[[], None]) -> Iterator[memoryview]:
    """The rows of a ``COPY … TO STDOUT``, one at a time, each with its line end.

    Returns only when the server has confirmed the end.

    Args:
        what: what is read, for errors.

    Raises:
        BackupFailed: the server refused, failed or went away.
    """
    pgconn = session.pgconn
    try:
        pgconn.send_query(statement.encode())
        while pgconn.flush():
            tick()
        stream = CopyStream(pgconn, tick=tick, silence_seconds=SILENCE_SECONDS)
        _expect_copy(_next_result(session, stream, tick), what)
        while (row := stream.next_message()) is not None:
            yield row
        while (result := _next_result(session, stream, tick)) is not None:
            if is_error(result.status):
                raise _refused(result, what)
    except psycopg.Error as error:
        raise BackupFailed(
            f"The connection to the server broke while {what} was read: {failure_of(str(error).encode())}.",
            "Look at the server's log. Nothing of this attempt was committed; the next try starts anew.",
        ) from error


def _next_result(session: Sql, stream: CopyStream, tick: Callable[[], None]) -> PGresult | None:
    deadline = monotonic() + SILENCE_SECONDS
    while session.pgconn.is_busy():
        tick()
        stream.wait(0.25)
        if monotonic() > deadline:
            raise BackupFailed("The server gave no answer.", "Look whether it is alive.")
    return session.pgconn.get_result()


def _expect_copy(result: PGresult | None, what: str) -> None:
    if result is None or result.status != pq.ExecStatus.COPY_OUT:
        raise _refused(result, what)


def _refused(result: PGresult | None, what: str) -> BackupFailed:
    message = failure_of(result.error_message) if result is not None else ""
    state = result.error_field(pq.DiagnosticField.SQLSTATE) if result is not None else None
    remedy = "Look at the server's log. Nothing of this attempt was committed; the next try starts anew."
    if "row-level security" in message:
        remedy = "Run as a superuser: ALTER ROLE … BYPASSRLS; or exclude the table. Else a part of it would be missing."
    elif CONFLICT in message:
        remedy = CONFLICT_REMEDY
    elif "unlogged relations during recovery" in message:
        remedy = "A standby does not have an unlogged table's rows: exclude the table, or ALTER TABLE … SET LOGGED;"
    elif state == b"42501":
        remedy = "Grant it: GRANT pg_read_all_data TO …; or exclude the table."
    return BackupFailed(f"The server did not give {what}: {message or 'without saying why'}.", remedy)
