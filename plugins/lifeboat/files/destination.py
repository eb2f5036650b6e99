"""Where files come back to, and what came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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

    def add(self, other: RestoredFiles) -> None:
        """Count what somebody else wrote, and could not give back."""
        self.files += other.files
        self.size += other.size
        for what, count in other.remarks.items():
            self.remarks[what] = self.remarks.get(what, 0) + count
