"""A drill: begun, carried out step by step, and recorded. The DAG's tasks and the command line do it by the same steps.

A step that fails does not keep the later ones from being tried: what a bad day needs to know is all that is wrong.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lifeboat import __version__
from lifeboat.errors import Cancelled, LifeboatError, RestoreError, TargetUnavailable
from lifeboat.policy.built import built_targets, sources_drilled
from lifeboat.policy.drill_steps import VERIFY, PlannedStep, drill_policy, hook_of, planned_steps
from lifeboat.policy.drills import Scenario
from lifeboat.recovery.bringing_back import Means
from lifeboat.recovery.drill.approving import DrillApproval
from lifeboat.recovery.drill.recording import (
    Begun,
    approval_of,
    begun_drill,
    journal_run,
    results_of,
    step_details,
)
from lifeboat.recovery.drill.results import recovery_milliseconds, together, verified
from lifeboat.recovery.drill.scenarios import choose_scenario, moments_of, targets_left
from lifeboat.recovery.drill.source_step import SourceStep, outcome
from lifeboat.recovery.evidence import Drill, Proof, Record, Step
from lifeboat.recovery.hooks import call_hook
from lifeboat.recovery.keeping import keep, read_evidence, signed
from lifeboat.repository.journal import Journal
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository

LOOKED_BACK = timedelta(days=800)
"""How far back it is looked which scenarios were practised: every one of them twice, a quarter each."""
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Wish:
    """How a drill is made.

    Attributes:
        scenario: what is taken for lost; ``None``: the scenario that was practised longest ago.
        incident: when the loss happened; ``None``: when the drill begins.
        reason: what it is for, in words.
        means: what recoveries are done with; a scratch directory in it goes before the policy's.
        break_glass: files with RSA private keys; empty: the policy's place for one.
        kit: a recovery kit; ``None``: the policy's.
        approved: whether it begins only when somebody has agreed.
    """

    scenario: Scenario | None = None
    incident: datetime | None = None
    reason: str = ""
    means: Means = field(default_factory=Means)
    break_glass: tuple[Path, ...] = ()
    kit: Path | None = None
    approved: bool = False


class Practice:
    """One drill of one system, as one process sees it: all of it, or one of its steps.

    Args:
        drill: by which its steps find each other.
        part: what of the drill this process does: lower-case letters, digits and hyphens.
        run, actor: who does it.
        tell: told what is being done, in a sentence.
        tick: called often; may raise to stop.
    """

    def __init__(
        self,
        repository: SystemRepository,
        wish: Wish,
        drill: str,
        run: Run,
        actor: str,
        *,
        part: str = "all",
        tell: Callable[[str], None] = lambda _sentence: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._repository = repository
        self._policy = repository.policy
        self._wish = wish
        self._drill = drill
        self._run = run
        self._actor = actor
        self._tell = tell
        self._tick = tick
        self._clock = repository.outside.clock
        policy = drill_policy(self._policy)
        self._break_glass = wish.break_glass or ((policy.break_glass,) if policy.break_glass is not None else ())
        self._kit = wish.kit or policy.kit
        self._sources = SourceStep(repository, self._break_glass, self._kit, wish.means, tell, tick)
        self._journal_run = journal_run(drill, part)
        self._reached: list[str] = []
        self._written: Journal | None = None

    def carry_out(self) -> Record:
        """Do all of it; raises as the single steps."""
        self.begin()
        for step in planned_steps(self._policy):
            self.step(step)
        return self.conclude()

    def agree(self, asked: datetime, approver: str) -> None:
        """Write down that somebody agreed to the drill, before it begins.

        Args:
            asked: when it was asked for.

        Raises:
            TargetUnavailable: no target can be reached.
            KeyUnavailable: nobody would believe it.
        """
        now = self._clock()
        self._repository.signer.insist_on_validity(now)
        approval = DrillApproval(asked, now, approver)
        self._journal().write("drill_approved", drill=self._drill, **approval.details())

    def begin(self) -> Begun:
        """Choose the scenario, state the incident, and write both down before anything is done.

        Raises:
            RestoreError: the scenario can't be practised, or there is nothing that could come back, or nobody agreed.
            TargetUnavailable: no target can be reached.
            KeyUnavailable: nobody would believe the record.
        """
        now = self._clock()
        self._repository.signer.insist_on_validity(now)
        if not sources_drilled(self._policy):
            raise RestoreError(
                f"Of {self._policy.system}, no source can be brought back by a drill.",
                "Exports come back by `lifeboat restore`.",
            )
        approval = approval_of(self._repository, self._targets(), self._drill) if self._wish.approved else None
        if self._wish.approved and approval is None:
            raise RestoreError(f"Nobody agreed to this drill of {self._policy.system}.", "Trigger another one.")
        glass, kit = bool(self._break_glass), self._kit is not None
        scenario = choose_scenario(self._wish.scenario, self._policy, self._earlier(now), glass=glass, kit=kit)
        incident = self._wish.incident
        if incident is None and approval is not None and scenario != "late_corruption":
            # What is lost while people are asked is lost by the incident that they are asked about.
            incident = approval.asked
        moments = moments_of(scenario, incident, now, drill_policy(self._policy))
        left = targets_left(scenario, list(built_targets(self._policy)))
        begun = Begun(self._drill, scenario, moments, tuple(left), now, self._wish.reason, approval)
        self._tell(f"The drill is {scenario}, the incident at {moments.incident.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        self._journal().write("drill_begun", **begun.details())
        return begun

    def step(self, planned: PlannedStep) -> tuple[Step, Proof | None]:
        """Make one step, and write down how it ended.

        Raises:
            RestoreError: the drill was never begun.
            TargetUnavailable: no target can be reached to write that down.
            Cancelled: it was stopped; nothing is left.
        """
        begun = self._begun()
        since = self._clock()
        self._tell(f"Step {planned.id}")
        step, proof = self._made(planned, begun, since)
        self._journal().write(
            "drill_step",
            source=planned.source or None,
            recovery_point=(proof.recovery_point or None) if proof is not None else None,
            target=proof.target if proof is not None and proof.recovery_point else None,
            **step_details(self._drill, planned.id, step, proof),
        )
        return step, proof

    def conclude(self) -> Record:
        """Bring together what the steps have left, and keep the signed record, which may say that the drill failed.

        Raises:
            RestoreError: the drill was never begun.
            TargetError: no target took the record.
        """
        begun = self._begun()
        results = results_of(self._repository, self._targets(), begun)
        planned = planned_steps(self._policy)
        steps = together(planned, results.steps)
        taken = recovery_milliseconds(begun.since, steps)
        drill = Drill(
            scenario=begun.scenario,
            incident=begun.moments.incident,
            known_until=begun.moments.known_until,
            targets=begun.targets,
            steps=steps,
            rto_milliseconds=self._policy.objectives.rto.fixed // _MILLISECOND,
            recovery_milliseconds=taken,
        )
        proofs = tuple(results.proofs[step.id] for step in planned if step.id in results.proofs)
        record = Record(
            kind="drill",
            mark=secrets.token_hex(4),
            system=self._policy.system,
            begun=begun.begun,
            ended=self._clock(),
            actor=self._actor,
            run=self._run,
            reason=begun.reason,
            policy_digest=self._repository.loaded.digest,
            lifeboat_version=__version__,
            proofs=proofs,
            lacking=dict(results.lacking),
            passed=bool(proofs) and not results.lacking and drill.passed and all(proof.passed for proof in proofs),
            key_id=self._repository.signer.key_id,
            drill=drill,
        )
        record = signed(record, self._repository.signer)
        journal = self._journal()
        for target in keep(record, [self._repository.target(name) for name in self._targets()], journal):
            self._tell(f"The record of this drill is not on {target}, which did not take it.")
        for target in journal.deliver():
            self._tell(f"The journal on {target} misses events of this drill.")
        return record

    def _made(self, planned: PlannedStep, begun: Begun, since: datetime) -> tuple[Step, Proof | None]:
        proof: Proof | None = None
        practised, remedy = True, ""
        try:
            if planned.recovers and not planned.source:
                practised, passed, what = False, True, "the system has no source of this kind"
            elif planned.recovers:
                proof = self._sources.recover(planned.source, begun, self._targets())
                passed, what = outcome(planned.source, proof)
            elif (hook := hook_of(self._policy, planned)) is None:
                practised, passed, what = False, True, "not practised: the policy has no hook for it"
            elif planned.name == VERIFY:
                # Its hook was called for each source, while that was there.
                proofs = results_of(self._repository, self._targets(), begun).proofs.values()
                passed, what = verified([one.source for one in planned_steps(self._policy) if one.source], proofs)
                remedy = "" if passed else "Look at the checks `verify` of what came back, and at what the hook calls."
            else:
                variables = self._variables(planned, begun)
                passed, what = call_hook(hook, variables, self._repository.outside, self._tick)
                remedy = "" if passed else f"Look at the hook `{planned.name}` of the policy, and at what it calls."
        except Cancelled:
            raise
        except LifeboatError as error:
            passed, what, remedy = False, error.what, error.remedy
            if planned.source:
                proof = self._sources.not_left(planned.source, begun, error)
        step = Step(
            name=planned.name,
            source=planned.source,
            begun=since,
            ended=self._clock(),
            practised=practised,
            passed=passed,
            what=what,
            remedy=remedy,
        )
        return step, proof

    def _variables(self, planned: PlannedStep, begun: Begun) -> Mapping[str, str]:
        return {
            "LIFEBOAT_SYSTEM": self._policy.system,
            "LIFEBOAT_STEP": planned.name,
            "LIFEBOAT_DRILL": self._drill,
            "LIFEBOAT_SCENARIO": begun.scenario,
            "LIFEBOAT_INCIDENT": begun.moments.incident.isoformat(),
        }

    def _begun(self) -> Begun:
        return begun_drill(self._repository, self._targets(), self._drill)

    def _earlier(self, now: datetime) -> Sequence[Record]:
        target = self._repository.target(self._targets()[0])
        found = read_evidence(target, self._policy.system, self._repository.trusted, since=now - LOOKED_BACK, until=now)
        return sorted((one for one in found if isinstance(one, Record)), key=lambda record: record.begun)

    def _targets(self) -> list[str]:
        """The targets that answer, whatever the scenario takes for lost: they keep what was done.

        Raises:
            TargetUnavailable: none does.
        """
        if self._reached:
            return self._reached
        told: list[str] = []
        for name in built_targets(self._policy):
            self._tick()
            try:
                self._repository.target(name).list_folders(f"{self._policy.system}/")
            except Cancelled:
                raise
            except LifeboatError as error:
                told.append(str(error))
                self._tell(f"{name} does not answer, and will not have what is written of this drill: {error}")
            else:
                self._reached.append(name)
        if not self._reached:
            raise TargetUnavailable(
                f"No target of {self._policy.system} can be read: {' '.join(told)}", "See to the first of them."
            )
        return self._reached

    def _journal(self) -> Journal:
        if self._written is None:
            self._written = self._repository.journal(*self._targets(), run=self._journal_run, actor=self._actor)
        return self._written
