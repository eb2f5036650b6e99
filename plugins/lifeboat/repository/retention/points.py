"""What retention knows of a recovery point on one target, and of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class Role(Enum):
    """What a recovery point is to the others of its source."""

    BASE = "base"
    """Stands alone, and others may build upon it: a physical full, a full snapshot."""
    LINK = "link"
    """Builds upon its parent: an incremental."""
    LOG = "log"
    """Leads from a base or a link to any later moment: WAL."""
    ALONE = "alone"
    """Stands alone, and nothing builds upon it: an archive, an export."""


@dataclass(frozen=True, slots=True)
class HeldPoint:
    """One recovery point as one target holds it.

    Attributes:
        recovery_point: its id.
        kind: the source's own word: ``full``, ``incremental``, ``wal``, ``logical``, ``export``.
        role: see :class:`Role`.
        tiers: that it counts for.
        begun: when the work began, or the moment of the data where that is earlier: WAL from then on leads on from it.
        moment: what the data stand for; for WAL the moment up to which it reaches.
        needs: the recovery points that it can't be restored without: its parent, and those whose objects it refers to.
        good: whether this copy was verified, and found good when last looked at.
        hold: the reason of a hold upon it; empty without one.
        locked_until: the end of the store's own lock, as it was read back.
        deleted: when its tombstone was set; ``None`` for one that is there.
    """

    recovery_point: str
    kind: str
    role: Role
    tiers: tuple[str, ...]
    begun: datetime
    moment: datetime
    needs: tuple[str, ...] = ()
    good: bool = False
    hold: str = ""
    locked_until: datetime | None = None
    deleted: datetime | None = None


@dataclass(frozen=True)
class TargetState:
    """What one target holds of one source.

    Attributes:
        target: its name.
        points: in any order; each id once.
        frozen: why nothing of it may go now, in a sentence: it could not be reached, or a manifest can't be believed.
    """

    target: str
    points: Sequence[HeldPoint]
    frozen: str = ""
