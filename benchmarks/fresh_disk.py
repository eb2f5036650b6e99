"""An empty file system for one run, as a machine has on which a system is brought back.

Where files were removed a minute ago, ext4 looks long for a free inode, and whoever comes next pays for whoever came
before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.accounts import hand_over

_BYTES = 16 * 1024**3
_INODES = 200_000


def can_be_made() -> bool:
    """Whether we may make one: root may, where there are loop devices."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which("mkfs.ext4") is not None


@contextmanager
def fresh_disk(room: Path) -> Iterator[Path]:
    """A directory for the servers' account on an ext4 file system of its own, in a sparse file below ``room``; where
    none can be made, a directory of ``room``'s."""
    disk = room / "disk"
    disk.mkdir()
    if not can_be_made():
        hand_over(disk)
        try:
            yield disk
        finally:
            shutil.rmtree(disk)
        return
    image = room / "disk.img"
    try:
        with image.open("xb") as file:
            file.truncate(_BYTES)
        # Nothing is left for the kernel to write in the background.
        options = ["-q", "-F", "-N", str(_INODES), "-E", "lazy_itable_init=0,lazy_journal_init=0"]
        subprocess.run(["mkfs.ext4", *options, str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True, capture_output=True)
        try:
            hand_over(disk)
            yield disk
        finally:
            subprocess.run(["umount", str(disk)], check=True, capture_output=True)
    finally:
        image.unlink(missing_ok=True)
        disk.rmdir()
