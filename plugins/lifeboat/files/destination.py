"""Where files come back to, and what came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lifeboat.errors import DestinationInUse, RestoreError


@dataclass
class RestoredFiles:
    """What came back.

    Attributes:
        into: where it is.
        files, folders, others: how many.
        size: bytes of the files.
        missing: paths whose bytes the snapshot itself could not read.
        remarks: what could not be given back as it was, in sentences.
    """

    into: Path
    files: int = 0
    folders: int = 0
    others: int = 0
    size: int = 0
    missing: list[str] = field(default_factory=list)
    remarks: dict[str, int] = field(default_factory=dict)

    def could_not(self, what: str) -> None:
        """Count something that could not be given back."""
        self.remarks[what] = self.remarks.get(what, 0) + 1

    def add_remarks(self, other: RestoredFiles) -> None:
        """Count what somebody else could not give back."""
        for what, count in other.remarks.items():
            self.remarks[what] = self.remarks.get(what, 0) + count


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
