"""How the links of a chain stand: what the primary target's journal says last of their verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lifeboat.postgres.parent_choice import Standing
from lifeboat.postgres.reach import Base
from lifeboat.repository.last_verified import last_verified
from lifeboat.repository.system import PRIMARY, SystemRepository

MOST_EVENTS = 20_000
"""So far back the journal is read for the verifications of a chain: about a week beside WAL every five minutes."""


def standing_of(
    repository: SystemRepository, source: str, bases: Mapping[str, Base], tick: Callable[[], None]
) -> dict[str, Standing]:
    """The standing of each base that is known of; of the others nothing is.

    Args:
        bases: by their ids; at least one.
    """
    results = last_verified(
        repository,
        PRIMARY,
        [(source, name, PRIMARY) for name in bases],
        since=min(base.manifest.committed for base in bases.values()),
        most=MOST_EVENTS,
        tick=tick,
    )
    found: dict[str, Standing] = {}
    for (_, name, _), result in results.items():
        if not result.good:
            found[name] = "failed"
        elif result.manifest == bases[name].copy.sha256:
            found[name] = "verified"
    return found
