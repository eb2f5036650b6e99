"""Which directories are scratch places: what comes back there touches nothing that anybody works with."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lifeboat.policy.model import Policy

_FOR_LONGER = Path("/var/tmp")  # noqa: S108 - a place that is compared, not one that is written to


def scratch_places(policy: Policy) -> list[Path]:
    """Those that the policy names, and the machine's directories for temporary files."""
    proofs = [part.scratch for part in (policy.tests, policy.drills) if part is not None and part.scratch is not None]
    return [*policy.restore.scratch, *proofs, Path(tempfile.gettempdir()), _FOR_LONGER]


def below_scratch(place: Path, policy: Policy) -> bool:
    """Whether a place lies below one of them, wherever links lead."""
    real = place.expanduser().resolve()
    return any(real.is_relative_to(root) and real != root for root in (one.resolve() for one in scratch_places(policy)))
