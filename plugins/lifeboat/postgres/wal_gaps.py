"""WAL that was in danger, and what became of it: ``present``, ``late`` or ``lost``. Each is an event of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from lifeboat.errors import ManifestInvalid, RecoveryPointMissing
from lifeboat.policy.duration import Duration
from lifeboat.postgres.details import FULL, LostWal, WalDetails, full_details
from lifeboat.postgres.full_due import handed_on, lost_before, stands_behind
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.reach import Base
from lifeboat.postgres.standing import standing_of
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.repository.journal import EventKind
from lifeboat.repository.system import PRIMARY, SystemRepository


class Gaps:
    """What one run finds out about WAL that could be missing.

    Args:
        write: writes an event of the run.
        tick: called while the targets are read; may raise to stop.

    Attributes:
        lost: a sentence for each piece that is lost.
        due: the newest WAL that is lost and has no verified full behind it; ``None`` when no full is due.
    """

    def __init__(
        self, repository: SystemRepository, source: str, write: Callable[..., object], tick: Callable[[], None]
    ) -> None:
        self.lost: list[str] = []
        self.due: LostWal | None = None
        self._repository = repository
        self._source = source
        self._write = write
        self._tick = tick
        self._history = TimelineHistory(1)
        self._slot_is_new = False

    def event(self, kind: EventKind, **details: Any) -> None:
        """An event about the slot: written, and remembered for what it means."""
        if kind == "wal_gap":
            self.lost.append(str(details.get("what", "")))
        self._slot_is_new = self._slot_is_new or kind == "slot_created"
        self._write(kind, **details)

    def begin(self, committed: Mapping[int, WalDetails], history: TimelineHistory, first: Lsn) -> None:
        """Take up what the runs before have handed on.

        Args:
            committed: the newest WAL run of each timeline.
            history: of the server's timeline.
            first: where the run begins.
        """
        self._history = history
        self.due = handed_on(committed, history)
        self.look_again()
        if not committed and (lost := lost_before(first, self._fulls(), history)) is not None:
            self.is_lost(lost)

    def look_again(self) -> str:
        """See whether the full that is due was made meanwhile; returns its id, empty when it was not."""
        full = self._full_behind(self.due) if self.due is not None else ""
        if full:
            self.due = None
        return full

    def is_lost(self, lost: LostWal) -> None:
        """The server no longer has it."""
        self.due = lost
        full = self.look_again()
        remedy = (
            f"The full {full} was taken after it: what was committed since can be reached from there."
            if full
            else "A new full is needed: moments after the gap can be reached only from a full taken after it."
        )
        what = f"{lost} is lost: the server removed it before it was collected. {remedy}"
        where = {"timeline": lost.timeline, "start": str(lost.start), "end": str(lost.end)}
        self.event("wal_gap", state="lost", **where, what=what)

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

    def _full_behind(self, lost: LostWal) -> str:
        for base in self._fulls():
            if not stands_behind(base, lost, self._history):
                continue
            name = base.manifest.recovery_point
            standing = standing_of(self._repository, self._source, {name: base}, self._tick)
            if standing.get(name) == "verified":
                return name
        return ""

    def _fulls(self) -> Iterator[Base]:
        """The good fulls on the primary target, newest first."""
        catalogue = self._repository.catalogue(PRIMARY)
        for folder in reversed(catalogue.committed(self._source, FULL)):
            self._tick()
            try:
                copy = catalogue.read(folder)
                base = Base(copy, full_details(copy.manifest))
            except (ManifestInvalid, RecoveryPointMissing):
                continue
            if copy.manifest.state == "good":
                yield base
