"""How long a restore took before, for its plan."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from lifeboat.errors import Cancelled, LifeboatError

if TYPE_CHECKING:
    from lifeboat.recovery.estimating import Estimate
    from lifeboat.repository.system import SystemRepository

_LOOKED_BACK = timedelta(days=400)


def estimated(repository: SystemRepository, source: str, target: str, size: int) -> Estimate | None:
    """What restores and restore tests of the last year say, as the target that is read has them.

    A plan is made all the same where they can't be read.
    """
    from lifeboat.recovery.estimating import estimate
    from lifeboat.recovery.evidence import Record
    from lifeboat.recovery.keeping import read_evidence

    now = repository.outside.clock()
    try:
        found = read_evidence(
            repository.target(target), repository.system, repository.trusted, since=now - _LOOKED_BACK, until=now
        )
        return estimate((one for one in found if isinstance(one, Record)), source, target, size)
    except Cancelled:
        raise
    except LifeboatError:
        return None


def in_words(estimate: Estimate) -> str:
    """What it is made from."""
    return "as the restore before" if estimate.restores == 1 else f"as {estimate.restores} restores before"
