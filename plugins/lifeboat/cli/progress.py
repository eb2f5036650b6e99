"""Progress on standard error: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import err, length, note, size
from lifeboat.outside import utc_now

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

LINE_SECONDS = 10.0


class _Face(Protocol):
    def show(self, done: int, total: int) -> None: ...


class Bar:
    """One piece of work. May be told from several threads; stops whoever tells it when we were told to stop.

    ``total`` is 0 where nobody knows it; ``done`` may pass it, since sizes are estimates.
    """

    def __init__(self, face: _Face, total: int) -> None:
        self._face = face
        self._lock = threading.Lock()
        self.done = 0
        self.total = total

    def at(self, done: int, total: int) -> None:
        """So much of so much is done."""
        STOP.check()
        with self._lock:
            self.done, self.total = done, total
            self._face.show(done, total)

    def passed(self, count: int) -> None:
        """So much more is done."""
        STOP.check()
        with self._lock:
            self.done += count
            self._face.show(self.done, self.total)


class _Drawn:
    def __init__(self, rich: RichProgress, task: Any) -> None:
        self._rich = rich
        self._task = task

    def show(self, done: int, total: int) -> None:
        self._rich.update(self._task, completed=done, total=total if total >= done and total else None)


class _Written:
    def __init__(self, what: str, *, in_bytes: bool, clock: Callable[[], datetime]) -> None:
        self._what = what
        self._in_bytes = in_bytes
        self._clock = clock
        self._begun = self._told = clock()

    def show(self, done: int, total: int) -> None:
        now = self._clock()
        if (now - self._told).total_seconds() < LINE_SECONDS:
            return
        self._told = now
        note(f"{self._what}: {self._words(done, total, (now - self._begun).total_seconds())}")

    def _words(self, done: int, total: int, seconds: float) -> str:
        amount = size if self._in_bytes else str
        rate = done / seconds
        words = amount(done)
        if total:
            words += f" of {amount(total)} ({min(100, 100 * done // total)} %)"
        if self._in_bytes:
            words += f", {size(round(rate))}/s"
        if rate and total > done:
            words += f", about {length((total - done) / rate)} left"
        return words


@contextmanager
def bar(what: str, total: int = 0, *, in_bytes: bool = True, clock: Callable[[], datetime] = utc_now) -> Iterator[Bar]:
    """Show progress while something is under way, and a line with what it came to when it has ended well."""
    begun = clock()
    if sys.stderr.isatty():
        with _rich(in_bytes) as rich:
            made = Bar(_Drawn(rich, rich.add_task(what, total=total or None)), total)
            yield made
    else:
        made = Bar(_Written(what, in_bytes=in_bytes, clock=clock), total)
        yield made
    seconds = (clock() - begun).total_seconds()
    if not made.done:
        return
    if in_bytes:
        rate = f", {size(round(made.done / seconds))}/s" if seconds > 0 else ""
        note(f"{what}: {size(made.done)} in {length(seconds)}{rate}", "dim")
    else:
        note(f"{what}: {made.done} in {length(seconds)}", "dim")


@contextmanager
def phases(names: Mapping[str, str], in_bytes: Collection[str]) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each phase, one after the other; what is given is told the phase, what is done and of how much.

    Args:
        names: the phases' names for people.
        in_bytes: the phases that count bytes.
    """
    present: dict[str, Bar] = {}
    with ExitStack() as stack:

        def show(phase: str, done: int, total: int) -> None:
            if phase not in present:
                stack.close()
                present[phase] = stack.enter_context(bar(names.get(phase, phase), total, in_bytes=phase in in_bytes))
            present[phase].at(done, total)

        yield show


def _rich(in_bytes: bool) -> RichProgress:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    figures = [DownloadColumn(), TransferSpeedColumn()] if in_bytes else [MofNCompleteColumn()]
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *figures,
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    )
