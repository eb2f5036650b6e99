"""Memory is bounded by the buffers, never by the size of the data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BOUND = 256  # MiB, for the whole process with all its libraries
PROGRAM = Path(__file__).parent / "memory_of_stream.py"


def peaks(tmp_path: Path, key_files: Path, kind: str, megabytes: int) -> tuple[int, int, int]:
    """The most memory in MiB while writing, and while reading; the stored bytes."""
    root = tmp_path / f"{kind}-{megabytes}"
    root.mkdir()
    command = [sys.executable, str(PROGRAM), str(root), str(key_files), kind, str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    writing, reading, _, stored = (int(word) for word in done.stdout.split())
    return writing, reading, stored


def test_a_long_stream_takes_no_more_memory_than_one_of_a_third(tmp_path: Path, key_files: Path) -> None:
    # Volumes of 50 MB: the shorter one, too, turns from one to the next often enough to have all queues full at once.
    little = peaks(tmp_path, key_files, "random", 500)
    zeros = peaks(tmp_path, key_files, "zeros", 1000)
    noise = peaks(tmp_path, key_files, "random", 1500)
    assert zeros[2] < 10_000_000
    assert noise[2] > 1_000_000_000
    for writing, reading, _ in (little, zeros, noise):
        assert max(writing, reading) < BOUND
        assert max(writing, reading) < max(little[:2]) + 32
