"""What people read of a drill besides what they read of every record: the scenario, its steps, what was lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from lifeboat.recovery.drill.scenarios import TITLES
from lifeboat.recovery.evidence import Drill, Proof, Step
from lifeboat.recovery.wording import length_of


@dataclass(frozen=True)
class DrillReport:
    """A drill's part of a report; every text in it is ready to be read.

    Attributes:
        drill: of the record.
        at: a moment on the policy's clock.
    """

    drill: Drill
    at: Callable[[datetime | None], str]

    @property
    def scenario(self) -> str:
        """What was taken for lost."""
        return TITLES[self.drill.scenario]

    @property
    def about(self) -> tuple[tuple[str, str], ...]:
        """What was taken for lost, when, what was left, and how soon the system was back."""
        drill = self.drill
        known = "" if drill.known_until == drill.incident else f"; found {self.at(drill.known_until)}"
        within = "within" if drill.in_time else "OVER"
        return (
            ("Scenario", self.scenario),
            ("Incident", f"{self.at(drill.incident)}{known}"),
            ("Left to be read", ", ".join(drill.targets)),
            (
                "Measured RTO",
                f"{length_of(drill.recovery_milliseconds)} of {length_of(drill.rto_milliseconds)}: {within}",
            ),
        )

    @property
    def steps(self) -> tuple[Step, ...]:
        """In their order."""
        return self.drill.steps

    def outcome(self, step: Step) -> str:
        """How a step ended."""
        if not step.passed:
            return "FAILED"
        return "passed" if step.practised else "not practised"

    def lasted(self, step: Step) -> str:
        """How long a step took."""
        if step.begun is None or step.ended is None:
            return "—"
        return length_of((step.ended - step.begun) // timedelta(milliseconds=1))

    def lost(self, proof: Proof) -> str:
        """The measured recovery point beside its objective."""
        if proof.lost_milliseconds is None:
            return "—"
        within = "within" if proof.lost_milliseconds <= proof.rpo_milliseconds else "OVER"
        return f"{length_of(proof.lost_milliseconds)} of {length_of(proof.rpo_milliseconds)}: {within}"
