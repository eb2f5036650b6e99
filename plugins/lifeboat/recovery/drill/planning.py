"""The eight steps of a full recovery, in their order, as the sources of a policy need them. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lifeboat.policy.built import sources_tested
from lifeboat.policy.hooks import HookPolicy
from lifeboat.policy.model import Policy
from lifeboat.recovery.drill.scenarios import drill_policy
from lifeboat.recovery.evidence import Step

PROVISION, DNS, VERIFY, MONITOR = "provision", "dns", "verify", "monitor"
_KINDS = {"code": "code", "database": "postgres", "files": "files", "configuration": "configuration"}
STEPS = (PROVISION, *_KINDS, DNS, VERIFY, MONITOR)
"""All of them. Those between the first and the last three bring back the sources of one kind each."""
LOST = "It left no result: its task was killed, or was never begun."


@dataclass(frozen=True)
class PlannedStep:
    """One step that is to be made.

    Attributes:
        name: which of the eight.
        source: what comes back in it; empty: nothing does.
    """

    name: str
    source: str = ""

    @property
    def id(self) -> str:
        """By which it is known again: ``dns``, ``files.uploads``."""
        return f"{self.name}.{self.source}" if self.source else self.name

    @property
    def recovers(self) -> bool:
        """Whether it is one of those that bring something back."""
        return self.name in _KINDS


def planned_steps(policy: Policy) -> list[PlannedStep]:
    """The steps of a drill: one for each source, and one for each kind that the system has no source of."""
    steps: list[PlannedStep] = []
    for name in STEPS:
        sources = [source for source in sources_tested(policy) if policy.sources[source].kind == _KINDS.get(name, "")]
        steps += [PlannedStep(name, source) for source in sources] or [PlannedStep(name)]
    return steps


def hook_of(policy: Policy, step: PlannedStep) -> HookPolicy | None:
    """What a step calls, where the policy says so."""
    hooks = drill_policy(policy).hooks
    found: dict[str, HookPolicy | None] = {
        PROVISION: hooks.provision, DNS: hooks.dns, VERIFY: hooks.verify, MONITOR: hooks.monitor
    }  # fmt: skip
    return found.get(step.name)


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
