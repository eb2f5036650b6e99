"""Reading what the server streams, without ever waiting inside C.

``PQgetCopyData`` in its blocking form holds Python's global lock while it waits, which starves compression, encryption
and upload beside it; so the data is asked for without waiting, and the wait is a poll of the socket.
Source: https://www.postgresql.org/docs/current/libpq-copy.html
"""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic

from psycopg import Error as PsycopgError
from psycopg import pq
from psycopg.pq.abc import PGconn

from lifeboat.errors import BackupFailed, PostgresError, SlotLost
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.refusals import clean_message

LOST_REMEDY = (
    "A daily backup begins a new chain; moments between the last committed WAL and that backup can't be reached. Raise "
    "max_slot_wal_keep_size, or collect WAL more often."
)


class CopyStream:
    """The messages of one COPY OUT or COPY BOTH.

    Args:
        pgconn: a connection in non-blocking mode whose current result is the COPY.
        tick: called about four times a second, also while data keeps flowing; may raise.
        silence_seconds: how long the server may say nothing at all.
    """

    def __init__(self, pgconn: PGconn, *, tick: Callable[[], None], silence_seconds: float) -> None:
        self._pgconn = pgconn
        self._tick = tick
        self._silence = silence_seconds
        self._due = monotonic()
        self._poll = select.poll()
        self._poll.register(pgconn.socket, select.POLLIN)

    def next_message(self) -> memoryview | None:
        """The next message, ``None`` when the stream has ended; how it ended is in the results that follow.

        Raises:
            BackupFailed: the connection broke, or the server was silent for too long.
            SlotLost: the server has removed the WAL that it was to send.
        """
        heard = monotonic()
        while True:
            message = self.message_at_hand()
            self._tick_in_time()
            if message is not None:
                return message if len(message) else None
            if self._wait(TICK_SECONDS):
                self._consume()
                continue
            if monotonic() - heard > self._silence:
                raise BackupFailed(
                    f"The server sent nothing for {self._silence:.0f} s.",
                    "Look whether it is alive; a checkpoint that is spread over a long time shows in its log. "
                    "checkpoint: fast in the policy avoids that wait.",
                )

    def message_at_hand(self) -> memoryview | None:
        """A message that has arrived already, an empty one when the stream has ended, ``None`` when none is there."""
        try:
            size, data = self._pgconn.get_copy_data(1)
            if size == 0:
                # What the kernel holds may complete a message; asking is cheaper than a poll.
                self._pgconn.consume_input()
                size, data = self._pgconn.get_copy_data(1)
        except PsycopgError as error:
            raise self._broken(error) from error
        if size == 0:
            return None
        return memoryview(b"") if size < 0 else memoryview(data)

    def _tick_in_time(self) -> None:
        if monotonic() >= self._due:
            self._due = monotonic() + TICK_SECONDS
            self._tick()

    def wait(self, seconds: float) -> None:
        """Wait until something arrives, at most that long."""
        if self._wait(seconds):
            self._consume()

    def _wait(self, seconds: float) -> bool:
        return bool(self._poll.poll(seconds * 1000))

    def _consume(self) -> None:
        try:
            self._pgconn.consume_input()
        except PsycopgError as error:
            raise self._broken(error) from error

    def _broken(self, error: PsycopgError) -> PostgresError:
        reason = clean_message(str(error)) or "it was closed"
        if "has already been removed" in reason:
            return SlotLost(f"The server no longer has the WAL that comes next: {reason}.", LOST_REMEDY)
        return BackupFailed(
            f"The connection to the server broke in mid-stream: {reason}.",
            "Look at the server's log: it was stopped, it ended the session, or the network cut it. "
            "Nothing of this attempt was committed; the next try starts anew.",
        )


def failure_of(message: bytes) -> str:
    """A server's error as one clean line."""
    return clean_message(message.decode("utf-8", "replace"))


def is_error(status: int) -> bool:
    """Whether a result's status is an error."""
    return status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE, pq.ExecStatus.NONFATAL_ERROR)
