"""How much recovery points take today: what the newest of each kind take that a target holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.retention.points import Role

FEW = 5
"""So many of the newest recovery points of a kind are looked at."""
LAST_DAYS = timedelta(days=7)
"""So much of the newest WAL is looked at."""
LEAST_WAL = timedelta(days=1)
"""From less WAL nobody knows what a day makes: nights differ from days."""


@dataclass(frozen=True)
class Measured:
    """The size of a kind of recovery point.

    Attributes:
        kind: which; of WAL the size is that of a day.
        stored_size: bytes on the target.
        count: of how many recovery points this is the mean.
        target: where they lie.
    """

    kind: str
    stored_size: int
    count: int
    target: str


def measure(
    catalogue: Catalogue, source: str, kinds: Sequence[str], roles: Mapping[str, Role]
) -> tuple[list[Measured], list[str]]:
    """Measure kinds on one target, as far as they are there.

    Returns:
        What was measured, and in sentences why something that is there is no measure.

    Raises:
        TargetError: it can't be read.
    """
    found: list[Measured] = []
    why_not: list[str] = []
    target = catalogue.target.name
    single = [kind for kind in kinds if roles[kind] is not Role.LOG]
    if single:
        listing = catalogue.recovery_points(source, deleted=True)
        for kind in single:
            newest = [copy for copy in listing.of_kind(kind) if _counts(copy)][-FEW:]
            if newest:
                mean = sum(copy.manifest.stored_size for copy in newest) // len(newest)
                found.append(Measured(kind, mean, len(newest), target))
    for kind in kinds:
        if roles[kind] is Role.LOG:
            copies = catalogue.wal(source, deleted=True).copies
            measured = _of_a_day(kind, copies, target)
            if measured is not None:
                found.append(measured)
            elif copies:
                hours = _span(copies) / timedelta(hours=1)
                why_not.append(
                    f"On {target} is {hours:.1f} h of {kind}, and what a day makes is measured on a day at least."
                )
    return found, why_not


def _counts(copy: Copy) -> bool:
    """An export of single tables says nothing of a whole one, and what is damaged may be short."""
    return copy.manifest.state == "good" and bool(copy.manifest.tiers)


def _of_a_day(kind: str, copies: Sequence[Copy], target: str) -> Measured | None:
    """The mean of the last days."""
    newest = max((copy.manifest.moment for copy in copies), default=None)
    last = [copy for copy in copies if newest is not None and copy.manifest.moment >= newest - LAST_DAYS]
    if _span(last) < LEAST_WAL:
        return None
    # The first one leads to where the time that is measured begins.
    _, *rest = sorted(last, key=_moment)
    size = sum(copy.manifest.stored_size for copy in rest)
    return Measured(kind, round(size * (timedelta(days=1) / _span(last))), len(rest), target)


def _span(copies: Sequence[Copy]) -> timedelta:
    """From where the oldest ends to where the newest ends."""
    moments = [_moment(copy) for copy in copies]
    return max(moments) - min(moments) if moments else timedelta()


def _moment(copy: Copy) -> datetime:
    return copy.manifest.moment
