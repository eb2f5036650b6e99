"""How long a restore will take: as long as those before it, for as many bytes. A pure function of the evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from lifeboat.recovery.evidence import APPROVE, Proof, Record

MOST_LOOKED_AT = 5
"""The newest say most: the data, the targets and the machines were others before."""


@dataclass(frozen=True)
class Estimate:
    """A time that was measured, for another size.

    Attributes:
        seconds: how long it will take.
        restores: how many it is made from.
    """

    seconds: float
    restores: int


def estimate(records: Iterable[Record], source: str, target: str, size: int) -> Estimate | None:
    """The time for so many plain bytes, from the newest recoveries of a source; ``None`` where there was none.

    Those from the same target count alone where there is one: an off-site server is another matter than a disk. The
    time goes with the size; for far fewer bytes than before that is too little, since a part of it is always the same.

    Args:
        records: oldest first.
        size: plain bytes that will be fetched.
    """
    # A drill's time is a system's, with what was tried in vain and what was looked at.
    proofs = [
        proof
        for record in records
        if record.kind != "drill"
        for proof in record.proofs
        if proof.source == source and _measured(proof)
    ]
    near = [proof for proof in proofs if proof.target == target] or proofs
    taken = near[-MOST_LOOKED_AT:]
    if not taken:
        return None
    rates = [_worked(proof) / 1000 / proof.size for proof in taken]
    return Estimate(median(rates) * size, len(taken))


def _measured(proof: Proof) -> bool:
    return not proof.error and proof.size > 0 and _worked(proof) > 0


def _worked(proof: Proof) -> int:
    """Milliseconds without those that people took to say yes."""
    return proof.recovery_milliseconds - proof.milliseconds.get(APPROVE, 0)
