"""How long reading took apart: waiting for what is stored, and opening it.

Both are done by one thread for each object, in turns: their sums can be compared, though not with a clock on the wall.
"""

from __future__ import annotations

import time
from threading import Lock

from lifeboat.targets.target import Readable


class Meter:
    """Adds up what several threads took.

    Attributes:
        fetching: seconds that were spent getting stored bytes.
        opening: seconds that were spent decrypting them.
    """

    def __init__(self) -> None:
        self.fetching = 0.0
        self.opening = 0.0
        self._lock = Lock()

    def add(self, fetching: float, opening: float) -> None:
        """Add what one object took."""
        with self._lock:
            self.fetching += fetching
            self.opening += opening

    def opening_within(self, seconds: float, since: tuple[float, float] = (0.0, 0.0)) -> float:
        """How many of some seconds on the wall went by with decrypting: its share in what the threads did, and never
        more than they did of it. What remains is for fetching, and for whatever was done with the bytes.

        Args:
            seconds: how long the reading took, by the wall.
            since: what :meth:`now` said when it began.
        """
        fetching, opening = self.fetching - since[0], self.opening - since[1]
        return min(opening, seconds * opening / (fetching + opening)) if fetching + opening > 0 else 0.0

    def now(self) -> tuple[float, float]:
        """Both sums as they are."""
        return self.fetching, self.opening


class TimedReader:
    """Passes a stream on, and remembers how many seconds were waited for it."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.seconds = 0.0

    def read(self, size: int = -1, /) -> bytes:
        """As the source gives it."""
        begun = time.perf_counter()
        try:
            return self._source.read(size)
        finally:
            self.seconds += time.perf_counter() - begun
