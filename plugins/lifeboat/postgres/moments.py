"""What a restore is asked to bring back: a moment, in one of the forms that people know it in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lifeboat.postgres.lsn import Lsn


@dataclass(frozen=True)
class Latest:
    """Everything there is."""

    def __str__(self) -> str:
        return "the latest moment"


@dataclass(frozen=True)
class AtTime:
    """Every transaction committed by then, by the server's clock, and none after."""

    time: datetime

    def __str__(self) -> str:
        return self.time.isoformat(sep=" ")


@dataclass(frozen=True)
class AtLsn:
    """Up to and with the record at this position."""

    lsn: Lsn

    def __str__(self) -> str:
        return f"LSN {self.lsn}"


@dataclass(frozen=True)
class AtName:
    """A restore point that was named with ``pg_create_restore_point``; of several with one name, the newest."""

    name: str

    def __str__(self) -> str:
        return f"the restore point {self.name!r}"


@dataclass(frozen=True)
class LocatedPoint:
    """Where a named restore point stands in the WAL: the newest of that name.

    Attributes:
        lsn: where its record begins.
        timeline: of the segment that it was found in.
        moment: when it was made, by the server's clock.
    """

    name: str
    lsn: Lsn
    timeline: int
    moment: datetime


@dataclass(frozen=True)
class AtRecoveryPoint:
    """The moment a recovery point stands for: a full's end, or the end of a WAL run."""

    id: str

    def __str__(self) -> str:
        return f"the recovery point {self.id}"


Moment = Latest | AtTime | AtLsn | AtName | AtRecoveryPoint
