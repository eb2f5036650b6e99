"""Carrying a plan out on one target: marks first, bytes long after.

Each step reads everything anew and plans by itself. So it does not matter how old the plan is that a person looked at,
nor whether another cleanup runs at the same time, nor where an earlier one was cut off: a step does what is right now,
and what was done already is not there to be done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.marking import answer, clear_marks, keep_removed, put_mark, read_marks, write_marks
from lifeboat.repository.marks import Mark, Marks
from lifeboat.repository.retention.decisions import Action, Decision
from lifeboat.repository.retention.removing import Removed, remove_copy
from lifeboat.repository.retention.source_plan import SourcePlan
from lifeboat.repository.system import SystemRepository

Tick = Callable[[], None]


@dataclass(frozen=True)
class Deleted:
    """What a step of soft deletion did on one target.

    Attributes:
        gone: recovery points that readers no longer see.
        returned: those whose deletion was taken back, since a rule keeps them now.
    """

    gone: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()


def soft_delete(repository: SystemRepository, plan: SourcePlan, target: str, journal: Journal) -> Deleted:
    """Hide from readers what the plan says goes, and show again what it says returns. No byte moves.

    Args:
        plan: made just now; one that is stopped does nothing.
        journal: whose first target is this one.

    Raises:
        TargetError: the target took not all marks; those that it took are in force.
    """
    spread_holds(repository, plan, target)
    if plan.stopped:
        return Deleted()
    store = repository.target(target)
    returned = [one.point.recovery_point for one in plan.of(target, Action.RETURNS)]
    if returned:
        marks = [mark for point in returned for mark in plan.held.marks.of(point, "soft_deleted", target)]
        answer(journal, store, "deletion_undone", plan.source, marks, reason="A rule keeps it now.")
    gone = plan.of(target, Action.GOES)
    zone = repository.policy.zone
    write_marks(
        journal,
        [store],
        "soft_deleted",
        plan.source,
        {one.point.recovery_point: _told(plan, one) | {"reason": one.sentence(zone)} for one in gone},
        target=target,
    )
    return Deleted(tuple(one.point.recovery_point for one in gone), tuple(returned))


def spread_holds(repository: SystemRepository, plan: SourcePlan, target: str) -> None:
    """Bring a target the holds, and the ends of holds, that other targets know of and it does not: it was away."""
    known = {event.sha256 for event in plan.held.events[target]}
    if any(state.frozen for state in plan.held.states if state.target == target):
        return
    for events in plan.held.events.values():
        for event in events:
            if event.kind in ("held", "hold_released") and event.sha256 not in known:
                put_mark(repository.target(target), event)
                known.add(event.sha256)


def purge(
    repository: SystemRepository, plan: SourcePlan, target: str, journal: Journal, *, tick: Tick = lambda: None
) -> list[Removed]:
    """Remove the bytes of what the plan says is removed, and of what an earlier run had begun to remove.

    The removal is announced by a mark before it begins. Whoever sets a hold looks for that mark after its own, and this
    looks for holds after the mark: of two that cross, one at least sees the other.

    Args:
        plan: made just now; of one that is stopped only what had begun is ended.
        journal: whose first target is this one.

    Returns:
        What was removed, recovery point by recovery point.

    Raises:
        TargetError: the target did not do it all; the next run goes on.
    """
    catalogue = repository.catalogue(target)
    if not plan.stopped:
        due = plan.of(target, Action.PURGED)
        write_marks(
            journal,
            [catalogue.target],
            "purge_begun",
            plan.source,
            {one.point.recovery_point: _told(plan, one) for one in due},
            target=target,
        )
    # Read again, of every target that can be read: a hold may have been set since the plan was made.
    marks = _marks_now(repository, plan, target)
    aside = marks.set_aside(target)
    begun = [
        mark
        for mark in marks
        if mark.kind == "purge_begun" and mark.target == target and mark.recovery_point not in aside
    ]
    kept = [mark for mark in begun if marks.hold(mark.recovery_point)]
    if kept:
        answer(journal, catalogue.target, "purge_withdrawn", plan.source, kept, reason="It is held.")
    removed = _remove_begun(catalogue, plan, marks, [mark for mark in begun if mark not in kept], journal, tick)
    clear_marks(catalogue.target, repository.system, plan.source, repository.trusted)
    return removed


def _remove_begun(
    catalogue: Catalogue, plan: SourcePlan, marks: Marks, begun: Iterable[Mark], journal: Journal, tick: Tick
) -> list[Removed]:
    points: dict[str, list[Mark]] = {}
    for mark in begun:
        points.setdefault(mark.recovery_point, []).append(mark)
    removed: list[Removed] = []
    try:
        for point, announced in points.items():
            tick()
            removed.append(remove_copy(catalogue, plan.source, point, {mark.manifest for mark in announced}, tick))
    finally:
        # What is gone is told even when the next one could not be removed.
        _tell(catalogue, plan, marks, removed, journal)
    return removed


def _tell(catalogue: Catalogue, plan: SourcePlan, marks: Marks, removed: Iterable[Removed], journal: Journal) -> None:
    target = catalogue.target.name
    done = [one for one in removed if not one.another]
    answered = {
        mark.event
        for one in done
        for kind in ("soft_deleted", "purge_begun")
        for mark in marks.of(one.recovery_point, kind, target)
    }
    points: dict[str, dict[str, object]] = {}
    for one in done:
        # Of what an earlier run had begun, only its announcement still knows the number.
        number = max(mark.sequence for mark in marks.of(one.recovery_point, "purge_begun", target))
        points[one.recovery_point] = {"sequence": number, "bytes": one.stored_size}
    for event in write_marks(journal, [], "purged", plan.source, points, target=target, answers=answered):
        # The mark comes last: until it answers the announcement, the next run does all of this again.
        keep_removed(catalogue.target, event)
        put_mark(catalogue.target, event)
    others = [mark for one in removed if one.another for mark in marks.of(one.recovery_point, "purge_begun", target)]
    if others:
        answer(journal, catalogue.target, "purge_withdrawn", plan.source, others, reason="Another copy lies there now.")


def _marks_now(repository: SystemRepository, plan: SourcePlan, target: str) -> Marks:
    events = []
    for state in plan.held.states:
        if state.target == target or not state.frozen:
            store = repository.target(state.target)
            events += read_marks(store, repository.system, plan.source, repository.trusted)
    return Marks(events)


def _told(plan: SourcePlan, decision: Decision) -> dict[str, object]:
    return _numbers(plan, decision.target, decision.point.recovery_point)


def _numbers(plan: SourcePlan, target: str, point: str) -> dict[str, object]:
    copies: tuple[Copy, ...] = plan.held.copies.get((target, point), ())
    if not copies:
        return {}
    # Of a WAL run on two timelines both manifests are meant.
    return {"sequence": copies[0].manifest.sequence} | ({"manifest": copies[0].sha256} if len(copies) == 1 else {})
