"""Measures Lifeboat against the shell pipeline, the ERP strategy's own script and the bare read, in one run."""

from __future__ import annotations

import argparse
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

import psutil  # type: ignore[import-untyped]
from rich.console import Console

from benchmarks import chain, files, history, lag, logical, parsing, report, retention, rounds, sftp
from benchmarks.measuring import BenchmarkFailed
from benchmarks.scene import Scene, scene
from lifeboat.errors import LifeboatError
from lifeboat.policy.model import StreamPolicy

SECTIONS = (
    *("full", "restore", "incremental", "wal", "follow", "logical", "memory", "levels"),
    *("files", "million", "sftp", "history", "retention", "parsing"),
)
PROGRAMS = {
    "zstd": "zstd",
    "openssl": "openssl",
    "gzip": "gzip",
    "tar": "tar",
    "xargs": "findutils",
    "restic": "restic",
}
"""What the other side needs, by the Debian package that has it."""
LEVELS = (1, 2, 3, 5)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--size", type=int, metavar="MB", help="size of the ERP database (default 2000)")
    parser.add_argument("--quick", action="store_true", help="a database of 300 MB, two rounds: a look, no figures")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section alone; may be repeated")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each pair runs (default 3)")
    parser.add_argument("--days", type=int, metavar="N", help="history: days of WAL each minute (default 7)")
    parser.add_argument("--level", type=int, help="zstd's level (default: the policy's, 2 and for WAL 1)")
    return parser.parse_args()


def _insist_on_programs() -> None:
    missing = sorted(PROGRAMS[name] for name in PROGRAMS if shutil.which(name) is None)
    if not missing:
        return
    # The one thing measured here that is no part of Lifeboat; where we may, it is installed.
    if shutil.which("apt-get") is not None and psutil.Process().uids().effective == 0:
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *missing]):
            if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
                break
    if any(shutil.which(name) is None for name in PROGRAMS):
        raise BenchmarkFailed(
            f"The shell pipeline needs programs that are not here. Install the packages: {', '.join(missing)}."
        )


def _machine(console: Console) -> None:
    load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {psutil.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 1e9:,.0f} GB of memory, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, lifeboat {version('lifeboat')}, zstandard {version('zstandard')}."
    )
    console.print(f"Load before we began: {load}. Figures count only on a machine with nothing else to do.\n")


def _on_one_scene(
    console: Console, level: int, wal_level: int, times: int, quick: bool, say: Callable[[str], None]
) -> dict[str, Callable[[Scene], None]]:
    """The sections that share one database, in the order in which they run."""
    wal = 256 if quick else 1024
    flush, lasting = (5.0, 12.0) if quick else (60.0, 150.0)

    def restore(here: Scene) -> None:
        report.show_restore(console, rounds.restore(here, level, times, say), here.plain_size())
        chain.show(console, chain.chain(here, level, wal_level, wal // 2, times, say), wal // 2, here.plain_size())

    return {
        "full": lambda here: report.show_full(console, rounds.full(here, level, times, say), level),
        "restore": restore,
        "incremental": lambda here: report.show_incremental(console, rounds.incremental(here, level, times, say)),
        "wal": lambda here: report.show_wal(console, rounds.wal(here, wal_level, wal, times, say), wal_level),
        "follow": lambda here: report.show_follow(console, lag.follow(here, wal_level, flush, lasting, say)),
        "logical": lambda here: logical.show(console, logical.archives(here, level, times, say)),
        "levels": lambda here: report.show_levels(console, rounds.levels(here, LEVELS, times, say)),
    }


def _measure(console: Console, chosen: argparse.Namespace) -> None:
    wanted = chosen.only or SECTIONS
    size = chosen.size or (300 if chosen.quick else 2000)
    times = chosen.rounds or (2 if chosen.quick else 3)
    usual = StreamPolicy()
    level, wal_level = chosen.level or usual.compression_level, chosen.level or usual.wal_compression_level
    began = time.monotonic()

    def say(what: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s  {what}[/dim]", highlight=False)

    sections = _on_one_scene(console, level, wal_level, times, chosen.quick, say)
    if set(wanted) & set(sections):
        with scene(size, say) as here:
            for name in (name for name in sections if name in wanted):
                sections[name](here)
    on_their_own = _on_their_own(console, chosen, level, times, say)
    for name in (name for name in on_their_own if name in wanted):
        on_their_own[name]()


def _on_their_own(
    console: Console, chosen: argparse.Namespace, level: int, times: int, say: rounds.Say
) -> dict[str, Callable[[], None]]:
    """The sections that need no database, or have one of their own."""
    quick = chosen.quick
    small, factor = (100, 5) if quick else (500, 8)
    count = files.FILES // 10 if quick else files.FILES
    megabytes = 100 if quick else 500
    days = chosen.days or (1 if quick else 7)

    def plan() -> None:
        say("the plan of a million recovery points")
        retention.show(console, [retention.measure(points) for points in (100_000, 1_000_000)])

    def parse() -> None:
        say("the DAG files of 25, 50 and 100 systems")
        report.show_parsing(console, parsing.measure())

    return {
        "memory": lambda: report.show_memory(console, rounds.memory(level, small, factor, say)),
        "files": lambda: files.show(console, count, files.take(count, times, say)),
        "million": lambda: files.show_vast(console, files.take_vast(100_000 if quick else 1_000_000, say)),
        "sftp": lambda: sftp.show(console, megabytes, sftp.measure(megabytes, times, say)),
        "history": lambda: history.show(console, days, history.measure_history(days, chosen.rounds or 1, say)),
        "retention": plan,
        "parsing": parse,
    }


def main() -> int:
    """Measure; 0 when every figure could be taken, whatever it says."""
    # Told to end, we end as on Ctrl-C: the server stops, and what was written goes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=max(Console().width, 132))
    try:
        _insist_on_programs()
        _machine(console)
        _measure(console, _arguments())
    except (BenchmarkFailed, LifeboatError) as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Given up.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
