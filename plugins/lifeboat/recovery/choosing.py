"""What a restore test brings back: of each source the newest recovery point and one at random, from targets in turn.
Pure functions of what there is and of what was tested before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from lifeboat.postgres.exports.records import EXPORT
from lifeboat.recovery.evidence import Record

Named = TypeVar("Named", bound=str)


def in_turn(names: Sequence[Named], used: Sequence[str]) -> list[Named]:
    """Targets or scenarios, the one whose turn was longest ago first; those that never had one before all others.

    Args:
        names: in the policy's order.
        used: those that had theirs, oldest first.
    """
    last = {name: number for number, name in enumerate(used)}
    return sorted(names, key=lambda name: last.get(name, -1))


def targets_used(records: Iterable[Record], source: str, *, exports: bool = False) -> list[str]:
    """The targets that restore tests read a source's newest recovery point from, or its newest export, oldest first."""
    return [
        proof.target
        for record in records
        if record.kind == "restore_test"
        for proof in record.proofs
        # One that could not be read had its turn, and was not tested.
        if proof.source == source
        and proof.chosen == "newest"
        and proof.recovery_point
        and (proof.kind == EXPORT) is exports
    ]


def at_random(points: Sequence[str], newest: str, seed: int, source: str) -> str | None:
    """One of the recovery points besides the newest; ``None`` where there is no other.

    The same points, seed and source give the same one again, whatever other sources there are.
    """
    others = sorted(set(points) - {newest})
    if not others:
        return None
    # By a digest, not by Python's generator: the same draw can be made again with any version of anything.
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{source}".encode()).digest(), "big")
    return others[drawn % len(others)]
