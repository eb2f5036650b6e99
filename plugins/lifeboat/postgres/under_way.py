"""Jobs on threads of their own, a few at a time, behind a main thread that may be interrupted at any moment.

They let other programs go first: what is done beside a server that recovers must not slow it down.

No ``ThreadPoolExecutor``: a task is stopped by a signal whose handler raises wherever the main thread just is, also
between two steps of a lock that is taken in Python; see :mod:`lifeboat.streams.waking`.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from threading import get_native_id
from types import TracebackType
from typing import Self

from lifeboat.streams.memory import share_one_heap
from lifeboat.streams.waking import Stage

PATIENCE_SECONDS = 5.0
NO_LIMIT = math.inf
_LOOK_SECONDS = 1.0
_NICENESS = 5


class UnderWay:
    """Does jobs in their order, some at the same time, while its context lasts.

    The first failure lets no further job begin.

    Args:
        name: the threads' name.
        jobs: each called once. One that takes long looks at :attr:`given_up` whenever it has waited for somebody, and
            does nothing more when it is set.
        at_once: how many are under way at a time.
        patience: seconds that the end of the context waits for what is under way. What hangs in a target that does
            not answer must not hold back a task that was told to end.

    Attributes:
        total: how many jobs there are.
        given_up: nobody waits for the rest any more.
    """

    def __init__(
        self, name: str, jobs: Iterable[Callable[[], None]], at_once: int, *, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._waiting = deque(jobs)
        self.total = len(self._waiting)
        self.given_up = False
        self._patience = patience
        self._failures: list[BaseException] = []
        self._stages = [Stage(f"{name} {number}", self._work) for number in range(min(at_once, self.total))]
        self._well: deque[None] = deque()

    def __enter__(self) -> Self:
        # A thread that has begun keeps the heap that it was given.
        share_one_heap()
        try:
            for stage in self._stages:
                stage.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.given_up = True
        deadline = time.monotonic() + self._patience
        for stage in self._stages:
            while not stage.wait(max(0.0, min(_LOOK_SECONDS, deadline - time.monotonic()))):
                if time.monotonic() > deadline:
                    break

    def _work(self) -> None:
        _give_way()
        while not self._failures and not self.given_up:
            try:
                job = self._waiting.popleft()
            except IndexError:
                return
            try:
                job()
            except BaseException as failure:
                self._failures.append(failure)
                return
            self._well.append(None)

    @property
    def done(self) -> int:
        """How many have ended well."""
        return len(self._well)

    def check(self) -> None:
        """Raise what failed first, if anything has; never waits."""
        if self._failures:
            raise self._failures[0]

    def wait(self, seconds: float) -> bool:
        """Wait so long at most; whether all have ended well. Raises what failed first."""
        ended = all(stage.wait(seconds) for stage in self._stages)
        self.check()
        return ended


def _give_way() -> None:
    """On Linux a thread has a priority of its own, which those that it starts have as well.

    Source: https://man7.org/linux/man-pages/man2/getpriority.2.html#NOTES
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICENESS)
