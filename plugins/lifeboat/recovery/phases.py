"""The phases of a recovery, in the order in which they follow each other."""

from __future__ import annotations

from lifeboat.recovery.evidence import Proof

_ORDER = (
    "approve", "open kit", "find", "failed tries", "fetch", "decrypt", "combine", "stage", "replay", "open", "check"
)  # fmt: skip


def phases_of(proof: Proof) -> tuple[tuple[str, int], ...]:
    """Their milliseconds, those of other kinds of records behind them: a record, whose form is canonical, has them by
    their letters."""
    order = {phase: number for number, phase in enumerate(_ORDER)}
    return tuple(sorted(proof.milliseconds.items(), key=lambda item: order.get(item[0], len(order))))
