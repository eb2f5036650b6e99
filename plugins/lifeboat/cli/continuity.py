"""Is everything there that should be? Rows without holes, the same on every target, and what the journal has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lifeboat.cli.overview import Entry, Overview, findings_of

if TYPE_CHECKING:
    from lifeboat.cli.holdings import Holding
    from lifeboat.repository.journal import Event
    from lifeboat.repository.system import SystemRepository

MOST_NAMED = 10


@dataclass(frozen=True)
class Hole:
    """Something that is not as it should be.

    Attributes:
        severe: whether a verification that finds it has failed; else it is worth knowing.
    """

    source: str
    target: str
    what: str
    severe: bool = True


def compare_targets(repository: SystemRepository, view: Overview) -> list[Hole]:
    """What one target has and another lacks, or has otherwise.

    Where a target keeps copies for a shorter time, older ones are not missed there; nor is what retention deleted.
    """
    holes = [Hole(view.source, holding.target, what) for holding in view.holdings for what in findings_of(holding)]
    holes += [Hole(view.source, holding.target, what, False) for holding in view.holdings for what in holding.trouble]
    entries = (*view.entries, *view.wal_entries)
    holes += [
        Hole(
            view.source,
            ", ".join(entry.copies),
            f"{entry.manifest.recovery_point} is not the same on these targets: one of them was exchanged, or two runs "
            "made it.",
        )
        for entry in entries
        if entry.differs
    ]
    for holding in view.holdings:
        missing = _missing(repository, entries, holding)
        if missing:
            required = repository.policy.targets[holding.target].required
            holes.append(Hole(view.source, holding.target, _words(missing), required))
    return holes


def _missing(repository: SystemRepository, entries: Iterable[Entry], holding: Holding) -> list[Entry]:
    from lifeboat.repository.marking import read_removed

    target = holding.target
    retention = repository.policy.targets[target].retention
    since: datetime | None = None
    if retention is not None:
        since = retention.before(repository.outside.clock(), repository.policy.zone)
    missing = [
        entry for entry in entries if target not in entry.copies and (since is None or entry.manifest.placed >= since)
    ]
    if not missing:
        return []
    store, system = repository.target(target), repository.system
    gone = set(read_removed(store, system, holding.source, repository.trusted))
    gone |= {copy.manifest.recovery_point for copy in (*holding.points.deleted, *holding.wal.deleted)}
    return [entry for entry in missing if entry.manifest.recovery_point not in gone]


def _words(missing: Sequence[Entry]) -> str:
    named = ", ".join(
        f"{entry.manifest.recovery_point} (on {', '.join(entry.copies)})" for entry in missing[-MOST_NAMED:]
    )
    more = f" and {len(missing) - MOST_NAMED} older ones" if len(missing) > MOST_NAMED else ""
    return f"{len(missing)} that other targets have are missing here: {named}{more}."


def compare_with_journal(view: Overview, events: Sequence[Event], target: str) -> list[Hole]:
    """What the journal says was committed on a target, and is gone or another one."""
    from lifeboat.repository.catalogue import Listing
    from lifeboat.repository.comparison import against_journal

    holes = []
    for holding in view.holdings:
        if holding.target == target:
            copies = (*holding.copies, *holding.points.deleted, *holding.wal.deleted)
            listing = Listing(copies, (*holding.points.unreadable, *holding.wal.unreadable))
            found = against_journal(listing, events, source=view.source, target=target)
            holes += [Hole(view.source, target, what) for what in found]
    return holes
