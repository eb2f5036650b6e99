"""The hand-over between two stages that run side by side: a bounded queue of bytes.

The writer waits while the channel is full, the reader while it is empty, so that memory is bounded by the channel's
capacity and not by the size of the data. A failure on either side reaches the other one: an abandoned writer can never
look like the end of a stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock

from lifeboat.errors import StreamError
from lifeboat.streams.waking import WakeUp

TICK_SECONDS = 0.25
"""How long a waiting side sleeps before it looks around: short against every protocol's time-out."""


def no_tick() -> None:
    """What a side does while it waits when there is nothing else to keep alive."""


class Channel:
    """A bounded pipe of bytes inside one process, for one writer and one reader.

    Args:
        capacity: how many bytes may wait in it; one write larger than that passes when the channel is empty.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._chunks: deque[bytes] = deque()
        self._waiting = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._lock = Lock()
        self._filled, self._emptied = WakeUp(), WakeUp()

    def write(self, data: bytes, tick: Callable[[], None] = no_tick) -> None:
        """Hand over ``data``; ``tick`` is called about four times a second while there is no room.

        Nothing is no piece: it would look like the end of the stream on the other side.

        Raises:
            StreamError: the stream was said to have ended.
            BaseException: the failure that the other side reported.
        """
        while not self._taken(data):
            self._emptied.sleep(TICK_SECONDS)
            if self._failure is not None:
                raise self._failure
            # Outside the lock: a tick may take its time (it speaks to a server) and must not stop the reader.
            tick()

    def _taken(self, data: bytes) -> bool:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StreamError("More was written to a stream after its end.")
            if data and self._waiting and self._waiting + len(data) > self._capacity:
                return False
            if data:
                self._chunks.append(data)
                self._waiting += len(data)
                self._filled.wake()
            return True

    @property
    def exhausted(self) -> bool:
        """Whether the stream has ended and all of it was read."""
        with self._lock:
            return self._ended and not self._chunks and self._failure is None

    def end(self) -> None:
        """Say that everything was written: the reader sees the end of the stream."""
        with self._lock:
            self._ended = True
            self._filled.wake()

    def fail(self, failure: BaseException) -> None:
        """Give the stream up, from either side: both get ``failure`` raised. The first failure stays."""
        with self._lock:
            if self._failure is None:
                self._failure = failure
            self._chunks.clear()
            self._waiting = 0
            self._filled.wake()
            self._emptied.wake()

    def read(self, size: int = -1, /) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end of the stream (all of the rest when negative)."""
        parts: list[bytes] = []
        missing = size
        while missing != 0:
            chunk = self.next_chunk()
            if not chunk:
                break
            if 0 <= missing < len(chunk):
                with self._lock:
                    self._chunks.appendleft(chunk[missing:])
                    self._waiting += len(chunk) - missing
                chunk = chunk[:missing]
            parts.append(chunk)
            if missing > 0:
                missing -= len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def next_chunk(self) -> bytes:
        """The next piece as it was written, or ``b""`` at the end of the stream."""
        while True:
            with self._lock:
                if self._failure is not None:
                    raise self._failure
                if self._chunks:
                    chunk = self._chunks.popleft()
                    self._waiting -= len(chunk)
                    self._emptied.wake()
                    return chunk
                if self._ended:
                    return b""
            self._filled.sleep()
