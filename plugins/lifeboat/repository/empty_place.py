"""Where a restore may put what it brings back."""

from __future__ import annotations

from pathlib import Path

from lifeboat.errors import DestinationInUse, RestoreError


def check_place(into: Path) -> None:
    """Insist on a place where nothing is.

    Raises:
        DestinationInUse: something is there.
        RestoreError: the folder that it would be in is not there.
    """
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise DestinationInUse(f"{into} is there, and is no directory.", "Name a directory that is empty or not there.")
    if into.is_dir() and any(into.iterdir()):
        raise DestinationInUse(f"{into} is not empty.", "Nothing was touched. Name an empty directory, or a new one.")
    if not into.parent.is_dir():
        raise RestoreError(f"{into.parent} is not there.", "Make it first.")
