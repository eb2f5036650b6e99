"""The step of a drill in which one source comes back: by what the scenario leaves, or from the recovery kit alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from lifeboat.errors import LifeboatError
from lifeboat.policy.drill_steps import drill_policy
from lifeboat.recovery.bringing_back import BringingBack, Means
from lifeboat.recovery.drill.clean_room import CleanRoom
from lifeboat.recovery.drill.leaving import insist_on_keys, left_by
from lifeboat.recovery.drill.recording import Begun, copied_later
from lifeboat.recovery.drill.recovering import SourceRecovery
from lifeboat.recovery.evidence import APPROVE, Proof
from lifeboat.recovery.wording import length_of
from lifeboat.repository.system import SystemRepository

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class SourceStep:
    """Brings sources back.

    Attributes:
        repository: the living system's.
        break_glass: files with RSA private keys.
        kit: a recovery kit, where there is one.
        given: what recoveries are done with; what it does not say, the policy does.
        tell: told what is being done, in a sentence.
        tick: called often; may raise to stop.
    """

    repository: SystemRepository
    break_glass: tuple[Path, ...]
    kit: Path | None
    given: Means
    tell: Callable[[str], None]
    tick: Callable[[], None]

    def recover(self, source: str, begun: Begun, reached: Sequence[str]) -> Proof | None:
        """Bring one back; ``None`` where every target answered and there is nothing of it.

        Args:
            reached: the targets whose journals say what came to them too late.

        Raises:
            KeyUnavailable, RestoreError: what the scenario leaves is not enough even to look.
            Cancelled: it was stopped; nothing is left.
        """
        means = self._means(begun)
        late = copied_later(self.repository, reached, begun.moments)
        before = {APPROVE: begun.approval.milliseconds} if begun.approval is not None else {}
        name = f"{self.repository.system}-drill"
        if begun.scenario == "airflow_lost":
            assert self.kit is not None
            insist_on_keys(self.break_glass)
            room = CleanRoom(
                self.kit, self.break_glass, self.repository.loaded, means, name, tell=self.tell, tick=self.tick
            )
            return room.recover(source, begun.targets, begun.moments, late, self.repository.outside, before)
        left = left_by(begun.scenario, self.repository, self.break_glass)
        # Without any key each try would fail by itself, and for the same reason.
        _ = left.opening
        bringing_back = BringingBack(left, means, name, self.tick)
        return SourceRecovery(
            left, bringing_back, begun.targets, begun.moments, late, tell=self.tell, tick=self.tick, before=before
        ).recover(source)

    def not_left(self, source: str, begun: Begun, error: LifeboatError) -> Proof:
        """The proof that what the scenario leaves is not enough even to look."""
        objectives = self.repository.policy.objectives
        return Proof(
            source=source, kind="", recovery_point="", target=", ".join(begun.targets), chosen="newest",
            error=error.what, remedy=error.remedy, rto_milliseconds=objectives.rto_of(source) // _MILLISECOND,
            rpo_milliseconds=objectives.rpo_of(source) // _MILLISECOND,
        )  # fmt: skip

    def _means(self, begun: Begun) -> Means:
        policy, tests = drill_policy(self.repository.policy), self.repository.policy.tests
        scratch = self.given.scratch or policy.scratch or (tests.scratch if tests is not None else None)
        return replace(
            self.given,
            scratch=scratch or Path(tempfile.gettempdir()),
            application={**(tests.application if tests is not None else {}), **policy.application},
            verify=policy.hooks.verify,
            heartbeat=policy.heartbeat,
            variables={
                "LIFEBOAT_DRILL": begun.drill,
                "LIFEBOAT_SCENARIO": begun.scenario,
                "LIFEBOAT_INCIDENT": begun.moments.incident.isoformat(),
            },
        )


def outcome(source: str, proof: Proof | None) -> tuple[bool, str]:
    """Whether a source came back as it should, and that in a sentence."""
    if proof is None:
        return False, f"There is nothing of {source} to bring back."
    if proof.error:
        return False, f"{proof.named} did not come back: {proof.error}"
    taken = f"{proof.named} came back in {length_of(proof.recovery_milliseconds)}"
    failed = [check.name for check in proof.checks if not check.passed]
    return proof.passed, taken + (f", and was not as it should be: {', '.join(failed)}" if failed else "")
