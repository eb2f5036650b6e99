"""How long a commit waits until it could be restored: behind runs that follow and, reckoned, behind others."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from types import TracebackType

from benchmarks import running
from benchmarks.measuring import BenchmarkFailed
from benchmarks.rounds import Say
from benchmarks.running import Taken
from benchmarks.scene import Scene
from sandbox.postgres import PostgresServer

EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Lag:
    """What was measured.

    Attributes:
        flush: seconds between two flushes.
        waits: for each commit, the seconds until a committed recovery point covered it.
        followed: the runs, one after the other.
        batch: one run that collects once.
    """

    flush: float
    waits: Sequence[float]
    followed: Sequence[Taken]
    batch: Taken

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.waits)

    @property
    def points(self) -> int:
        """How many recovery points there were."""
        return sum(len(run.points) for run in self.followed)

    def of_batch_runs(self, minutes: int) -> tuple[float, float]:
        """Median and worst, in seconds, of runs that collect once every so many minutes. Reckoned: a commit falls
        anywhere between two runs."""
        run = self.batch.start_up + self.batch.seconds
        return minutes * 30 + run, minutes * 60 + run


class _Writer(threading.Thread):
    """Commits row after row, and keeps the server's clock after each."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(name="writer", daemon=True)
        self.commits: list[datetime] = []
        self._server = server
        self._over = threading.Event()

    def run(self) -> None:
        with self._server.connect() as session:
            session.execute("CREATE TABLE IF NOT EXISTS ticks (n int, text text)")
            while not self._over.wait(EVERY_SECONDS):
                session.execute("INSERT INTO ticks VALUES (1, repeat('x', 500))")
                row = session.execute("SELECT clock_timestamp()").fetchone()
                if row is not None:
                    self.commits.append(row[0])

    def __enter__(self) -> _Writer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join()


def follow(here: Scene, level: int, flush: float, lasting: float, say: Say) -> Lag:
    """Two runs that follow, each in a process of its own, so that what lies between them is measured as well."""
    here.clear(level)
    running.ours(here, "full", level)
    batch = running.ours(here, "wal", level)
    followed = []
    with _Writer(here.server) as writer:
        for number in (1, 2):
            say(f"follow, run {number} of 2: {lasting:.0f} s with a flush every {flush:.0f} s")
            followed.append(running.ours(here, "follow", level, lasting=lasting, flush=flush))
    return Lag(flush, _waits(writer.commits, [point for run in followed for point in run.points]), followed, batch)


def _waits(commits: Sequence[datetime], points: Sequence[tuple[str, str]]) -> list[float]:
    """For each commit that a recovery point covers, and that came after the first one: how long it waited for it."""
    covering = [(datetime.fromisoformat(covers), datetime.fromisoformat(committed)) for covers, committed in points]
    waits: list[timedelta] = []
    for commit in commits:
        restorable = next((committed for covers, committed in covering if covers >= commit), None)
        if covering and commit > covering[0][0] and restorable is not None:
            waits.append(restorable - commit)
    if not waits:
        raise BenchmarkFailed("No commit of the writer was covered by a recovery point.")
    return [wait.total_seconds() for wait in waits]
