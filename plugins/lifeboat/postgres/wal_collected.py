"""What a WAL run brought."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lifeboat.postgres.details import LostWal
from lifeboat.repository.catalogue import Copy


@dataclass(frozen=True)
class Collected:
    """What a WAL run brought.

    Attributes:
        copies: its recovery points on the primary target, in their order: one for each timeline, and, where it
            followed the server, one for each flush.
        covered_until: every transaction committed by then is in the repository.
        gap: what this run found to be lost, in a sentence; empty when nothing was.
        due: what is lost, found by this run or an earlier one, and has no verified full behind it; ``None`` when no
            full is due.
        branch: that the server is not the one the repository expects, in a sentence; empty when it is.
        promoted: that the standby which the run before has read is a primary now, in a sentence; else empty.
    """

    copies: tuple[Copy, ...]
    covered_until: datetime
    gap: str = ""
    due: LostWal | None = None
    branch: str = ""
    promoted: str = ""

    @property
    def alarm(self) -> str:
        """What somebody must be told although WAL was committed."""
        return " ".join(filter(None, [self.gap, self.branch, self.promoted]))

    @property
    def received(self) -> int:
        """Plain bytes of WAL."""
        return sum(copy.manifest.plain_size for copy in self.copies)
