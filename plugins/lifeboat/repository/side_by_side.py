"""The same thing done with many objects, a few at a time.

The threads are daemons, and whoever waits can be stopped at any moment: a store that does not answer must not hold back
a task that was told to end, nor the end of the process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread
from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")

PATIENCE_SECONDS = 3.0
"""How long a failure waits for the other calls to end."""


def side_by_side(
    call: Callable[[T], R], items: Iterable[T], *, at_once: int, name: str, stop: Event | None = None
) -> list[R]:
    """The results of ``call`` for all items, in their order.

    Args:
        call: made on threads of their own.
        at_once: how many calls may be under way.
        name: what the threads are called.
        stop: set when a call has failed or the waiting was interrupted: long calls look at it and end.

    Raises:
        BaseException: what the first failing call raised; no further call is begun.
    """
    stop = stop or Event()
    queue = _Queue(call, items, stop)
    threads = [Thread(target=queue.work, name=name, daemon=True) for _ in range(min(at_once, queue.length))]
    try:
        for thread in threads:
            thread.start()
        return queue.results()
    except BaseException:
        stop.set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        raise


class _Queue(Generic[T, R]):
    """Items to be dealt with, and what came of those that were."""

    def __init__(self, call: Callable[[T], R], items: Iterable[T], stop: Event) -> None:
        self._call = call
        self._waiting = deque(enumerate(items))
        self._stop = stop
        self._done: SimpleQueue[Callable[[], tuple[int, R]]] = SimpleQueue()
        self.length = len(self._waiting)

    def work(self) -> None:
        while not self._stop.is_set():
            try:
                place, item = self._waiting.popleft()
            except IndexError:
                return
            try:
                result = self._call(item)
            except BaseException as failure:
                self._done.put(partial(_raise, failure))
                return
            self._done.put(partial(_give, place, result))

    def results(self) -> list[R]:
        found = dict(self._done.get()() for _ in range(self.length))
        return [found[place] for place in range(self.length)]


def _give(place: int, result: R) -> tuple[int, R]:
    return place, result


def _raise(failure: BaseException) -> NoReturn:
    raise failure
