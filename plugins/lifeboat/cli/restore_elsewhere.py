"""Damage that a restore meets on one target: which other targets hold the same, and the option that reads there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import moment
from lifeboat.cli.outside import targets_of
from lifeboat.errors import Cancelled, LifeboatError, ObjectDamaged, ObjectMissing, VerificationFailed

if TYPE_CHECKING:
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.last_verified import LastVerified
    from lifeboat.repository.system import SystemRepository


@contextmanager
def naming_other_copies(repository: SystemRepository, needed: Sequence[Copy]) -> Iterator[None]:
    """Add to an error about a damaged copy what the other targets hold of all that the restore needs.

    Args:
        needed: the recovery points that are read, all of one target: the base with its chain, runs of WAL.

    Raises:
        ObjectDamaged, ObjectMissing, VerificationFailed: as they came, with more to do; all other errors pass.
    """
    try:
        yield
    except (ObjectDamaged, ObjectMissing, VerificationFailed) as error:
        told = " ".join(_others(repository, needed))
        raise type(error)(error.what, f"{told} {error.remedy}".strip()) from error


def _others(repository: SystemRepository, needed: Sequence[Copy]) -> Iterator[str]:
    """A sentence for each other target, those first that hold everything."""
    used = needed[0].target
    whole: list[str] = []
    rest: list[str] = []
    for name in targets_of(repository.loaded, None):
        if name == used:
            continue
        try:
            STOP.check()
            lacking = _lacking(repository, name, needed)
            if not lacking:
                whole.append(f"Say --target {name}: it holds the same, {_verified(repository, name, needed)}.")
            else:
                more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
                rest.append(f"{name} lacks {lacking[0]}{more}.")
        except Cancelled:
            raise
        except LifeboatError as failure:
            rest.append(f"What {name} holds is not known: {failure.what}")
    if not whole:
        yield "No other target is known to hold all of it."
    yield from (*whole, *rest)


def _lacking(repository: SystemRepository, name: str, needed: Sequence[Copy]) -> list[str]:
    """The recovery points that a target does not have as they are here."""
    catalogue = repository.catalogue(name)
    source = needed[0].manifest.source
    runs = {copy.manifest.folder.path for copy in needed if copy.manifest.timeline is not None}
    # One listing for thousands of small runs; what they hold is proven while they are read.
    there = {folder.path for folder in catalogue.committed(source, "wal")} if runs else set()
    lacking: list[str] = []
    for copy in needed:
        folder = copy.manifest.folder
        if folder.path in runs:
            same = folder.path in there
        else:
            same = catalogue.target.stat(folder.manifest) is not None and catalogue.read(folder).sha256 == copy.sha256
        if not same:
            lacking.append(copy.manifest.recovery_point)
    return lacking


def _verified(repository: SystemRepository, name: str, needed: Sequence[Copy]) -> str:
    """What that target's journal says of its copies, all taken together."""
    from lifeboat.repository.last_verified import last_verified

    places = {(copy.manifest.source, copy.manifest.recovery_point, name) for copy in needed}
    found: dict[tuple[str, str, str], LastVerified] = last_verified(repository, name, places, tick=STOP.check)
    bad = sorted(point for (_, point, _), result in found.items() if not result.good)
    if bad:
        return f"but {bad[0]} was found not good there"
    if len(found) < len(places):
        return f"and {len(places) - len(found)} of {len(places)} were not verified there yet"
    return f"found good there, last at {moment(min(result.time for result in found.values()))}"
