"""Connections to a PostgreSQL server: for SQL, and for its replication protocol.

Nothing here waits inside C or without a limit: names are resolved beside the caller, sockets are watched with a
selector, and the caller's ``tick`` runs about four times a second and may raise to stop the wait.

Sources: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS,
https://www.postgresql.org/docs/current/protocol-replication.html
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGconn
from psycopg.rows import TupleRow
from psycopg.waiting import Ready

from lifeboat.errors import BackupFailed, PostgresError
from lifeboat.postgres.parameters import CONNECT_SECONDS, ConnectionParameters
from lifeboat.postgres.refusals import clean_message, connection_refused

_Answer = TypeVar("_Answer")
TICK_SECONDS = 0.25
STATEMENT_SECONDS = 60.0
ANSWER_SECONDS = 15.0
"""How much longer than a statement may take its answer is waited for."""


def no_tick() -> None:
    """What a wait does in between when its caller has nothing to look after."""


@contextmanager
def failing_clearly() -> Iterator[None]:
    """A statement that fails within, or a session that is lost, becomes an error that says what to do.

    Raises:
        BackupFailed: in the place of psycopg's own errors; all others pass.
    """
    try:
        yield
    except psycopg.Error as error:
        raise BackupFailed(
            f"The server ended the session, or refused a statement: {clean_message(str(error))}.",
            "Look at the server's log, and run it again: what was not committed is brought then.",
        ) from error


class Session(psycopg.Connection[TupleRow]):
    """A connection for SQL whose every wait is bounded and can be stopped.

    A server, or a network, that falls silent would otherwise be waited for without an end, and deaf to any stop. When a
    wait is given up, the connection is closed: nobody knows what it would answer next.
    """

    _seconds = STATEMENT_SECONDS + ANSWER_SECONDS
    _tick: Callable[[], None] = staticmethod(no_tick)

    def watch(self, tick: Callable[[], None], seconds: float) -> None:
        """Call ``tick`` about four times a second in every wait, and wait for ``seconds`` at most."""
        self._tick = tick
        self._seconds = seconds

    def wait(self, gen: PQGen[_Answer], interval: float = TICK_SECONDS, timeout: float | None = None) -> _Answer:
        """As psycopg's own, with tick and limit; raises ``PostgresError`` when there is no answer in time."""
        deadline = time.monotonic() + (self._seconds if timeout is None else min(timeout, self._seconds))
        try:
            wanted = next(gen)
            while True:
                ready = wait_for(self.fileno(), wanted, deadline, self._tick, "The server gave no answer")
                wanted = gen.send(Ready(ready))
        except StopIteration as ended:
            answer: _Answer = ended.value
            return answer
        except psycopg.Error as error:
            if error.sqlstate is None and (reason := self._last_words()) is not None:
                raise reason from error
            raise
        except BaseException:
            self.pgconn.finish()
            raise

    def _last_words(self) -> psycopg.Error | None:
        """Why the server hung up: libpq has read it together with the end of the connection, and psycopg then speaks of
        that end alone."""
        if self.pgconn.status != pq.ConnStatus.BAD or (result := self.pgconn.get_result()) is None:
            return None
        return error_from_result(result) if result.error_field(pq.DiagnosticField.SQLSTATE) else None


def connect_sql(
    parameters: ConnectionParameters,
    *,
    statement_seconds: float = STATEMENT_SECONDS,
    connect_seconds: float = CONNECT_SECONDS,
    tick: Callable[[], None] = no_tick,
) -> psycopg.Connection[TupleRow]:
    """Open an autocommit connection for SQL: only ``pg_catalog`` is searched, times are UTC, no idle time-out ends it.

    Raises:
        PostgresError: the server can't be reached or does not let us in; the text says what to do.
    """
    options = (
        f"-c search_path=pg_catalog -c statement_timeout={round(statement_seconds * 1000)} -c TimeZone=UTC "
        "-c DateStyle=ISO -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0"
    )
    if own := parameters.keywords.get("options"):
        options = f"{own} {options}"
    # libpq's own wait is interruptible in psycopg but knows no tick, so the connection is made here and wrapped there.
    pgconn = _connect(parameters, {"options": options}, connect_seconds, tick)
    pgconn.nonblocking = 1
    connection = Session(pgconn)
    connection.watch(tick, statement_seconds + ANSWER_SECONDS)
    connection.autocommit = True
    connection.prepare_threshold = None
    return connection


