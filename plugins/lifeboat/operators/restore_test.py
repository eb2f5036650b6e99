"""The operator of the restore test's DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from lifeboat.operators import proof_message
from lifeboat.operators.proof_message import faults, looked_at, outcome, tell_people
from lifeboat.operators.step import SystemStep, stay_quiet_until_connected
from lifeboat.recovery.wording import length_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.recovery.evidence import Record


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
        for fault in tell_people(repository.policy, record, message(record)):
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
            for good, line in looked_at(proof):
                (self.log.info if good else self.log.error)("%s", line)
        self.log.info(
            "Record %s, SHA-256 %s, signed by %s, seed %s", record.id, record.sha256, record.key_id, record.seed
        )


def message(record: Record) -> str:
    """What Slack is told: what failed, or how soon each source was back."""
    if not record.passed:
        return proof_message.message(record, f"*{record.system}: the restore test failed*", faults(record))
    lines = [
        f"{proof.named}: back in {length_of(proof.recovery_milliseconds)} ({length_of(proof.rto_milliseconds)} allowed)"
        for proof in record.proofs
    ]
    return proof_message.message(record, f"*{record.system} comes back*", lines)
