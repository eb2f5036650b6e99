"""``START_REPLICATION``: the server's WAL of one timeline, byte by byte, to a given position or for as long as wanted.

Source: https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-START-REPLICATION
"""

from __future__ import annotations

import select
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Protocol

from psycopg import Error as PsycopgError
from psycopg import pq

from lifeboat.errors import BackupFailed, PostgresError, SlotLost
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.copy_stream import LOST_REMEDY, CopyStream, failure_of, is_error
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.replication import ReplicationConnection

STATUS_SECONDS = 5.0
"""How often the server hears from us while data flows or the target is slow."""
SESSION_SETTINGS = {"wal_sender_timeout": "60s", "idle_session_timeout": "0"}
"""For the connection that WAL is received on: a server that hears nothing for that long ends the session. Set here and
not left to the server's own configuration, where some have a second or two, and others 0: a slot would then stay with a
dead worker for ever."""
SILENCE_SECONDS = 600.0
FOLLOW_SILENCE_SECONDS = 60.0
"""How long a server that is followed, and asked for an answer every few seconds, may give none."""
RESULT_SECONDS = 120.0
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_HEADER = struct.Struct("!cqqq")
_STATUS = struct.Struct("!cqqqqb")


class WalSink(Protocol):
    """Takes the WAL in order."""

    def write(self, start: Lsn, data: memoryview) -> None:
        """Bytes that begin at ``start``, which is where the last ones ended."""


@dataclass(frozen=True)
class StreamEnd:
    """Where the stream of one timeline ended.

    Attributes:
        position: up to where it was received.
        next_timeline: when the timeline itself has ended: the one that follows.
        switch: where that one begins.
    """

    position: Lsn
    next_timeline: int | None = None
    switch: Lsn | None = None


