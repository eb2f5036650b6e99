"""The operator of the restore test's DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from lifeboat.alerts.slack import escaped
from lifeboat.operators.alerts import tell_slack
from lifeboat.operators.step import SystemStep, stay_quiet_until_connected
from lifeboat.recovery.wording import length_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.policy.people import Severity
    from lifeboat.recovery.evidence import Proof, Record

MOST_TOLD = 10


class RestoreTestTask(SystemStep):
    """Carries a restore test out, and fails when what came back was not as it should be.

    Skips a system none of whose targets' connections exist yet. Returns the record's ``id``, ``sha256``, whether it
    ``passed``, and ``recovered``: by source the milliseconds that its newest recovery point took.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Do it.

        Raises:
            AirflowFailException: the record says that it failed; another try would say the same.
        """
        from lifeboat.operators.run import actor_of
        from lifeboat.recovery.restore_test import RestoreTest, Wish
        from lifeboat.recovery.sql_checks import checks_of
        from lifeboat.repository.manifest import Run

        repository = self._repository()
        stay_quiet_until_connected(repository.loaded)
        params = context.get("params") or {}
        run: Any = context["dag_run"]
        ti: Any = context["ti"]
        wish = Wish(
            sources=tuple(str(source) for source in params.get("sources") or ()),
            target=params.get("target"),
            seed=params.get("seed"),
            checks=tuple(checks_of(repository.loaded)),
            reason=str(params.get("reason") or ""),
        )
        record = RestoreTest(
            repository,
            wish,
            Run(dag_id=run.dag_id, run_id=run.run_id, try_number=int(ti.try_number or 1)),
            actor_of(context),
            tell=self.log.info,
            tick=self._cancellation.check,
        ).carry_out()
        self._tell(record)
        severity: Severity = "info" if record.passed else "critical"
        for fault in tell_slack(repository.policy, severity, message(record)):
            self.log.warning(fault)
        if not record.passed:
            raise AirflowFailException(f"The restore test failed. {' '.join(faults(record))}")
        return {
            "id": record.id,
            "sha256": record.sha256,
            "passed": record.passed,
            "recovered": {
                proof.source: proof.recovery_milliseconds for proof in record.proofs if proof.chosen == "newest"
            },
        }

    def _tell(self, record: Record) -> None:
        for proof in record.proofs:
            say = self.log.info if proof.passed else self.log.error
            say("%s", outcome(proof))
            if proof.place:
                self.log.info("  restored into %s", proof.place)
            for check in proof.checks:
                say = self.log.info if check.passed else self.log.error
                say("  %s: %s: %s", "good" if check.passed else "NOT GOOD", check.name, check.what)
        self.log.info(
            "Record %s, SHA-256 %s, signed by %s, seed %s", record.id, record.sha256, record.key_id, record.seed
        )


def outcome(proof: Proof) -> str:
    """What became of one recovery point, in a sentence."""
    if proof.error:
        return f"{proof.named} did not come back: {proof.error} {proof.remedy}".rstrip()
    return f"{proof.named} ({proof.chosen}) came back in {length_of(proof.recovery_milliseconds)}"


def message(record: Record) -> str:
    """What Slack is told: what failed, or how soon each source was back."""
    if not record.passed:
        listed = faults(record)
        more = [f"and {len(listed) - MOST_TOLD} more"] if len(listed) > MOST_TOLD else []
        head = f":rotating_light: *{record.system}: the restore test failed*"
        lines = [*listed[:MOST_TOLD], *more]
    else:
        head = f":white_check_mark: *{record.system} comes back*"
        lines = [
            f"{proof.named}: back in {length_of(proof.recovery_milliseconds)} "
            f"({length_of(proof.rto_milliseconds)} allowed)"
            for proof in record.proofs
        ]
    shown = "\n".join(f"• {escaped(line)}" for line in lines)
    report = f"`lifeboat report test {record.system} --record {record.id}`"
    return f"{head}\n{shown}\n{report} has all of it; run `{record.run.run_id}`"


def faults(record: Record) -> list[str]:
    """Everything that a record holds against a recovery, in sentences."""
    lacking = [f"{source}: {why}" for source, why in record.lacking.items()]
    errors = [f"{outcome(proof)}." for proof in record.proofs if proof.error]
    checks = [
        f"{proof.named}: {check.name}: {check.what}."
        for proof in record.proofs
        for check in proof.checks
        if not check.passed
    ]
    return [*lacking, *errors, *checks]
