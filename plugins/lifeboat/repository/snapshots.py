"""Snapshots: the recovery points of sources that are no databases. Each comes back by itself, and stands for the moment
at which it was begun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from lifeboat.errors import MomentUnreachable, RecoveryPointMissing
from lifeboat.repository.catalogue import Catalogue, Copy

FULL, INCREMENTAL = "full", "incremental"
"""The kinds of recovery points that are snapshots."""


def snapshots_of(catalogue: Catalogue, source: str) -> list[Copy]:
    """The snapshots on a target, oldest first."""
    return in_order(catalogue.recovery_points(source).copies)


def in_order(copies: Iterable[Copy]) -> list[Copy]:
    """The snapshots among recovery points, oldest first."""
    return sorted(
        (copy for copy in copies if copy.manifest.kind in (FULL, INCREMENTAL)),
        key=lambda copy: (copy.manifest.moment, copy.manifest.recovery_point),
    )


def choose_snapshot(snapshots: Sequence[Copy], *, at: datetime | None, recovery_point: str | None, where: str) -> Copy:
    """The snapshot of that id, the newest not later than a moment, or the newest.

    Args:
        where: which target they are on, for errors.

    Raises:
        RecoveryPointMissing: there is none of that id.
        MomentUnreachable: none is as old as that.
    """
    if recovery_point is not None:
        for copy in snapshots:
            if copy.manifest.recovery_point == recovery_point:
                return copy
        raise RecoveryPointMissing(f"There is no snapshot {recovery_point} on {where}.", "`lifeboat list` shows them.")
    if not snapshots:
        raise MomentUnreachable(f"There is no snapshot on {where}.", "Name another target, or take one.")
    fitting = [copy for copy in snapshots if at is None or copy.manifest.moment <= at]
    if not fitting:
        oldest = snapshots[0].manifest
        raise MomentUnreachable(
            f"No snapshot on {where} is as old as that.",
            f"The oldest is {oldest.recovery_point}, of {oldest.moment:%Y-%m-%d %H:%M:%S} UTC.",
        )
    return fitting[-1]
