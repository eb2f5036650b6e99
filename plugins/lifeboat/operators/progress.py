"""Progress in the task's log: a line every ten seconds, for the person who watches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

INTERVAL_SECONDS = 10.0


class Log(Protocol):
    """What a task's log is asked for."""

    def info(self, event: Any, /, *args: Any) -> Any:
        """Write a line."""


class LoggedProgress:
    """Logs bytes, rate and an estimate of what is left.

    Args:
        what: the verb in front, such as ``Read``.
        total: bytes expected, where that is known beforehand.
    """

    def __init__(self, log: Log, what: str, clock: Callable[[], datetime], total: int = 0) -> None:
        self._log = log
        self._what = what
        self._clock = clock
        self._total = total
        self._done = 0
        self._begun = clock()
        self._told = self._begun

    def at(self, done: int, total: int) -> None:
        """So much of so much is done."""
        self._done, self._total = done, total
        self._tell()

    def passed(self, size: int) -> None:
        """Some more bytes have passed."""
        self._done += size
        self._tell()

    def _tell(self) -> None:
        now = self._clock()
        if (now - self._told).total_seconds() < INTERVAL_SECONDS:
            return
        self._told = now
        seconds = (now - self._begun).total_seconds()
        rate = self._done / seconds if seconds > 0 else 0.0
        share, left = "", ""
        if self._total > 0:
            share = f" of {self._total / 1e6:,.0f} MB ({min(100, 100 * self._done // self._total)} %)"
            if rate > 0 and self._total > self._done:
                left = f", about {(self._total - self._done) / rate:,.0f} s left"
        done, speed = f"{self._done / 1e6:,.0f}", f"{rate / 1e6:,.0f}"
        self._log.info("%s %s MB%s, %s MB/s%s", self._what, done, share, speed, left)
