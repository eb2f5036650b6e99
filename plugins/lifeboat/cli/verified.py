"""When copies were last verified, by the journal, read from its end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lifeboat.cli.cancellation import STOP
from lifeboat.errors import Cancelled, LifeboatError

if TYPE_CHECKING:
    from lifeboat.repository.journal import Event
    from lifeboat.repository.system import SystemRepository
    from lifeboat.targets.target import Target

MOST_EVENTS = 5000
"""So many events of one target are read at most: WAL runs alone write hundreds a day."""
AT_ONCE = 16

Place = tuple[str, str, str]
"""Source, recovery point, target."""


@dataclass(frozen=True)
class LastVerified:
    """The newest result.

    Attributes:
        good: whether the copy was found good.
        method: ``read``, ``store`` or ``deep``; empty for a copy that was not.
    """

    time: datetime
    good: bool
    method: str


def last_verified(repository: SystemRepository, target: str, wanted: Iterable[Place]) -> dict[Place, LastVerified]:
    """The newest result for each copy that is asked about, as far as one target's journal says so.

    Days are read from the newest on, until everything is known or ``MOST_EVENTS`` were read. Events that can't be
    believed are passed over here; ``lifeboat journal verify`` names them.

    Raises:
        TargetError: the journal can't be listed.
    """
    missing = set(wanted)
    found: dict[Place, LastVerified] = {}
    read = 0
    store = repository.target(target)
    for day in _days(store, repository.system):
        if not missing or read >= MOST_EVENTS:
            break
        keys = sorted((info.key for info in store.list(day)), reverse=True)[: MOST_EVENTS - read]
        read += len(keys)
        for event in _events(repository, store, keys):
            place = (event.source or "", event.recovery_point or "", event.target or "")
            if place in missing and event.kind in ("verified", "verification_failed"):
                missing.discard(place)
                good = event.kind == "verified"
                found[place] = LastVerified(event.time, good, str(event.details.get("method", "")) if good else "")
    return found


def _days(store: Target, system: str) -> Iterable[str]:
    """The journal's folders of days, newest first."""
    from lifeboat.repository.layout import journal_folder

    root = journal_folder(system)
    for year in reversed(store.list_folders(root)):
        for month in reversed(store.list_folders(f"{root}{year}/")):
            for day in reversed(store.list_folders(f"{root}{year}/{month}/")):
                STOP.check()
                yield f"{root}{year}/{month}/{day}/"


def _events(repository: SystemRepository, store: Target, keys: Iterable[str]) -> Iterable[Event]:
    from lifeboat.repository.journal import parse_event
    from lifeboat.repository.side_by_side import side_by_side

    def read(key: str) -> Event | None:
        STOP.check()
        try:
            return parse_event(store.read(key), key, repository.trusted)
        except Cancelled:
            raise
        except LifeboatError:
            return None

    return (event for event in side_by_side(read, keys, at_once=AT_ONCE, name="read events") if event is not None)
