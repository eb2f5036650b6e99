"""A replication connection for short commands: ``IDENTIFY_SYSTEM``, ``SHOW``, ``CREATE_REPLICATION_SLOT``.

Streams (``BASE_BACKUP``, ``START_REPLICATION``) are read from :attr:`ReplicationConnection.pgconn` by those who know
their end; cancelling and closing are here for both.

Source: https://www.postgresql.org/docs/current/protocol-replication.html
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from psycopg import Error as PsycopgError
from psycopg import pq
from psycopg.pq.abc import PGconn, PGresult

from lifeboat.errors import PostgresError
from lifeboat.postgres.connecting import connect_replication, no_tick, wait_for
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.parameters import CONNECT_SECONDS, ConnectionParameters
from lifeboat.postgres.refusals import clean_message

COMMAND_SECONDS = 60.0
CANCEL_SECONDS = 1.0
_LIBPQ_WITH_CANCEL = 170000
Row = tuple[str | None, ...]


@dataclass(frozen=True)
class SystemIdentity:
    """The answer to ``IDENTIFY_SYSTEM``.

    Attributes:
        system_identifier: the number that tells this cluster from every other.
        timeline: the timeline it writes on.
        position: up to where its log is flushed.
        database: the database we are connected to; ``None`` on a purely physical connection.
    """

    system_identifier: int
    timeline: int
    position: Lsn
    database: str | None


class ReplicationConnection:
    """A replication connection whose every wait is bounded and can be stopped by ``tick``.

    Args:
        parameters: where to connect to.
        database: connect to the database as well, so that SQL is possible.
        settings: server settings for the session.
        connect_seconds: limit for each address of the host.
        tick: called about four times a second in every wait; may raise.

    Raises:
        PostgresError: no connection; the text says what to do.
    """

    def __init__(
        self,
        parameters: ConnectionParameters,
        *,
        database: bool = False,
        settings: Mapping[str, str] | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        tick: Callable[[], None] = no_tick,
    ) -> None:
        self._parameters = parameters
        self._tick = tick
        self.pgconn: PGconn = connect_replication(
            parameters, database=database, settings=settings, connect_seconds=connect_seconds, tick=tick
        )

    def __enter__(self) -> ReplicationConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called or the server went away."""
        return self.pgconn.status != pq.ConnStatus.OK

    def query(self, command: str, *, seconds: float = COMMAND_SECONDS) -> list[Row]:
        """Send one command and return the rows of its last result, as text.

        Raises:
            PostgresError: the server refused it, went away, or did not answer within ``seconds``. After the last two
                the connection is closed.
        """
        deadline = time.monotonic() + seconds
        rows: list[Row] = []
        refused: PostgresError | None = None
        try:
            self.pgconn.send_query(command.encode())
            self._flush(deadline)
            while (result := self.next_result(deadline)) is not None:
                if result.status == pq.ExecStatus.TUPLES_OK:
                    rows = _rows(result)
                elif result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY):
                    refused = PostgresError(
                        f"The server at {self._parameters.address} refused: {self._reason(result)}."
                    )
        except PsycopgError as error:
            self.pgconn.finish()
            raise PostgresError(
                f"The connection to {self._parameters.address} was lost: {clean_message(str(error))}.",
                "Look at the server's log.",
            ) from error
        except BaseException:
            self.close()
            raise
        if refused is not None:
            raise refused
        return rows

    def identify_system(self) -> SystemIdentity:
        """Ask the server who it is; raises ``PostgresError``."""
        rows = self.query("IDENTIFY_SYSTEM")
        if len(rows) != 1 or None in rows[0][:3]:
            raise PostgresError(f"The server at {self._parameters.address} did not say who it is.")
        identifier, timeline, position, database = rows[0][:4]
        return SystemIdentity(int(identifier or 0), int(timeline or 0), Lsn.parse(position or ""), database)

    def next_result(self, deadline: float) -> PGresult | None:
        """The next result of what was sent, ``None`` after the last; ``deadline`` in ``time.monotonic()``.

        Raises:
            PostgresError: the deadline passed.
            psycopg.OperationalError: the connection broke.
        """
        while self.pgconn.is_busy():
            wait_for(
                self.pgconn.socket,
                selectors.EVENT_READ,
                deadline,
                self._tick,
                f"The server at {self._parameters.address} gave no answer",
            )
            self.pgconn.consume_input()
        return self.pgconn.get_result()

    def _flush(self, deadline: float) -> None:
        while self.pgconn.flush():
            ready = wait_for(
                self.pgconn.socket,
                selectors.EVENT_READ | selectors.EVENT_WRITE,
                deadline,
                self._tick,
                f"The server at {self._parameters.address} took no command",
            )
            if ready & selectors.EVENT_READ:
                self.pgconn.consume_input()

    def _reason(self, result: PGresult) -> str:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            return clean_message(result.error_message.decode("utf-8", "replace"))
        return f"it answered with {pq.ExecStatus(result.status).name}, which this command does not have"

    def close(self) -> None:
        """End what runs on the server, within a second, and close the connection. Harmless when closed already."""
        if self.pgconn.status == pq.ConnStatus.OK and self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            _cancel(self.pgconn)
        self.pgconn.finish()


def _cancel(pgconn: PGconn) -> None:
    """Ask the server to end what the connection runs, and wait a moment for its having heard it.

    ``PQcancel`` would wait inside C, with Python's global lock held: a server that is silent would freeze all of us.
    libpq 17 can do it without waiting; with an older one, the server notices the closed connection instead.
    """
    if pq.version() < _LIBPQ_WITH_CANCEL:
        return
    request = pgconn.cancel_conn()
    deadline = time.monotonic() + CANCEL_SECONDS
    wanted: int = selectors.EVENT_WRITE
    try:
        request.start()
        while request.status != pq.ConnStatus.BAD:
            wait_for(request.socket, wanted, deadline, no_tick, "The server took no cancellation")
            polled = request.poll()
            if polled in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
                return
            wanted = selectors.EVENT_READ if polled == pq.PollingStatus.READING else selectors.EVENT_WRITE
    except (PsycopgError, PostgresError):
        return
    finally:
        request.finish()


def _rows(result: PGresult) -> list[Row]:
    def text(row: int, column: int) -> str | None:
        value = result.get_value(row, column)
        return None if value is None else value.decode("utf-8", "replace")

    return [tuple(text(row, column) for column in range(result.nfields)) for row in range(result.ntuples)]
