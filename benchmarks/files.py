"""A set of files beside restic: a first snapshot, one of an unchanged tree, a full of the same, a restore."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.measuring import MIB, BenchmarkFailed, measure, middle_ratio
from benchmarks.report import table_of
from benchmarks.rounds import Say
from sandbox.accounts import CLONE
from sandbox.demo_system import make_demo_system

FILES, FILE_BYTES, FOLDERS = 20_000, 50_000, 700
WANTED = {"first": 0.5, "unchanged": 0.3, "restore": 0.9}
"""Shares of restic's time."""
_DEMO_PRIMARY = "url: s3://backups/lifeboat\n    connection: demo_primary"
_SOURCE = """
sources:
  files:
    kind: files
    url: file://{tree}
    queue: bench
    tiers:
      incremental: {{schedule: "0 */3 * * *", retention: 30d}}
      daily: {{schedule: "0 3 * * *", retention: 30d}}
"""


@dataclass(frozen=True)
class Taken:
    """One step by one side: seconds without start-up, and the peak memory in bytes."""

    seconds: float
    peak_memory: int


Rounds = dict[str, list[tuple[Taken, Taken | None]]]
"""By step: ours and restic's of each round; restic has no second way to look."""


def take(files: int, rounds: int, say: Say) -> Rounds:
    """Make the tree once, and let both sides go through it in turns."""
    if shutil.which("restic") is None:
        raise BenchmarkFailed("The files' measurement needs restic. Install the package of that name.")
    (CLONE / ".sandbox").mkdir(exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="bench-", dir=CLONE / ".sandbox"))
    found: Rounds = {"first": [], "unchanged": [], "read again": [], "restore": []}
    try:
        say(f"a tree of {files:,} files, {files * FILE_BYTES / 1e9:.1f} GB")
        _grow(room / "tree", files)
        for number in range(1, rounds + 1):
            say(f"files, round {number} of {rounds}")
            _round(room / "tree", room / f"round-{number}", found)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return found


@dataclass(frozen=True)
class Vast:
    """One step on a vast tree of tiny files."""

    step: str
    files: int
    seconds: float
    peak_memory: int


def take_vast(files: int, say: Say) -> list[Vast]:
    """A first snapshot of very many files, an incremental and a full of the unchanged tree: the memory counts."""
    (CLONE / ".sandbox").mkdir(exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="bench-", dir=CLONE / ".sandbox"))
    try:
        say(f"a tree of {files:,} tiny files")
        for number in range(files):
            folder = room / "tree" / f"{number % 1000:03d}"
            if number < 1000:
                folder.mkdir(parents=True)
            (folder / f"{number:07d}.txt").write_bytes(b"%d of very many" % number)
        _make_system(room, room / "tree")
        found = []
        for step, verb in (("first", "full"), ("unchanged", "incremental"), ("read again", "full")):
            say(f"{files:,} files: {step}")
            taken = _ours(room, verb)
            found.append(Vast(step, files, taken.seconds, taken.peak_memory))
        return found
    finally:
        shutil.rmtree(room, ignore_errors=True)


def show_vast(console: Console, found: Sequence[Vast]) -> None:
    """The seconds, and the memory beside what is wanted."""
    table = table_of(f"{found[0].files:,} tiny files", "step", "time", "peak memory", "wanted")
    for one in found:
        table.add_row(one.step, f"{one.seconds:.1f} s", f"{one.peak_memory / MIB:,.0f} MiB", "≤ 512 MiB")
    console.print(table)


def _grow(tree: Path, files: int) -> None:
    """Half of each file can be compressed, as of documents with pictures."""
    drawn = random.Random(1)
    words = [drawn.randbytes(30) for _ in range(2000)]
    for number in range(files):
        folder = tree / f"{number % 50:02d}" / f"{number % FOLDERS:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        text = b"".join(drawn.choice(words) for _ in range(FILE_BYTES // 60))
        (folder / f"{number:06d}.pdf").write_bytes(text + drawn.randbytes(FILE_BYTES - len(text)))


def _round(tree: Path, room: Path, found: Rounds) -> None:
    # Nothing is removed between the rounds: ext4 looks long for a free inode where many were freed a minute ago.
    for name in ("target", "back"):
        (room / name).mkdir(parents=True)
    _make_system(room, tree)
    restic = ["restic", "--quiet", "--repo", room / "restic"]
    _restic(room, [*restic, "init"])
    backup = [*restic, "backup", tree]
    found["first"].append((_ours(room, "full", warm=tree), _restic(room, backup, warm=tree)))
    found["unchanged"].append((_ours(room, "incremental"), _restic(room, backup)))
    found["read again"].append((_ours(room, "full", warm=tree), None))
    restore = [*restic, "restore", "latest", "--target", room / "back" / "restic"]
    found["restore"].append((_ours(room, "restore", into=str(room / "back" / "ours")), _restic(room, restore)))


def _make_system(room: Path, tree: Path) -> None:
    (room / "target").mkdir(exist_ok=True)
    make_demo_system(
        room / "ours",
        binaries=Path("/nowhere"),
        replacing={
            _DEMO_PRIMARY: f"url: file://{room / 'target'}\n    queue: bench",
            "\nsources:\n": _SOURCE.format(tree=tree),
        },
    )


def _ours(room: Path, verb: str, *, warm: Path | None = None, **job: str) -> Taken:
    _settle(warm)
    measured = measure(
        [sys.executable, "-m", "benchmarks.ours_files", verb],
        environment=_environment(),
        directory=CLONE,
        standard_input=json.dumps({"policy": str(room / "ours" / "policies" / "demo.yaml")} | job),
    )
    return Taken(json.loads(measured.output)["seconds"], measured.peak_memory)


def _restic(room: Path, arguments: Sequence[str | Path], *, warm: Path | None = None) -> Taken:
    _settle(warm)
    cache = {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(room / "cache")}
    measured = measure(arguments, environment=_environment() | cache, directory=room)
    return Taken(measured.seconds, measured.peak_memory)


def _settle(warm: Path | None) -> None:
    """Nothing is left to write; and a tree that both read is in memory for both: else the first one reads it from disk,
    and the second one has it from there."""
    os.sync()
    for path in sorted(warm.rglob("*")) if warm is not None else ():
        if path.is_file():
            path.read_bytes()


def _environment() -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(CLONE / "plugins")}


def show(console: Console, files: int, found: Rounds) -> None:
    """All of it as a table."""
    table = table_of(f"{files:,} files", "step", "ours", "restic", "ratio", "wanted", "our peak", "its peak")
    for step, rounds in found.items():
        ours = [mine for mine, _ in rounds]
        others = [other for _, other in rounds if other is not None]
        ratio = middle_ratio([one.seconds for one in ours], [one.seconds for one in others]) if others else None
        table.add_row(
            step,
            f"{median(one.seconds for one in ours):.2f} s",
            f"{median(one.seconds for one in others):.2f} s" if others else "",
            "" if ratio is None else f"{ratio:.2f}",
            f"≤ {WANTED[step]:g}" if step in WANTED else "",
            f"{max(one.peak_memory for one in ours) / MIB:,.0f} MiB",
            f"{max(one.peak_memory for one in others) / MIB:,.0f} MiB" if others else "",
        )
    console.print(table)
    console.print(
        "Not in our times: Python's start and its imports. `read again` is a full of an unchanged tree. Trees that are "
        "read are in memory before, for both.\n"
    )
