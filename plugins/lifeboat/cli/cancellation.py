"""Being stopped: Ctrl-C and SIGTERM unwind the work where it stands: uploads are aborted, servers stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lifeboat.errors import Cancelled

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 3
"""So many signals end the process at once, whatever it is clearing away."""


class Cancellation:
    """Remembers the signal that stopped us, and says so to whoever asks."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._told = 0
        self._gentle = False
        self._leave = False

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal has ended: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    def check(self) -> None:
        """Called by everything that waits or moves bytes, in any thread.

        Raises:
            Cancelled: we were told to stop.
        """
        if self.signal is not None:
            raise Cancelled("Stopped.", "Nothing half-done counts; what was begun was taken back.")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it, the signals are heard; outside the main thread nothing changes."""
        self.signal, self._told, self._leave = None, 0, False
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._tell) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def gently(self) -> Iterator[None]:
        """Within it, the first signal ends the work in good order (see :meth:`leaving`), the second stops it."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    def leaving(self) -> bool:
        """Whether we were asked to come to an end."""
        return self._leave

    def _tell(self, number: int, _frame: FrameType | None) -> None:
        if self._gentle and not self._leave:
            self._leave = True
            os.write(_error_stream(), b"Ending after what is finished is committed; once more stops at once.\n")
            return
        self._told += 1
        if self._told == 1:
            self.signal = number
            self.check()
        # A second one must not break into the clearing away that the first has begun.
        os.write(_error_stream(), b"Still clearing away; once more ends at once.\n")
        if self._told >= PATIENCE:
            os._exit(self.exit_code)


def _error_stream() -> int:
    return sys.__stderr__.fileno() if sys.__stderr__ else 2


STOP = Cancellation()
"""The one of this process."""
