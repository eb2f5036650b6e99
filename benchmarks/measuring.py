"""Running a program and measuring it: seconds, processor seconds, and the most memory its whole family held."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil  # type: ignore[import-untyped]

LOOK_SECONDS = 0.02
MIB = 1024 * 1024


class BenchmarkFailed(Exception):
    """A program that was to be measured ended with an error: there is no figure."""


@dataclass(frozen=True)
class Measured:
    """One run of a program with all its children.

    Attributes:
        seconds: from its start to its end, by the clock.
        processor_seconds: of its processes, user and system, on all cores.
        peak_memory: the largest sum of its processes' resident memory seen at one moment, in bytes. Pages that several
            of them share count once for each.
        output: what it printed.
    """

    seconds: float
    processor_seconds: float
    peak_memory: int
    output: str


class _Watch(threading.Thread):
    """Looks at the memory of a process and its descendants again and again."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="watch", daemon=True)
        self.peak = 0
        self._ended = threading.Event()
        self._process = psutil.Process(pid)

    def run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.peak = max(self.peak, self._look())

    def _look(self) -> int:
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return 0
        return sum(_resident(process.pid) for process in family)

    def end(self) -> None:
        self._ended.set()
        self.join()


def _resident(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def measure(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    directory: Path,
    standard_input: str = "",
) -> Measured:
    """Run a program to its end.

    Raises:
        BenchmarkFailed: it ended with another code than 0.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [str(argument) for argument in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(environment),
        cwd=directory,
        start_new_session=True,
    )
    watch = _Watch(process.pid)
    watch.start()
    before = os.times()
    try:
        output, errors = process.communicate(standard_input)
        seconds = time.monotonic() - began
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        watch.end()
    after = os.times()
    if process.returncode != 0:
        raise BenchmarkFailed(
            f"{Path(arguments[0]).name} ended with code {process.returncode}: {errors.strip()[-2000:]}"
        )
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return Measured(seconds, used, watch.peak, output)


def middle_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of pairs that ran one after the other: what slows the machine for a while slows both."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))
