"""The store's own locks of copies: heeded by a plan, and extended while something younger needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.retention.decisions import Action, Decision
from lifeboat.repository.retention.lock_ends import lock_ends
from lifeboat.repository.retention.planning import plan_source
from lifeboat.repository.retention.points import HeldPoint, TargetState
from lifeboat.repository.retention.reading import Held
from lifeboat.repository.retention.rules import SourceRules
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import LOCKED_WITHOUT_END, Target

READERS = 8
_MOST_POINTS = 2000
"""In one event."""

Tick = Callable[[], None]


def plan_with_locks(
    repository: SystemRepository, held: Held, rules: SourceRules, now: datetime, *, tick: Tick = lambda: None
) -> tuple[Held, list[Decision]]:
    """Decide about each copy, with the locks of those that would go.

    Only their locks are read: a lock changes nothing for what stays anyhow, and of a million copies most stay. On one
    target locks only add to what is kept, so one more plan is enough there. But what is kept here may count as the copy
    elsewhere that lets another target's go early: so this is repeated until the lock of everything that goes was read.

    Returns:
        What the targets hold, with the locks that were read; a target whose locks can't be read is frozen. And the
        decisions.
    """
    read: set[tuple[str, str]] = set()
    while True:
        decisions = plan_source(held.states, rules, now)
        due = _unread(repository, decisions, read)
        read.update((target, point) for target, points in due.items() for point in points)
        found = {target: _read(repository.target(target), held, points, now, tick) for target, points in due.items()}
        if not any(found.values()):
            return held, decisions
        states = tuple(_locked(state, found.get(state.target, {})) for state in held.states)
        held = replace(held, states=states)


def _unread(
    repository: SystemRepository, decisions: Iterable[Decision], read: Collection[tuple[str, str]]
) -> dict[str, list[str]]:
    locking = {name for name, policy in repository.policy.targets.items() if policy.object_lock is not None}
    due: dict[str, list[str]] = {}
    for one in decisions:
        if one.action in (Action.GOES, Action.PURGED) and one.target in locking:
            point = one.point.recovery_point
            if (one.target, point) not in read:
                due.setdefault(one.target, []).append(point)
    return due


def _read(store: Target, held: Held, points: Sequence[str], now: datetime, tick: Tick) -> Mapping[str, datetime] | str:
    """When the locks end that have not ended; or why that could not be found out."""

    def read(point: str) -> datetime | None:
        for copy in held.copies[store.name, point]:
            # The manifest first: all of a copy is locked alike, and one locked object is enough.
            for key in reversed(copy.keys):
                tick()
                until = store.locked_until(key)
                if until is not None and until > now:
                    return until
        return None

    try:
        ends = side_by_side(read, points, at_once=READERS, name="read locks")
    except Cancelled:
        raise
    except LifeboatError as error:
        return f"its locks could not be read: {error.what}"
    return {point: until for point, until in zip(points, ends, strict=True) if until is not None}


def _locked(state: TargetState, found: Mapping[str, datetime] | str) -> TargetState:
    if isinstance(found, str):
        return replace(state, frozen=state.frozen or found)
    return replace(state, points=tuple(_with_lock(point, found) for point in state.points)) if found else state


def _with_lock(point: HeldPoint, found: Mapping[str, datetime]) -> HeldPoint:
    until = found.get(point.recovery_point)
    return point if until is None else replace(point, locked_until=until)


def extend_locks(
    repository: SystemRepository,
    held: Held,
    decisions: Iterable[Decision],
    rules: SourceRules,
    now: datetime,
    target: str,
    journal: Journal,
    *,
    tick: Tick = lambda: None,
) -> tuple[str, ...]:
    """Extend the locks of what something younger needs, on one target that sets locks.

    A copy's manifest comes last. So its lock proves those of all its other objects: it alone is read where nothing is
    to be done, and a run that was cut off is done again.

    Args:
        decisions: of a plan that was made just now; one that is stopped serves as well: this only protects.
        journal: whose first target is this one.

    Returns:
        The recovery points whose locks were extended.

    Raises:
        TargetError: the store did not do it, or does not show it; what was extended stays so.
    """
    if repository.policy.targets[target].object_lock is None:
        return ()
    stays = (Action.STAYS, Action.RETURNS)
    kept = [one.point for one in decisions if one.target == target and one.action in stays]
    ends = lock_ends(kept, rules, now)
    store = repository.target(target)

    def is_short(point: str) -> bool:
        tick()
        return any(_is_short(store, copy, ends[point]) for copy in held.copies[target, point])

    points = sorted(ends)
    short = side_by_side(is_short, points, at_once=READERS, name="read locks")
    extended: list[str] = []
    try:
        for point in (point for point, wanting in zip(points, short, strict=True) if wanting):
            if any([_extend(store, copy, ends[point], tick) for copy in held.copies[target, point]]):
                extended.append(point)
    finally:
        # What is locked is told even when the next one could not be.
        _tell(journal, held, target, {point: ends[point] for point in extended})
    return tuple(extended)


def _is_short(store: Target, copy: Copy, until: datetime) -> bool:
    found = store.locked_until(copy.manifest.folder.manifest)
    # A hold without an end is taken off by hand some day, and says nothing of the other objects.
    return found is None or found < until or found == LOCKED_WITHOUT_END


def _extend(store: Target, copy: Copy, until: datetime, tick: Tick) -> bool:
    def extend(key: str) -> bool:
        tick()
        return store.extend_lock(key, until)

    *others, manifest = copy.keys
    done = side_by_side(extend, others, at_once=READERS, name="extend locks")
    return any([*done, store.extend_lock(manifest, until)])


def _tell(journal: Journal, held: Held, target: str, ends: Mapping[str, datetime]) -> None:
    names = list(ends)
    for first in range(0, len(names), _MOST_POINTS):
        points = {name: {"until": ends[name].isoformat()} for name in names[first : first + _MOST_POINTS]}
        source = held.copies[target, names[first]][0].manifest.source
        journal.write("locks_extended", source=source, target=target, points=points)
