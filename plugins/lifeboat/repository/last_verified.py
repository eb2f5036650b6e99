"""When copies were last verified, and with what result: by a target's journal, read from its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.repository.event_reading import EventObjects, journal_days
from lifeboat.repository.journal import Event, read_event
from lifeboat.repository.layout import journal_folder
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import ObjectInfo

MOST_EVENTS = 5000
"""So many events of one target are read at most, unless told otherwise: WAL runs alone write hundreds a day."""
AT_ONCE = 16
PIECE = 16 * AT_ONCE

Place = tuple[str, str, str]
"""Source, recovery point, target."""


@dataclass(frozen=True)
class LastVerified:
    """The newest result.

    Attributes:
        good: whether the copy was found good.
        method: ``read``, ``store`` or ``deep``; empty for a copy that was not.
        manifest: SHA-256 of the manifest that was verified; empty for a copy that was not good.
    """

    time: datetime
    good: bool
    method: str
    manifest: str = ""


def last_verified(
    repository: SystemRepository,
    target: str,
    wanted: Iterable[Place],
    *,
    since: datetime | None = None,
    most: int = MOST_EVENTS,
    tick: Callable[[], None] = lambda: None,
) -> dict[Place, LastVerified]:
    """The newest result for each copy that is asked about, as far as one target's journal says so.

    Days are read from the newest on, until everything is known or ``most`` events were read. Events that can't be
    believed are passed over here; ``lifeboat journal verify`` names them.

    Args:
        since: nothing is known from before: days that ended earlier are not read.
        tick: called between reads; may raise to stop.

    Raises:
        TargetError: the journal can't be listed.
    """
    missing = set(wanted)
    found: dict[Place, LastVerified] = {}
    read = 0
    store = repository.target(target)
    objects = EventObjects(store, repository.system)
    oldest = journal_folder(repository.system, since.astimezone(UTC)) if since is not None else ""
    for day in journal_days(store, repository.system, tick):
        if not missing or read >= most or day < oldest:
            break
        listed = sorted(store.list(day), key=lambda info: info.key, reverse=True)[: most - read]
        read += len(listed)
        for first in range(0, len(listed), PIECE):
            if not missing:
                break
            for event in _events(repository, objects, listed[first : first + PIECE], tick):
                place = (event.source or "", event.recovery_point or "", event.target or "")
                if place in missing and event.kind in ("verified", "verification_failed"):
                    missing.discard(place)
                    found[place] = _result(event)
    return found


def _result(event: Event) -> LastVerified:
    good, told = event.kind == "verified", event.details
    method, manifest = (str(told.get(name, "")) if good else "" for name in ("method", "manifest"))
    return LastVerified(event.time, good, method, manifest)


def _events(
    repository: SystemRepository, objects: EventObjects, listed: Iterable[ObjectInfo], tick: Callable[[], None]
) -> Iterable[Event]:
    def read(info: ObjectInfo) -> Event | None:
        tick()
        try:
            return read_event(objects, info, repository.trusted)[0]
        except Cancelled:
            raise
        except LifeboatError:
            return None

    return (event for event in side_by_side(read, listed, at_once=AT_ONCE, name="read events") if event is not None)
