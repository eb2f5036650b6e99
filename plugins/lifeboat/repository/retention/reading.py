"""What the targets hold of one source, read for a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.policy.built import built_targets
from lifeboat.repository.catalogue import Copy, Listing
from lifeboat.repository.last_verified import LastVerified, Place, last_verified
from lifeboat.repository.layout import WAL
from lifeboat.repository.retention.points import HeldPoint, Role, TargetState
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.system import SystemRepository

MOST_EVENTS = 200_000
"""So far back a target's journal is asked when each of its copies was verified: further than a month of WAL."""


@dataclass(frozen=True)
class Held:
    """What all targets hold of one source.

    Attributes:
        states: one for each target that is written to, `primary` first.
        latest: the newest moment at which anything of it was committed.
    """

    states: tuple[TargetState, ...]
    latest: datetime | None


@dataclass(frozen=True)
class _Looked:
    target: str
    copies: tuple[Copy, ...] = ()
    results: Mapping[Place, LastVerified] | None = None
    trouble: str = ""
    unbelievable: str = ""


def read_source(
    repository: SystemRepository,
    source: str,
    roles: Mapping[str, Role],
    *,
    tick: Callable[[], None] = lambda: None,
    most_events: int = MOST_EVENTS,
) -> Held:
    """Read manifests and journals of every target.

    A target that can't be read is frozen by itself. A manifest that can't be believed freezes the source on every
    target: what it was, and what stands on it, nobody knows, and the other copies may be the only good ones.

    Args:
        roles: of each kind of recovery point. One of an unknown kind freezes the source, too.
        tick: called between reads; may raise to stop.
    """
    targets = list(built_targets(repository.policy))
    looked = side_by_side(
        lambda target: _look(repository, source, target, roles, tick, most_events),
        targets,
        at_once=len(targets),
        name="read targets",
    )
    unbelievable = next((one.unbelievable for one in looked if one.unbelievable), "")
    states = tuple(_state(one, roles, unbelievable) for one in looked)
    moments = [copy.manifest.committed for one in looked for copy in one.copies]
    return Held(states, max(moments, default=None))


def _look(
    repository: SystemRepository,
    source: str,
    target: str,
    roles: Mapping[str, Role],
    tick: Callable[[], None],
    most_events: int,
) -> _Looked:
    try:
        catalogue = repository.catalogue(target)
        listings = (catalogue.recovery_points(source), catalogue.wal(source))
        tick()
        copies = tuple(copy for listing in listings for copy in listing.copies)
        places = [(source, copy.manifest.recovery_point, target) for copy in copies if copy.manifest.kind != WAL]
        results = last_verified(repository, target, places, most=most_events, tick=tick)
    except Cancelled:
        raise
    except LifeboatError as error:
        return _Looked(target, trouble=f"it could not be read: {error.what}")
    return _Looked(target, copies, results, unbelievable=_unbelievable(target, listings, copies, roles))


def _unbelievable(target: str, listings: Iterable[Listing], copies: Iterable[Copy], roles: Mapping[str, Role]) -> str:
    for listing in listings:
        for bad in listing.unreadable:
            return f"{bad.folder.recovery_point} on {target} can't be believed: {bad.reason}"
    for copy in copies:
        if copy.manifest.kind not in roles:
            return f"{copy.manifest.recovery_point} on {target} is of a kind that this Lifeboat does not know"
    return ""


def _state(looked: _Looked, roles: Mapping[str, Role], unbelievable: str) -> TargetState:
    results = looked.results or {}
    points: dict[str, HeldPoint] = {}
    for copy in looked.copies:
        point = held_point(copy, roles.get(copy.manifest.kind, Role.BASE))
        found = results.get((copy.manifest.source, point.recovery_point, looked.target))
        good = found is not None and found.good and found.manifest == copy.sha256 and copy.manifest.state == "good"
        # A WAL run that ended one timeline and began the next is a point on both: they stay or go together.
        before = points.get(point.recovery_point)
        moment = point.moment if before is None else max(before.moment, point.moment)
        points[point.recovery_point] = replace(point, good=good, moment=moment)
    return TargetState(looked.target, tuple(points.values()), looked.trouble or unbelievable)


def held_point(copy: Copy, role: Role) -> HeldPoint:
    """A copy as a planner sees it, before anybody has asked whether it was verified.

    What counts for no tier, such as an export of single tables, is kept as long as the tier that its kind is called
    after.
    """
    manifest = copy.manifest
    return HeldPoint(
        manifest.recovery_point,
        manifest.kind,
        role,
        manifest.tiers or (manifest.kind,),
        # What was read from a standby is as old as the standby was then: WAL from that moment on leads on from it.
        min(manifest.begun, manifest.moment),
        manifest.moment,
        () if manifest.parent is None else (manifest.parent,),
    )
