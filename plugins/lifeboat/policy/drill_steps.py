"""The eight steps of a full recovery, in their order, as the sources of a policy need them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from lifeboat.policy.built import sources_drilled
from lifeboat.policy.drills import DrillPolicy
from lifeboat.policy.hooks import HookPolicy
from lifeboat.policy.model import Policy

PROVISION, DNS, VERIFY, MONITOR = "provision", "dns", "verify", "monitor"
_KINDS = {"code": "code", "database": "postgres", "files": "files", "configuration": "configuration"}
STEPS = (PROVISION, *_KINDS, DNS, VERIFY, MONITOR)
"""All of them. Those between the first and the last three bring back the sources of one kind each."""


def drill_policy(policy: Policy) -> DrillPolicy:
    """What the policy says of drills, or what holds where it says nothing."""
    return policy.drills or DrillPolicy()


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
    def task(self) -> str:
        """What its task in Airflow is called: ``dns``, ``database``, ``files_uploads``."""
        return self.name if self.source in ("", self.name) else f"{self.name}_{self.source}"

    @property
    def recovers(self) -> bool:
        """Whether it is one of those that bring something back."""
        return self.name in _KINDS


def planned_steps(policy: Policy) -> list[PlannedStep]:
    """The steps of a drill: one for each source, and one for each kind that the system has no source of."""
    steps: list[PlannedStep] = []
    for name in STEPS:
        sources = [source for source in sources_drilled(policy) if policy.sources[source].kind == _KINDS.get(name, "")]
        steps += [PlannedStep(name, source) for source in sources] or [PlannedStep(name)]
    return steps


def hook_of(policy: Policy, step: PlannedStep) -> HookPolicy | None:
    """What a step calls, where the policy says so."""
    hooks = drill_policy(policy).hooks
    found: dict[str, HookPolicy | None] = {
        PROVISION: hooks.provision, DNS: hooks.dns, VERIFY: hooks.verify, MONITOR: hooks.monitor
    }  # fmt: skip
    return found.get(step.name)