def connect_replication(
    parameters: ConnectionParameters,
    *,
    database: bool = False,
    settings: Mapping[str, str] | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    tick: Callable[[], None] = no_tick,
) -> PGconn:
    """Open a connection that speaks the replication protocol; it is in non-blocking mode.

    Args:
        parameters: from :func:`connection_parameters`.
        database: connect to the database as well: SQL is possible then, and ``pg_hba.conf`` is asked for the database
            and not for ``replication``.
        settings: server settings for this session, such as ``wal_sender_timeout``.
        connect_seconds: how long to try each address of the host.
        tick: called about four times a second while waiting; may raise to stop.

    Raises:
        PostgresError: the server can't be reached or does not let us in; the text says what to do.
    """
    options = " ".join(
        f"-c {name}={_escape_option(value)}" for name, value in {"DateStyle": "ISO", **(settings or {})}.items()
    )
    more = {"replication": "database" if database else "true", "options": options}
    pgconn = _connect(parameters, more, connect_seconds, tick)
    pgconn.nonblocking = 1
    return pgconn


def _escape_option(value: str) -> str:
    return re.sub(r"([\\\s])", r"\\\1", value)


def _connect(
    parameters: ConnectionParameters, more: Mapping[str, str], seconds: float, tick: Callable[[], None]
) -> PGconn:
    failure: PostgresError | None = None
    for address in _addresses(parameters, seconds, tick):
        where = {} if address is None else {"hostaddr": address}
        pgconn = pq.PGconn.connect_start(parameters.conninfo(**more, **where).encode())
        try:
            _poll(pgconn, parameters, seconds, tick)
        except PostgresError as error:
            pgconn.finish()
            failure = error
        except BaseException:
            pgconn.finish()
            raise
        else:
            return pgconn
    assert failure is not None
    raise failure


def _poll(pgconn: PGconn, parameters: ConnectionParameters, seconds: float, tick: Callable[[], None]) -> None:
    deadline = time.monotonic() + seconds
    wanted: int = selectors.EVENT_WRITE
    while pgconn.status != pq.ConnStatus.BAD:
        wait_for(pgconn.socket, wanted, deadline, tick, f"{parameters.address} accepted no connection")
        polled = pgconn.connect_poll()
        if polled == pq.PollingStatus.OK:
            return
        if polled == pq.PollingStatus.FAILED:
            break
        wanted = selectors.EVENT_READ if polled == pq.PollingStatus.READING else selectors.EVENT_WRITE
    raise connection_refused(parameters, pgconn.get_error_message())


def _addresses(parameters: ConnectionParameters, seconds: float, tick: Callable[[], None]) -> list[str] | list[None]:
    """The addresses of the host, each to be tried; ``None`` where libpq needs none."""
    if parameters.is_socket:
        return [None]
    answers: list[Any] = []

    def resolve() -> None:
        try:
            answers.append(socket.getaddrinfo(parameters.host, parameters.port, type=socket.SOCK_STREAM))
        except OSError as error:
            answers.append(error)

    # The resolver can't be interrupted, so it runs beside us; one that never answers ends with the process.
    resolver = threading.Thread(target=resolve, name="lifeboat-resolver", daemon=True)
    resolver.start()
    deadline = time.monotonic() + seconds
    while resolver.is_alive() and time.monotonic() < deadline:
        resolver.join(TICK_SECONDS)
        tick()
    if not answers or isinstance(answers[0], OSError):
        reason = answers[0].strerror if answers else f"no answer within {seconds:.0f} s"
        raise PostgresError(
            f"Connection {parameters.connection_id!r}: host {parameters.host!r} has no known address ({reason}).",
            "Look at the host in the connection and at this machine's name service.",
        )
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers[0]))


def wait_for(descriptor: int, events: int, deadline: float, tick: Callable[[], None], what: str) -> int:
    """Wait until a socket is ready; return the ready events.

    ``deadline`` is a moment of ``time.monotonic()``; once past it, ``PostgresError`` says ``what`` and that time ran
    out. ``tick`` is called at every turn.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, events)
        while True:
            tick()
            left = deadline - time.monotonic()
            ready = selector.select(max(0.0, min(TICK_SECONDS, left)))
            if ready:
                return ready[0][1]
            if left <= 0:
                raise PostgresError(
                    f"{what} within the time allowed.",
                    "Look whether the server is alive and the network lets us through.",
                )
