"""Ending a task in time.

Airflow tells a running task to stop by SIGTERM, for which it calls ``on_kill`` and nothing else; some seconds later it
kills. An exception raised there unwinds the task where it stands: the stream is aborted, the upload given up, the
server's session closed. It is raised again and again, since code of others may swallow it once.
"""

from __future__ import annotations

from threading import current_thread, main_thread

from lifeboat.errors import Cancelled


class Cancellation:
    """Remembers that the task was told to stop, and says so to whoever asks."""

    def __init__(self) -> None:
        self._told = False

    def tell(self) -> None:
        """The task was told to stop.

        Raises:
            Cancelled: when called in the main thread, as a signal's handler is.
        """
        self._told = True
        if current_thread() is main_thread():
            self.check()

    def check(self) -> None:
        """Called by everything that waits.

        Raises:
            Cancelled: the task was told to stop.
        """
        if self._told:
            raise Cancelled(
                "The task was stopped: marked, cleared or timed out.",
                "Nothing of this attempt was committed; what it had uploaded is removed by a later clean-up.",
            )
