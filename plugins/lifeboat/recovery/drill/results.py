"""What the steps of a drill have left, brought together. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from lifeboat.policy.drill_steps import VERIFY, PlannedStep
from lifeboat.recovery.evidence import Proof, Step

LOST = "It left no result: its task was killed, or was never begun."


def together(planned: Sequence[PlannedStep], results: Mapping[str, Step]) -> tuple[Step, ...]:
    """The results of all steps in their order; one that left none has failed.

    Args:
        results: by the steps' ids.
    """
    return tuple(
        results.get(step.id)
        or Step(
            name=step.name, source=step.source, passed=False, what=LOST,
            remedy="Look at its log and at its worker, and make the drill again.",
        )
        for step in planned
    )  # fmt: skip


def recovery_milliseconds(begun: datetime, steps: Sequence[Step]) -> int:
    """From the drill's beginning to the end of its last step, with every wait between: the measured recovery time."""
    last = max((step.ended for step in steps if step.ended is not None), default=begun)
    return max(0, (last - begun) // timedelta(milliseconds=1))


def verified(sources: Sequence[str], proofs: Iterable[Proof]) -> tuple[bool, str]:
    """What the hook `verify` found in the copies that came back, while each was there.

    Args:
        sources: those that are brought back; one of which there is nothing to verify has not been verified.
        proofs: theirs, as far as there are some.
    """
    found = {proof.source: check for proof in proofs for check in proof.checks if check.name == VERIFY}
    told = [
        f"{source}: {found[source].what}" if source in found else f"{source}: it was not there to be verified"
        for source in sources
    ]
    return all(source in found and found[source].passed for source in sources), "; ".join(told)
