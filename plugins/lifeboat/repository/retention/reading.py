"""What the targets hold of one source, read for a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from lifeboat.errors import Cancelled, LifeboatError, ManifestInvalid
from lifeboat.policy.built import built_targets
from lifeboat.repository.catalogue import Copy, Listing
from lifeboat.repository.journal import Event
from lifeboat.repository.last_verified import LastVerified, Place, last_verified
from lifeboat.repository.layout import WAL
from lifeboat.repository.marking import read_marks
from lifeboat.repository.marks import Marks
from lifeboat.repository.retention.points import HeldPoint, Role, TargetState
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.system import SystemRepository

MOST_EVENTS = 5_000_000
"""So many of a target's events are read at most for when each of its copies was verified: a year of WAL that follows.
It ends sooner: where all is known, and at the day of the oldest copy's commit."""


@dataclass(frozen=True)
class Held:
    """What all targets hold of one source.

    Attributes:
        states: one for each target that is written to, `primary` first.
        latest: the newest moment at which anything of it was committed or decided.
        copies: by target and recovery point; a WAL run over two timelines is two.
        marks: that are in force, from all targets that could be read.
        events: those marks' events, as each target has them.
    """

    states: tuple[TargetState, ...]
    latest: datetime | None
    copies: Mapping[tuple[str, str], tuple[Copy, ...]]
    marks: Marks
    events: Mapping[str, tuple[Event, ...]]


@dataclass(frozen=True)
class _Looked:
    target: str
    listings: tuple[Listing, ...] = ()
    results: Mapping[Place, LastVerified] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    trouble: str = ""
    unbelievable: str = ""

    @property
    def copies(self) -> Iterable[Copy]:
        return (copy for listing in self.listings for copy in listing.copies)


def read_source(
    repository: SystemRepository,
    source: str,
    roles: Mapping[str, Role],
    *,
    tick: Callable[[], None] = lambda: None,
    most_events: int = MOST_EVENTS,
) -> Held:
    """Read manifests, marks and journals of every target.

    A target that can't be read is frozen by itself. A manifest or a mark that can't be believed freezes the source on
    every target: what it was, and what stands on it, nobody knows, and the other copies may be the only good ones. What
    is quarantined freezes nothing, and nothing is decided about it.

    Args:
        roles: of each kind of recovery point. One of an unknown kind freezes the source, too.
        tick: called between reads; may raise to stop.
    """
    targets = list(built_targets(repository.policy))
    looked = side_by_side(
        lambda target: _look(repository, source, target, tick, most_events),
        targets,
        at_once=len(targets),
        name="read targets",
    )
    marks = Marks(event for one in looked for event in one.events)
    unbelievable = next((why for one in looked if (why := _unbelievable(one, marks, roles))), "")
    copies: dict[tuple[str, str], tuple[Copy, ...]] = {}
    for one in looked:
        for copy in one.copies:
            key = (one.target, copy.manifest.recovery_point)
            if not marks.quarantined(copy.manifest.recovery_point, one.target):
                copies[key] = (*copies.get(key, ()), copy)
    states = tuple(_state(one, copies, marks, roles, unbelievable) for one in looked)
    moments = [copy.manifest.committed for one in looked for copy in one.copies]
    if marks.latest is not None:
        moments.append(marks.latest)
    return Held(states, max(moments, default=None), copies, marks, {one.target: one.events for one in looked})


def _look(
    repository: SystemRepository, source: str, target: str, tick: Callable[[], None], most_events: int
) -> _Looked:
    try:
        catalogue = repository.catalogue(target)
        try:
            events = tuple(read_marks(catalogue.target, repository.system, source, repository.trusted))
        except ManifestInvalid as error:
            return _Looked(target, unbelievable=f"on {target}, {error.what}")
        listings = (catalogue.recovery_points(source, deleted=True), catalogue.wal(source, deleted=True))
        tick()
        copies = [copy for listing in listings for copy in listing.copies]
        places = [(source, copy.manifest.recovery_point, target) for copy in copies if copy.manifest.kind != WAL]
        # A copy is not verified before it is committed: what was never verified must not make us read everything.
        since = min((copy.manifest.committed for copy in copies), default=None)
        results = last_verified(repository, target, places, since=since, most=most_events, tick=tick)
    except Cancelled:
        raise
    except LifeboatError as error:
        return _Looked(target, trouble=f"it could not be read: {error.what}")
    return _Looked(target, listings, results, events)


def _unbelievable(looked: _Looked, marks: Marks, roles: Mapping[str, Role]) -> str:
    if looked.unbelievable:
        return looked.unbelievable
    for listing in looked.listings:
        for bad in listing.unreadable:
            if not marks.quarantined(bad.folder.recovery_point, looked.target):
                return f"{bad.folder.recovery_point} on {looked.target} can't be believed: {bad.reason}"
    for copy in looked.copies:
        point = copy.manifest.recovery_point
        if copy.manifest.kind not in roles and not marks.quarantined(point, looked.target):
            return f"{point} on {looked.target} is of a kind that this Lifeboat does not know"
    return ""


def _state(
    looked: _Looked,
    copies: Mapping[tuple[str, str], tuple[Copy, ...]],
    marks: Marks,
    roles: Mapping[str, Role],
    unbelievable: str,
) -> TargetState:
    points = []
    for (target, point), parts in copies.items():
        if target != looked.target:
            continue
        # A WAL run that ended one timeline and began the next is a point on both: they stay or go together.
        newest = max(parts, key=lambda copy: copy.manifest.moment)
        found = looked.results.get((newest.manifest.source, point, target))
        deleted = [marks.deleted(point, target, part.sha256) for part in parts]
        points.append(
            replace(
                held_point(newest, roles.get(newest.manifest.kind, Role.BASE)),
                good=found is not None
                and found.good
                and found.manifest == newest.sha256
                and newest.manifest.state == "good",
                hold=marks.hold(point),
                deleted=None if None in deleted else max(mark.time for mark in deleted if mark is not None),
            )
        )
    return TargetState(looked.target, tuple(points), looked.trouble or unbelievable)


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
        manifest.stands_on,
    )
