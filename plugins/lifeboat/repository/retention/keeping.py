"""What a person says about recovery points: hold them, let them go again, take a deletion back, set one aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from lifeboat.errors import Cancelled, LifeboatError, RecoveryPointMissing, RepositoryError, TargetError
from lifeboat.policy.built import built_targets
from lifeboat.repository.journal import Event, Journal
from lifeboat.repository.layout import RecoveryPointFolder, RecoveryPointId
from lifeboat.repository.marking import answer, read_marks, write_marks
from lifeboat.repository.marks import Mark, Marks
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.system import SystemRepository

RUN = "retention"


@dataclass(frozen=True)
class _Known:
    """Marks by target, and why those of the others are not known."""

    events: dict[str, list[Event]]
    away: dict[str, str]

    @property
    def marks(self) -> Marks:
        return Marks(chain.from_iterable(self.events.values()))


def hold(repository: SystemRepository, source: str, points: Sequence[str], reason: str, actor: str) -> list[str]:
    """Keep recovery points on every target, whatever any rule says, until they are released.

    Returns:
        Targets that are away and don't know of it: until they are told, by saying it again or by a cleanup that reads
        both them and one that knows, they follow their rules.

    Raises:
        RecoveryPointMissing: no target that can be read has one of them; nothing was held.
        RepositoryError: the removal of one had begun; the others are held.
        TargetError: no target took it.
    """
    known = _known(repository, source)
    for point in points:
        _insist_on_one(repository, source, point, list(known.events))
    journal = _journal(repository, known, actor)
    stores = [repository.target(name) for name in known.events]
    write_marks(journal, stores, "held", source, {point: {} for point in points}, reason=reason)
    # A purge writes its mark before it looks for holds, and we look for its mark after the hold: one of both sees.
    begun = [mark for mark in _known(repository, source).marks if mark.kind == "purge_begun"]
    late = sorted({f"{mark.recovery_point} on {mark.target}" for mark in begun if mark.recovery_point in points})
    if late:
        raise RepositoryError(
            f"The removal of {' and of '.join(late)} had begun before the hold.",
            f"See with `lifeboat list {repository.system} {source}` which copies are left; all others are held.",
        )
    return sorted(known.away)


def release(repository: SystemRepository, source: str, points: Sequence[str], reason: str, actor: str) -> list[str]:
    """End the holds on recovery points: retention decides about them again.

    Returns:
        Targets that are away: there the hold ends when they are told.

    Raises:
        RepositoryError: one of them is not held.
    """
    known = _known(repository, source)
    marks = known.marks
    ended = [mark for point in points for mark in marks.of(point, "held")]
    _insist_on_marks(points, ended, "is not held")
    write_marks(
        _journal(repository, known, actor),
        [repository.target(name) for name in known.events],
        "hold_released",
        source,
        {point: {} for point in points},
        answers=[mark.event for mark in ended],
        reason=reason,
    )
    return sorted(known.away)


def undo(
    repository: SystemRepository,
    source: str,
    points: Sequence[str],
    targets: Sequence[str],
    reason: str,
    actor: str,
    *,
    held: bool = True,
) -> list[str]:
    """Take deletions back, and hold what came back: else the next cleanup would delete it again.

    Args:
        targets: on which.
        held: whether to hold it.

    Returns:
        The copies that came back, as ``<recovery point> on <target>``.

    Raises:
        RepositoryError: one of the recovery points is not deleted on any of these targets, or its removal has begun.
        TargetError: a target did not take it.
    """
    known = _known(repository, source)
    _insist_on_reach(known, targets)
    marks = known.marks
    begun = {(mark.recovery_point, mark.target) for mark in marks if mark.kind == "purge_begun"}
    found = [
        mark
        for point in points
        for target in targets
        for mark in marks.of(point, "soft_deleted", target)
        if (point, target) not in begun
    ]
    _insist_on_marks(points, found, "is not deleted on any of these targets, or its removal has begun")
    if held:
        hold(repository, source, points, reason, actor)
    for target in sorted({mark.target for mark in found}):
        journal = repository.journal(target, *(name for name in known.events if name != target), run=RUN, actor=actor)
        store = repository.target(target)
        answer(
            journal, store, "deletion_undone", source, [mark for mark in found if mark.target == target], reason=reason
        )
    now = {
        (mark.recovery_point, mark.target) for mark in _known(repository, source).marks if mark.kind == "purge_begun"
    }
    crossed = sorted({(mark.recovery_point, mark.target) for mark in found} & now)
    if crossed and not held:
        raise RepositoryError(
            f"The removal of {', '.join(f'{point} on {target}' for point, target in crossed)} began meanwhile.",
            "Look with `lifeboat list` at what is left.",
        )
    return sorted({f"{mark.recovery_point} on {mark.target}" for mark in found})


def quarantine(repository: SystemRepository, source: str, point: str, target: str, reason: str, actor: str) -> None:
    """Set aside a copy that can't be believed: its bytes stay, nothing is decided about it, and it stops the retention
    of its source no longer.

    Raises:
        RepositoryError: it can be believed, or nothing is there.
    """
    folders = _folders(repository, source, point, target)
    catalogue = repository.catalogue(target)
    trouble = ""
    for folder in folders:
        try:
            catalogue.read(folder)
        except RecoveryPointMissing:
            continue
        except (Cancelled, TargetError):
            raise
        except LifeboatError as error:
            trouble = trouble or error.what
    if not trouble:
        raise RepositoryError(
            f"{point} on {target} can be believed, or is not committed there: there is nothing to set aside.",
            "To keep a recovery point whatever the rules say, use `lifeboat retention hold`.",
        )
    known = _known(repository, source)
    _insist_on_reach(known, [target])
    journal = repository.journal(target, *(name for name in known.events if name != target), run=RUN, actor=actor)
    said = f"{reason} ({trouble})" if reason else trouble
    write_marks(journal, [repository.target(target)], "quarantined", source, {point: {}}, target=target, reason=said)


def end_quarantine(repository: SystemRepository, source: str, point: str, target: str, reason: str, actor: str) -> None:
    """Judge a copy again that was set aside.

    Raises:
        RepositoryError: it is not set aside.
    """
    known = _known(repository, source)
    _insist_on_reach(known, [target])
    found = known.marks.of(point, "quarantined", target)
    _insist_on_marks([point], found, f"is not set aside on {target}")
    journal = repository.journal(target, *(name for name in known.events if name != target), run=RUN, actor=actor)
    answer(journal, repository.target(target), "quarantine_ended", source, found, reason=reason)


def _known(repository: SystemRepository, source: str) -> _Known:
    def read(target: str) -> list[Event] | str:
        try:
            return read_marks(repository.target(target), repository.system, source, repository.trusted)
        except (Cancelled, RepositoryError):
            raise
        except LifeboatError as error:
            return error.what

    targets = list(built_targets(repository.policy))
    found = dict(zip(targets, side_by_side(read, targets, at_once=len(targets), name="read marks"), strict=True))
    return _Known(
        {name: events for name, events in found.items() if isinstance(events, list)},
        {name: what for name, what in found.items() if isinstance(what, str)},
    )


def _journal(repository: SystemRepository, known: _Known, actor: str) -> Journal:
    if not known.events:
        raise TargetError(f"No target can be reached: {'; '.join(known.away.values())}", "Try again when one is back.")
    return repository.journal(*known.events, run=RUN, actor=actor)


def _folders(repository: SystemRepository, source: str, point: str, target: str) -> list[RecoveryPointFolder]:
    if RecoveryPointId.parse(point).kind != "wal":
        return [RecoveryPointFolder(repository.system, source, point)]
    timelines = repository.catalogue(target).timelines(source)
    return [RecoveryPointFolder(repository.system, source, point, timeline) for timeline in timelines]


def _insist_on_one(repository: SystemRepository, source: str, point: str, targets: Sequence[str]) -> None:
    for target in targets:
        store = repository.target(target)
        if any(store.stat(folder.manifest) is not None for folder in _folders(repository, source, point, target)):
            return
    raise RecoveryPointMissing(
        f"No target that can be read has a recovery point {point} of {repository.system} {source}: "
        f"{', '.join(targets)} were asked.",
        f"See `lifeboat list {repository.system} {source}`.",
    )


def _insist_on_marks(points: Sequence[str], marks: Sequence[Mark], what: str) -> None:
    marked = {mark.recovery_point for mark in marks}
    for point in points:
        if point not in marked:
            raise RepositoryError(f"{point} {what}.", "`lifeboat retention plan` shows how it stands.")


def _insist_on_reach(known: _Known, targets: Sequence[str]) -> None:
    for target in targets:
        if target in known.away:
            raise TargetError(f"Target {target} can't be read: {known.away[target]}", "Try again when it is back.")
