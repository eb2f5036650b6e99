"""WAL that was in danger, and what became of it: ``present``, ``late`` or ``lost``. Each is an event of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from lifeboat.policy.duration import Duration
from lifeboat.postgres.lsn import Lsn
from lifeboat.repository.journal import EventKind


class Gaps:
    """What one run finds out about WAL that could be missing.

    Args:
        write: writes an event of the run.

    Attributes:
        lost: a sentence for each piece that is lost.
    """

    def __init__(self, write: Callable[..., object]) -> None:
        self.lost: list[str] = []
        self._write = write
        self._slot_is_new = False

    def event(self, kind: EventKind, **details: Any) -> None:
        """An event about the slot: written, and remembered for what it means."""
        if kind == "wal_gap":
            self.lost.append(str(details.get("what", "")))
        self._slot_is_new = self._slot_is_new or kind == "slot_created"
        self._write(kind, **details)

    def is_lost(self, timeline: int, start: Lsn, end: Lsn) -> None:
        """The server no longer has it."""
        what = (
            f"WAL of timeline {timeline} from {start} to {end} is lost: the server removed it before it was "
            "collected. A new full is needed: moments after the gap can be reached only from a full taken after it."
        )
        self.event("wal_gap", state="lost", timeline=timeline, start=str(start), end=str(end), what=what)

    def is_collected(self, before: datetime | None, until: datetime, objective: timedelta) -> None:
        """Everything from ``before`` to ``until`` is committed: written down where that was not certain, or late.

        Args:
            before: until when was covered before; ``None`` where nothing was.
            objective: within what time it should have been.
        """
        if before is None or self.lost:
            return
        span = f"between {before:%Y-%m-%d %H:%M:%S} and {until:%Y-%m-%d %H:%M:%S} UTC"
        if self._slot_is_new:
            what = (
                f"The replication slot was gone: after a failover, or dropped. What was written {span} was still on "
                "the server and is collected: nothing is missing."
            )
            self._write("wal_gap", state="present", what=what)
        if until - before > objective:
            what = (
                f"What was committed {span} lay on the server alone until now, for longer than the objective of "
                f"{Duration.of(objective)} allows. It is collected: nothing is missing."
            )
            self._write("wal_gap", state="late", what=what)
