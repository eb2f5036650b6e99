"""The hidden folder that a restore is built in: whatever ends the restore, it goes, at the latest with the next one."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK = ".lifeboat-"


@contextmanager
def building_place(folder: Path, name: str) -> Iterator[Path]:
    """A new folder that only its owner may enter; removed at the end, unless it was renamed.

    What restores left here that were killed is removed as well: the kernel took their locks from them.

    Args:
        folder: where it is made: on the file system that its content is for.
        name: what is built.
    """
    _remove_remains(folder, name)
    path, descriptor = _locked(folder, name)
    try:
        yield path
    finally:
        # While the lock is held still: nobody else may think it a remain and remove it at the same time.
        with suppress(FileNotFoundError):
            if path.lstat().st_ino == os.fstat(descriptor).st_ino:
                _remove(path)
        os.close(descriptor)


def _locked(folder: Path, name: str) -> tuple[Path, int]:
    while True:
        path = folder / f".{name}{_MARK}{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        try:
            descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            continue  # Somebody took it for a remain before it was locked.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if path.lstat().st_ino == os.fstat(descriptor).st_ino:
                return path, descriptor
        os.close(descriptor)


def _remove_remains(folder: Path, name: str) -> None:
    form = re.compile(re.escape(f".{name}{_MARK}") + "[0-9a-f]{8}")
    for entry in list(os.scandir(folder)):
        if not form.fullmatch(entry.name):
            continue
        try:
            descriptor = os.open(entry.path, _FLAGS)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(Path(entry.path))
        except BlockingIOError:
            continue  # A restore that is under way.
        finally:
            os.close(descriptor)


def _remove(path: Path) -> None:
    _open_up(path)
    shutil.rmtree(path, ignore_errors=True)


def _open_up(folder: Path) -> None:
    """Folders that an ordinary user may not write to would stay."""
    folder.chmod(0o700)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _open_up(Path(entry.path))
