"""A private directory for clones, which goes in every case: with the work, or with the next work on this machine."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lifeboat.errors import NotEnoughDisk

_STEM = "lifeboat-code"
_FORGOTTEN_SECONDS = 3600.0


@dataclass(frozen=True)
class Scratch:
    """The directory.

    Attributes:
        path: where it is.
        lock: held as long as anybody works in it: children inherit it, so that one that outlives us is not disturbed.
    """

    path: Path
    lock: int


@contextmanager
def scratch_directory(place: Path | None) -> Iterator[Scratch]:
    """A new directory for its owner alone; those that killed work left behind go first.

    Args:
        place: the directory to make it in; ``None``: the machine's temporary directory.

    Raises:
        NotEnoughDisk: it can't be made.
    """
    parent = place if place is not None else Path(tempfile.gettempdir())
    stem = f"{_STEM}-{os.getuid()}"
    sweep(parent, stem)
    name = secrets.token_hex(6)
    # It gets the name that is looked for when its lock is held.
    draft, path = parent / f".{stem}-{name}", parent / f"{stem}-{name}"
    try:
        draft.mkdir(mode=0o700)
    except OSError as error:
        raise NotEnoughDisk(
            f"No directory for clones can be made in {parent}: {error.strerror}.",
            "Name one on a disk with room as `scratch` in the policy.",
        ) from error
    lock = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        draft.rename(path)
        yield Scratch(path, lock)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(draft, ignore_errors=True)
        os.close(lock)


def sweep(parent: Path, stem: str) -> None:
    """Remove the directories in which nobody works any more."""
    for draft in parent.glob(f".{stem}-*"):
        with suppress(OSError):
            # Who made it holds no lock yet, for a moment; it is empty then.
            if time.time() - draft.lstat().st_mtime > _FORGOTTEN_SECONDS:
                draft.rmdir()
    for path in parent.glob(f"{stem}-*"):
        with suppress(OSError):
            if path.lstat().st_uid != os.getuid():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
