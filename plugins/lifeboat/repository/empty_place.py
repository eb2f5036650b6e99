"""Where a restore may put what it brings back, and how that gets there: built beside it, and named when it is whole."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lifeboat.errors import DestinationInUse, NotEnoughDisk, RestoreError
from lifeboat.repository.building import building_place


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


@contextmanager
def placed(into: Path, what: str) -> Iterator[Path]:
    """A folder to build in, which becomes ``into`` when the block has ended without an error.

    Args:
        into: empty, or not there.
        what: what is built, in the plural, for errors.

    Raises:
        DestinationInUse: something is there; nothing was touched.
        NotEnoughDisk: there is no room; nothing is left there.
        RestoreError: it could not be written; nothing is left there.
    """
    check_place(into)
    with told_of_disks(into, what), building_place(into.parent, into.name) as building:
        yield building
        with suppress(FileNotFoundError):
            into.rmdir()
        building.rename(into)


@contextmanager
def told_of_disks(into: Path, what: str) -> Iterator[None]:
    """Say of what could not be written what, where and why; raises as :func:`placed`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotEnoughDisk(f"There is no room for the {what} at {into.parent}.", "Make room there.") from error
        raise RestoreError(
            f"The {what} could not be written to {into.parent}: {error}.", "Nothing is left there."
        ) from error
