"""Calls on threads of their own, so that whoever waits for one can be stopped at any time.

botocore takes an exception that a signal handler raises inside it for a broken connection and tries again: a
cancellation would get lost there. So no call to a store is made on the thread that may be cancelled. The threads are
daemons: a call that hangs never holds the process back.
"""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
_TICK_SECONDS = 0.25


def in_background(call: Callable[[], T]) -> Future[T]:
    """Start ``call`` on a thread of its own; its result or exception is in the future."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:  # also what is meant to pass through botocore untouched
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="lifeboat-s3", daemon=True).start()
    return future


def interruptible(call: Callable[[], T]) -> T:
    """Make a call and wait for it; an exception raised by a signal handler ends the waiting at once."""
    return in_background(call).result()


def awaited(future: Future[T], tick: Callable[[], None]) -> T:
    """Wait for what is done on another thread; ``tick`` is called about four times a second, and may raise."""
    while not concurrent.futures.wait([future], _TICK_SECONDS).done:
        tick()
    return future.result()
