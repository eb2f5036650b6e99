"""Marks: what was decided about recovery points after they were made. Held, deleted, about to be removed, set aside.

A mark is an event of the journal, and its very document lies in the source's folder ``marks`` as well: a reader must
know in two requests what is deleted, and the journal has thousands of events a day. One event may speak of many points.

A mark is in force until another one *answers* it by its digest, for the points that both name. So nothing depends on
which of two clocks was right, two that say the same do no harm, and where a hold and a deletion cross, both are seen.

    held          ◂ hold_released       of a point, on every target
    soft_deleted  ◂ deletion_undone     of a copy: its tombstone, readers no longer see it
    purge_begun   ◂ purge_withdrawn     of a copy: its bytes are being removed, which can't be taken back
    quarantined   ◂ quarantine_ended    of a copy that can't be believed: it is left alone, and stops nothing
    purged                              answers the deletion and the beginning of the removal
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from lifeboat.repository.journal import Event, EventKind

SET: frozenset[EventKind] = frozenset({"held", "soft_deleted", "purge_begun", "quarantined"})
ANSWERS: frozenset[EventKind] = frozenset(
    {"hold_released", "deletion_undone", "purge_withdrawn", "quarantine_ended", "purged"}
)


@dataclass(frozen=True, slots=True)
class Mark:
    """One event's word on one recovery point.

    Attributes:
        kind: ``held``, ``soft_deleted``, ``purge_begun`` or ``quarantined``.
        recovery_point: of what.
        target: whose copy; empty for all.
        time: when it was set.
        manifest: SHA-256 of the manifest that it is about: another one in that place is not meant. Empty: any.
        sequence: the recovery point's number in its row; 0 where that was not known.
        reason: in a sentence, as the person or the plan gave it.
        actor: who set it.
        event: digest of the event, which an answer names.
    """

    kind: str
    recovery_point: str
    target: str
    time: datetime
    manifest: str
    sequence: int
    reason: str
    actor: str
    event: str

    def is_about(self, target: str, sha256: str) -> bool:
        """Whether it means this copy."""
        return self.target in ("", target) and self.manifest in ("", sha256)


class Marks:
    """The marks of one source that are in force, as far as these events say.

    Args:
        events: in any order, from any number of targets; the same one may come several times.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self._in_force: dict[str, list[Mark]] = {}
        events = list({event.sha256: event for event in events}.values())
        answered = {
            (str(digest), point)
            for event in events
            if event.kind in ANSWERS
            for digest in event.details.get("answers", ())
            for point in points_of(event)
        }
        self.latest = max((event.time for event in events), default=None)
        for event in events:
            if event.kind not in SET:
                continue
            for mark in marks_of(event):
                if (mark.event, mark.recovery_point) not in answered:
                    self._in_force.setdefault(mark.recovery_point, []).append(mark)

    def __iter__(self) -> Iterator[Mark]:
        return (mark for marks in self._in_force.values() for mark in marks)

    def of(self, recovery_point: str, kind: EventKind, target: str = "") -> list[Mark]:
        """The marks of a kind on one recovery point, on one target or on any, the newest last."""
        found = [
            mark
            for mark in self._in_force.get(recovery_point, ())
            if mark.kind == kind and (not target or mark.target in ("", target))
        ]
        return sorted(found, key=lambda mark: (mark.time, mark.event))

    def hold(self, recovery_point: str) -> str:
        """Why a recovery point is held; empty when it is not."""
        return "; ".join(mark.reason for mark in self.of(recovery_point, "held"))

    def deleted(self, recovery_point: str, target: str, sha256: str) -> Mark | None:
        """The newest mark that hides this copy from readers: of several the one that leaves most time."""
        about = [
            mark
            for kind in ("soft_deleted", "purge_begun")
            for mark in self.of(recovery_point, kind, target)
            if mark.is_about(target, sha256)
        ]
        return max(about, key=lambda mark: mark.time, default=None)

    def set_aside(self, target: str) -> set[str]:
        """The recovery points that are quarantined on a target."""
        return {mark.recovery_point for mark in self if mark.kind == "quarantined" and mark.target == target}

    def quarantined(self, recovery_point: str, target: str) -> str:
        """Why a copy is set aside; empty when it is not."""
        return "; ".join(mark.reason for mark in self.of(recovery_point, "quarantined", target))


def points_of(event: Event) -> Mapping[str, Mapping[str, object]]:
    """The recovery points that an event speaks of, with what it says of each."""
    points = event.details.get("points", {})
    return points if isinstance(points, dict) else {}


def marks_of(event: Event) -> Iterator[Mark]:
    """What an event says, point by point."""
    digest = event.sha256
    for point, told in points_of(event).items():
        yield Mark(
            event.kind,
            point,
            event.target or "",
            event.time,
            str(told.get("manifest", "")),
            int(str(told.get("sequence", 0))),
            str(told.get("reason", "") or event.details.get("reason", "")),
            event.actor,
            digest,
        )


def answered_whole(events: Iterable[Event]) -> list[Event]:
    """The events that say nothing any more, in the order in which they may be removed: what an answer answers goes
    before the answer, or it would be in force again."""
    events = list(events)
    force = {mark.event for mark in Marks(events)}
    ended = [event for event in events if event.kind in SET and event.sha256 not in force]
    names = {event.sha256 for event in events if event.kind in SET} - {event.sha256 for event in ended}
    answers = [
        event
        for event in events
        if event.kind in ANSWERS and not names.intersection(map(str, event.details.get("answers", ())))
    ]
    return ended + answers
