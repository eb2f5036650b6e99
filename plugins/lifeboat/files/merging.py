"""What was built and proven takes its place in a directory that is in use: path by path, each by one rename.

Files that the snapshot does not have stay as they are. Nothing is touched before all of it was looked at.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from lifeboat.errors import DestinationInUse, RestoreError

MOST_NAMED = 5


def merge(built: Path, into: Path, *, folders_too: bool, tick: Callable[[], None]) -> None:
    """Move a built tree into a directory.

    Args:
        folders_too: whether folders that are there get the attributes of the built ones.
        tick: called for each path while nothing is touched yet; may raise to cancel.

    Raises:
        DestinationInUse: a folder is where a file has to go, or a file where a folder; nothing was touched.
        RestoreError: a rename failed; what had taken its place before stays there.
    """
    found = _Obstacles(built.stat().st_dev, tick)
    found.look(built, into, "")
    found.refuse(into)
    try:
        _move(built, into, folders_too=folders_too)
    except OSError as error:
        raise RestoreError(
            f"The files could not all take their place in {into}: {error}.",
            "Those that did are whole. Restore again when the cause is gone: it goes on where this one ended.",
        ) from error


class _Obstacles:
    def __init__(self, device: int, tick: Callable[[], None]) -> None:
        self._device = device
        self._tick = tick
        self._named: list[str] = []

    def look(self, built: Path, into: Path, path: str) -> None:
        for entry in os.scandir(built):
            self._tick()
            place, name = into / entry.name, f"{path}{entry.name}"
            try:
                there = place.lstat()
            except FileNotFoundError:
                continue
            folder = entry.is_dir(follow_symlinks=False)
            if folder != stat.S_ISDIR(there.st_mode):
                # A link to a folder is none: it may lead anywhere.
                self._named.append(f"{name} is {'no' if folder else 'a'} folder there")
            elif folder and there.st_dev != self._device:
                self._named.append(f"another file system is mounted at {name}")
            elif folder:
                self.look(Path(entry.path), place, f"{name}/")

    def refuse(self, into: Path) -> None:
        if self._named:
            more = f" and {len(self._named) - MOST_NAMED} more" if len(self._named) > MOST_NAMED else ""
            raise DestinationInUse(
                f"The snapshot does not fit into {into}: {', '.join(self._named[:MOST_NAMED])}{more}.",
                "Nothing was touched. Move these aside, or restore into a new directory.",
            )


def _move(built: Path, into: Path, *, folders_too: bool) -> None:
    """Move what is in one folder into another one, then give that one its attributes."""
    attributes = built.stat()
    built.chmod(0o700)  # A folder without the right to write gives nothing away.
    for entry in list(os.scandir(built)):
        place = into / entry.name
        if entry.is_dir(follow_symlinks=False) and place.is_dir() and not place.is_symlink():
            _move(Path(entry.path), place, folders_too=folders_too)
        else:
            _rename(Path(entry.path), place)
    if folders_too:
        built.chmod(stat.S_IMODE(attributes.st_mode))
        os.utime(built, ns=(attributes.st_mtime_ns, attributes.st_mtime_ns))
        if os.getuid() == 0:
            os.chown(into, attributes.st_uid, attributes.st_gid)
        shutil.copystat(built, into)
        built.chmod(0o700)


def _rename(path: Path, place: Path) -> None:
    try:
        path.rename(place)
    except PermissionError as error:
        if error.errno != errno.EACCES or path.is_symlink() or not path.is_dir():
            raise
        # A folder that is moved is written to: its entry for the one above it changes.
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | 0o700)
        path.rename(place)
        place.chmod(mode)