class WalReceiver:
    """Receives WAL on a physical replication connection.

    The server is never told more than ``confirmed``: its slot stays where it is until the WAL is committed.

    Args:
        connection: a physical replication connection.
        slot: the slot that keeps the WAL.
        tick: called about four times a second, also while the sink waits; may raise.
    """

    def __init__(
        self, connection: ReplicationConnection, slot: str, *, confirmed: Lsn, tick: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._slot = slot
        self._confirmed = confirmed
        self._tick = tick
        self._spoken = monotonic()
        self._streaming = False
        self._asking = False

    @property
    def server_process(self) -> int:
        """The process on the server that sends to us."""
        return self._pgconn.backend_pid

    def receive(self, timeline: int, start: Lsn, stop: Lsn, sink: WalSink) -> StreamEnd:
        """Receive from ``start`` up to ``stop``, or to the end of the timeline if that comes first.

        Raises:
            SlotLost: the server no longer has the WAL from ``start`` on.
            BackupFailed: the stream broke, or the server was silent for too long.
        """
        try:
            return self._received(timeline, start, stop, sink)
        except PsycopgError as error:
            raise BackupFailed(
                f"The connection to the server broke: {failure_of(str(error).encode())}.",
                "Look at the server's log; the next run goes on from what was committed.",
            ) from error

    def follow(self, timeline: int, start: Lsn, sink: WalSink, attend: Callable[[Lsn], bool]) -> StreamEnd:
        """Receive from ``start`` on for as long as wanted, or to the end of the timeline if that comes first.

        Args:
            attend: called with the position about four times a second, also while nothing comes; may take its time,
                if it calls :meth:`keep_alive` meanwhile. ``False`` ends the stream.

        Raises:
            SlotLost: the server no longer has the WAL from ``start`` on.
            BackupFailed: the stream broke, or the server was silent for too long.
        """
        try:
            return self._followed(timeline, start, sink, attend)
        except PsycopgError as error:
            raise BackupFailed(
                f"The connection to the server broke: {failure_of(str(error).encode())}.",
                "Look at the server's log; the next run goes on from what was committed.",
            ) from error

    def _followed(self, timeline: int, start: Lsn, sink: WalSink, attend: Callable[[Lsn], bool]) -> StreamEnd:
        self._begin(timeline, start)
        stream = CopyStream(self._pgconn, tick=self.keep_alive, silence_seconds=FOLLOW_SILENCE_SECONDS)
        position = start
        attended = heard = monotonic()
        self._streaming = self._asking = True
        self._speak()  # so that the server says at once what it takes us for
        try:
            while True:
                message = stream.message_at_hand()
                if message is not None and not len(message):
                    return self._timeline_ended(position)
                if message is not None:
                    position = self._take(message, position, None, sink)
                    heard = monotonic()
                if (now := monotonic()) - attended >= TICK_SECONDS:
                    self.keep_alive()
                    if not attend(position):
                        break
                    attended = monotonic()
                    heard += attended - now  # we did not listen meanwhile
                elif message is None:
                    stream.wait(TICK_SECONDS)
                if message is None and monotonic() - heard > FOLLOW_SILENCE_SECONDS:
                    raise BackupFailed(
                        f"The server answered nothing for {FOLLOW_SILENCE_SECONDS:.0f} s while it was followed.",
                        "Look whether it is alive, and the network between; the next run goes on from what was "
                        "committed.",
                    )
        finally:
            self._streaming = self._asking = False
        self._end(stream)
        return StreamEnd(position)

    def confirm(self, position: Lsn) -> None:
        """Tell the server that everything before ``position`` is committed: its slot may move there."""
        self._confirmed = position
        self._speak()

    def _received(self, timeline: int, start: Lsn, stop: Lsn, sink: WalSink) -> StreamEnd:
        self._begin(timeline, start)
        stream = CopyStream(self._pgconn, tick=self.keep_alive, silence_seconds=SILENCE_SECONDS)
        position = start
        self._streaming = True
        try:
            while position < stop:
                message = stream.next_message()
                if message is None:
                    return self._timeline_ended(position)
                position = self._take(message, position, stop, sink)
        except SlotLost:
            self._streaming = False
            self._skip_results()
            raise
        finally:
            self._streaming = False
        self._end(stream)
        return StreamEnd(position)

    def keep_alive(self) -> None:
        """Tell the server that we are there, when it is time to. Called by everything that waits meanwhile."""
        self._tick()
        if self._streaming and monotonic() - self._spoken >= STATUS_SECONDS:
            self._speak()

    def _begin(self, timeline: int, start: Lsn) -> None:
        command = f"START_REPLICATION SLOT {self._slot} PHYSICAL {start} TIMELINE {timeline}"
        self._pgconn.send_query(command.encode())
        result = self._connection.next_result(monotonic() + RESULT_SECONDS)
        if result is not None and result.status == pq.ExecStatus.COPY_BOTH:
            self._spoken = monotonic()
            return
        reason = failure_of(result.error_message) if result is not None else "it gave no answer"
        self._skip_results()
        if "already been removed" in reason or "can no longer" in reason:
            raise SlotLost(
                f"The server no longer has its WAL from {start} on timeline {timeline}: {reason}.", LOST_REMEDY
            )
        raise BackupFailed(
            f"The server did not stream its WAL from {start} on timeline {timeline}: {reason}.", "Look at its log."
        )

    def _take(self, message: memoryview, position: Lsn, stop: Lsn | None, sink: WalSink) -> Lsn:
        kind = message[0]
        if kind == ord("k"):
            # Keepalive: where the server's WAL ends, its clock, and whether it wants an answer now.
            if message[17]:
                self._speak()
            return position
        if kind != ord("w"):
            raise BackupFailed(f"The server sent a message of an unknown kind, {kind}.", "Update Lifeboat.")
        _, begins, _, _ = _HEADER.unpack_from(message)
        data = message[_HEADER.size :]
        if begins != position:
            raise BackupFailed(
                f"The server sent WAL from {Lsn(begins)} where {position} comes next.", "Look at the server's log."
            )
        if stop is not None:
            data = data[: stop - position]
        sink.write(position, data)
        return position + len(data)

    def _speak(self) -> None:
        now = int((datetime.now(UTC) - _EPOCH).total_seconds() * 1_000_000)
        status = _STATUS.pack(b"r", self._confirmed, self._confirmed, 0, now, self._asking)
        try:
            self._pgconn.put_copy_data(status)
            self._flush()
        except PsycopgError as error:
            raise BackupFailed(
                f"The connection to the server broke: {failure_of(str(error).encode())}.", "Look at the server's log."
            ) from error
        self._spoken = monotonic()

    def _flush(self) -> None:
        # A few dozen bytes: they wait only when the server has stopped reading altogether.
        poll = select.poll()
        poll.register(self._pgconn.socket, select.POLLOUT)
        deadline = monotonic() + RESULT_SECONDS
        while self._pgconn.flush():
            if monotonic() > deadline:
                raise BackupFailed("The server has stopped listening to us.", "Look at the server's log.")
            self._tick()
            poll.poll(250)

    def _end(self, stream: CopyStream) -> None:
        """End the stream from our side, and read over what the server had sent already."""
        self._pgconn.put_copy_end()
        self._flush()
        while stream.next_message() is not None:
            self._tick()
        self._drain()

    def _timeline_ended(self, position: Lsn) -> StreamEnd:
        """The server ended the stream: the timeline ends here, and it names the next one."""
        end: StreamEnd | None = None
        result = self._connection.next_result(monotonic() + RESULT_SECONDS)
        while result is not None:
            if result.status in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_BOTH):
                self._pgconn.put_copy_end()
                self._flush()
            elif is_error(result.status):
                reason = failure_of(result.error_message)
                if "already been removed" in reason:
                    raise SlotLost(f"The server no longer has its WAL from {position} on: {reason}.", LOST_REMEDY)
                raise BackupFailed(
                    f"The server ended the stream at {position}: {reason}.",
                    "It was stopped or lost the connection; the next run goes on from what was committed.",
                )
            elif result.status == pq.ExecStatus.TUPLES_OK and result.ntuples == 1:
                timeline = int(result.get_value(0, 0) or b"0")
                end = StreamEnd(position, timeline, Lsn.parse((result.get_value(0, 1) or b"").decode()))
            result = self._connection.next_result(monotonic() + RESULT_SECONDS)
        if end is None:
            raise BackupFailed(
                f"The server ended the stream at {position} without a word.",
                "It was stopped; the next run goes on from what was committed.",
            )
        return end

    def _skip_results(self) -> None:
        """Read over what follows an error that was told already, so that the next command finds the connection free."""
        while self._connection.next_result(monotonic() + RESULT_SECONDS) is not None:
            pass

    def _drain(self) -> None:
        result = self._connection.next_result(monotonic() + RESULT_SECONDS)
        while result is not None:
            if is_error(result.status):
                raise PostgresError(
                    f"The server reported at the end of the stream: {failure_of(result.error_message)}.",
                    "Look at the server's log.",
                )
            result = self._connection.next_result(monotonic() + RESULT_SECONDS)
