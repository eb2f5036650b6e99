"""The operators of the drill's DAG: it is begun, made step by step, and recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk.exceptions import AirflowFailException

from lifeboat.errors import RestoreError
from lifeboat.operators import proof_message
from lifeboat.operators.proof_message import faults, looked_at, tell_people
from lifeboat.operators.step import SystemStep, stay_quiet_until_connected
from lifeboat.policy.stated_time import stated_time
from lifeboat.recovery.wording import length_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.recovery.drill.practice import Practice
    from lifeboat.recovery.evidence import Record, Step


class DrillTask(SystemStep):
    """A task of a drill. What one leaves for the others is a signed event of the journal."""

    def _practice(self, context: Context) -> Practice:
        """The drill of this run.

        Raises:
            AirflowSkipException: none of the connections of the system's targets exists yet.
        """
        from lifeboat.operators.run import actor_of
        from lifeboat.policy.drill_steps import drill_policy
        from lifeboat.recovery.bringing_back import Means
        from lifeboat.recovery.drill.practice import Practice, Wish
        from lifeboat.recovery.sql_checks import checks_of
        from lifeboat.repository.manifest import Run

        repository = self._repository()
        stay_quiet_until_connected(repository.loaded)
        params = context.get("params") or {}
        run: Any = context["dag_run"]
        ti: Any = context["ti"]
        wish = Wish(
            scenario=params.get("scenario"),
            incident=incident_of(params, repository.policy.zone),
            reason=str(params.get("reason") or ""),
            approved=drill_policy(repository.policy).approval,
            means=Means(checks=tuple(checks_of(repository.loaded))),
        )
        number = int(ti.try_number or 1)
        return Practice(
            repository,
            wish,
            drill_of(run.dag_id, run.run_id),
            Run(dag_id=run.dag_id, run_id=run.run_id, try_number=number),
            actor_of(context),
            part=f"{str(ti.task_id).replace('_', '-')}-{number}",
            tell=self.log.info,
            tick=self._cancellation.check,
        )


class MakeStep(DrillTask):
    """Makes one step, and fails when it did not end as it should; the later ones are made all the same.

    Args:
        step, source: which, as a plan of steps has them.
        first: whether the drill is begun by it.
    """

    def __init__(self, *, step: str, source: str = "", first: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.source = source
        self.first = first

    def execute(self, context: Context) -> None:
        """Make it.

        Raises:
            AirflowFailException: it failed, or the drill could not begin; another try would find the same.
        """
        from lifeboat.policy.drill_steps import PlannedStep

        practice = self._practice(context)
        try:
            if self.first:
                practice.begin()
            made, proof = practice.step(PlannedStep(self.step, self.source))
        except RestoreError as error:
            raise AirflowFailException(str(error)) from error
        for good, line in looked_at(proof) if proof is not None else ():
            (self.log.info if good else self.log.error)("%s", line)
        if not made.passed:
            raise AirflowFailException(f"The step {made.title} failed: {_said(made)}")
        self.log.info("The step %s: %s", made.title, made.what)


class RecordDrill(DrillTask):
    """Brings together what the steps have left into one signed record, and fails when it says that the drill did.

    Returns the record's ``id``, ``sha256``, whether it ``passed``, the ``scenario``, and in milliseconds
    ``recovered`` (the whole system) and ``lost`` (by source).
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Do it.

        Raises:
            AirflowFailException: the drill failed.
        """
        practice = self._practice(context)
        try:
            record = practice.conclude()
        except RestoreError as error:
            raise AirflowFailException(str(error)) from error
        self.log.info("Record %s, SHA-256 %s, signed by %s", record.id, record.sha256, record.key_id)
        for fault in tell_people(self._repository().policy, record, message(record)):
            self.log.warning(fault)
        if not record.passed:
            raise AirflowFailException(f"The drill failed. {' '.join(drill_faults(record))}")
        drill = record.drill
        assert drill is not None
        return {
            "id": record.id,
            "sha256": record.sha256,
            "passed": record.passed,
            "scenario": drill.scenario,
            "recovered": drill.recovery_milliseconds,
            "lost": {proof.source: proof.lost_milliseconds for proof in record.proofs},
        }


def incident_of(params: Mapping[str, Any], zone: ZoneInfo) -> datetime | None:
    """The incident that the form states; ``None`` where it states none.

    Raises:
        RestoreError: it is no moment, or one that came twice or never on the clock of the policy's zone.
    """
    stated = params.get("incident")
    return None if stated is None else stated_time(str(stated), zone)


def drill_of(dag_id: str, run_id: str) -> str:
    """By which the steps of one run find each other: the same in each of its tasks, and in every try."""
    return hashlib.sha256(f"{dag_id} {run_id}".encode()).hexdigest()[:8]


def message(record: Record) -> str:
    """What Slack is told: what failed, or how soon the system was back and what was lost."""
    drill = record.drill
    assert drill is not None
    scenario = drill.scenario.replace("_", " ")
    if not record.passed:
        return proof_message.message(record, f"*{record.system}: the drill failed* ({scenario})", drill_faults(record))
    lines = [
        f"the whole system: back in {length_of(drill.recovery_milliseconds)} "
        f"({length_of(drill.rto_milliseconds)} allowed)",
        *(
            f"{proof.named}: back in {length_of(proof.recovery_milliseconds)}, "
            f"{length_of(proof.lost_milliseconds or 0)} lost ({length_of(proof.rpo_milliseconds)} allowed)"
            for proof in record.proofs
        ),
    ]
    return proof_message.message(record, f"*{record.system} comes back* from {scenario}", lines)


def drill_faults(record: Record) -> list[str]:
    """Everything that a record holds against a recovery, in sentences."""
    drill = record.drill
    assert drill is not None
    steps = [
        f"Step {step.title}: {_said(step)}" for step in drill.steps if not step.passed and not _is_told(record, step)
    ]
    late = [] if drill.in_time else [
        f"The system was back in {length_of(drill.recovery_milliseconds)}, where "
        f"{length_of(drill.rto_milliseconds)} are allowed."
    ]  # fmt: skip
    return [*faults(record), *steps, *late]


def _is_told(record: Record, step: Step) -> bool:
    return bool(step.source) and step.source in {*(proof.source for proof in record.proofs), *record.lacking}


def _said(step: Step) -> str:
    return f"{step.what.rstrip('.')}. {step.remedy}".strip()
