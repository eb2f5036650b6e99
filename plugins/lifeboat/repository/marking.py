"""Marks on a target: read, written, and cleared away when they say nothing any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from lifeboat.errors import ManifestInvalid, ObjectExists, ObjectMissing, RepositoryError
from lifeboat.repository.journal import Event, EventKind, Journal, parse_event
from lifeboat.repository.layout import journal_folder, marks_folder, removed_folder
from lifeboat.repository.marks import ANSWERS, SET, Mark, answered_whole, points_of
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.signing import TrustedKeys
from lifeboat.targets.target import Target

READERS = 8
MOST_POINTS = 2000
"""In one event: some 300 kB of it."""
_TRIES = 5


def read_marks(target: Target, system: str, source: str, trusted: TrustedKeys) -> list[Event]:
    """The events in a source's folder of marks on one target.

    Raises:
        ManifestInvalid: one of them can't be believed. It may have been a hold: nothing may be removed.
        TargetError: the target can't be read.
    """
    folder = marks_folder(system, source)
    for _ in range(_TRIES):
        keys = [info.key for info in target.list(folder) if info.key.endswith(".json")]
        try:
            return side_by_side(
                lambda key: _read(target, key, system, source, trusted), keys, at_once=READERS, name="read marks"
            )
        except ObjectMissing:
            # Cleared away meanwhile. Half of it would be worse than nothing: an answer must not be missed.
            continue
    raise RepositoryError(
        f"The marks in {folder} on target {target.name} are being changed all the time.", "Try again in a minute."
    )


def _read(target: Target, key: str, system: str, source: str, trusted: TrustedKeys) -> Event:
    return parse_mark(target.read(key), key, system, source, trusted, f"The mark {key} on target {target.name}")


def parse_mark(document: bytes, key: str, system: str, source: str, trusted: TrustedKeys, what: str) -> Event:
    """Read a mark and insist on its being an event that was signed for this system and source.

    Raises:
        ManifestInvalid: it can't be believed.
    """
    name = key.rsplit("/", 1)[-1]
    day = f"{name[:4]}/{name[4:6]}/{name[6:8]}/"
    event = parse_event(document, f"{journal_folder(system)}{day}{name}", trusted)
    if event.source != source or event.kind not in SET | ANSWERS:
        raise ManifestInvalid(
            f"{what} is of {event.source or 'no source'} and of kind {event.kind}: it is no mark here."
        )
    return event


def write_marks(
    journal: Journal,
    targets: Iterable[Target],
    kind: EventKind,
    source: str,
    points: Mapping[str, Mapping[str, Any]],
    *,
    target: str | None = None,
    answers: Iterable[str] = (),
    reason: str = "",
) -> list[Event]:
    """Write marks to the journal, and then to the folders of marks on these targets.

    Args:
        journal: its first target must take the events.
        targets: where readers have to know of it; each must take it.
        points: by their ids, with what is said of each: ``manifest``, ``reason``.
        target: whose copies; ``None``: all.
        answers: digests of the events that are in force no longer, for these points.

    Raises:
        TargetError: one of the targets did not take it. What the others took is in force.
    """
    places = list(targets)
    answered = sorted(set(answers))
    events = []
    names = sorted(points)
    for first in range(0, len(names), MOST_POINTS):
        told = {name: dict(points[name]) for name in names[first : first + MOST_POINTS]}
        details: dict[str, Any] = {"points": told}
        if answered:
            details["answers"] = answered
        if reason:
            details["reason"] = reason
        event = journal.write(kind, source=source, target=target, **details)
        for place in places:
            put_mark(place, event)
        events.append(event)
    return events


def put_mark(target: Target, event: Event) -> None:
    """Put an event into its source's folder of marks; one that is there already is no error."""
    assert event.source is not None
    with suppress(ObjectExists):
        target.put_new(marks_folder(event.system, event.source) + event.file, event.to_json())


def answer(
    journal: Journal, target: Target, kind: EventKind, source: str, marks: Iterable[Mark], *, reason: str = ""
) -> list[Event]:
    """Answer marks of copies on one target."""
    listed = list(marks)
    points = {mark.recovery_point: {"manifest": mark.manifest} for mark in listed}
    return write_marks(
        journal,
        [target],
        kind,
        source,
        points,
        target=target.name,
        answers={mark.event for mark in listed},
        reason=reason,
    )


def keep_removed(target: Target, event: Event) -> None:
    """Keep the record of what was removed beside the source, for whoever misses it later."""
    assert event.source is not None
    with suppress(ObjectExists):
        target.put_new(removed_folder(event.system, event.source) + event.file, event.to_json())


def read_removed(target: Target, system: str, source: str, trusted: TrustedKeys) -> dict[str, int]:
    """The recovery points that retention removed from a target, with their sequence numbers.

    A record that can't be believed explains nothing.

    Raises:
        TargetError: the target can't be read.
    """

    def read(key: str) -> Event | None:
        try:
            return _read(target, key, system, source, trusted)
        except (ManifestInvalid, ObjectMissing):
            return None

    keys = [info.key for info in target.list(removed_folder(system, source))]
    found = side_by_side(read, keys, at_once=READERS, name="read records of removal")
    numbers: dict[str, int] = {}
    for event in found:
        if event is None or event.kind != "purged" or event.target != target.name:
            continue
        for point, told in points_of(event).items():
            numbers[point] = max(numbers.get(point, 0), int(str(told.get("sequence", 0))))
    return numbers


def clear_marks(target: Target, system: str, source: str, trusted: TrustedKeys) -> int:
    """Remove the marks on a target that say nothing any more; returns how many. The journal keeps them all."""
    ended = answered_whole(read_marks(target, system, source, trusted))
    for event in ended:
        target.delete(marks_folder(system, source) + event.file)
    return len(ended)
