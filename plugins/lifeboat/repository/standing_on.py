"""What a snapshot may stand on: earlier ones that were verified with all that they need, and are still there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lifeboat.errors import RepositoryError
from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.last_verified import last_verified
from lifeboat.repository.snapshots import in_order
from lifeboat.repository.system import PRIMARY, SystemRepository

CANDIDATES = 12
"""So many of the newest snapshots are asked for: two days of incrementals every four hours."""


def verified_snapshots(
    repository: SystemRepository, source: str, shown: Iterable[Copy], tick: Callable[[], None]
) -> Iterator[Copy]:
    """The snapshots on the primary target that were verified there with everything that they refer to, newest first.

    What was never read back must not be what all later snapshots stand on.

    Args:
        shown: the recovery points on the primary target that readers see.
    """
    there = {copy.manifest.recovery_point: copy for copy in shown}
    candidates = in_order(there.values())[-CANDIDATES:]
    asked = {name for copy in candidates for name in (copy.manifest.recovery_point, *copy.manifest.needs)}
    good = _good(repository, source, (there[name] for name in asked if name in there), tick)
    return (copy for copy in reversed(candidates) if {copy.manifest.recovery_point, *copy.manifest.needs} <= good)


def _good(repository: SystemRepository, source: str, copies: Iterable[Copy], tick: Callable[[], None]) -> set[str]:
    listed = {copy.manifest.recovery_point: copy for copy in copies}
    if not listed:
        return set()
    since = min(copy.manifest.committed for copy in listed.values())
    places = [(source, name, PRIMARY) for name in listed]
    results = last_verified(repository, PRIMARY, places, since=since, most=100_000, tick=tick)
    return {name for (_, name, _), result in results.items() if result.good and result.manifest == listed[name].sha256}


def insist_on_needed(catalogue: Catalogue, source: str, needs: set[str]) -> None:
    """Look once more whether all that a snapshot refers to is there: a cleanup may have run since it was begun, and
    could not know of it.

    Raises:
        RepositoryError: some of it is gone, or deleted.
    """
    shown = {copy.manifest.recovery_point for copy in catalogue.recovery_points(source).copies} if needs else set()
    if missing := sorted(needs - shown):
        raise RepositoryError(
            f"What the snapshot refers to is not on {catalogue.target.name} any more: {', '.join(missing[:3])}.",
            "Nothing was committed. Take it again: the next one refers to what is there.",
        )
