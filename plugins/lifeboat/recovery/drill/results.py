"""What the steps of a drill have left, brought together. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from lifeboat.policy.drill_steps import PlannedStep
from lifeboat.recovery.evidence import Step

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
