"""The full that is taken because WAL was lost: started once, by the WAL run that finds it due."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError, DagRunTriggerException

from lifeboat.operators.backup import FULL_DUE
from lifeboat.operators.step import Step
from lifeboat.policy.naming import dag_id
from lifeboat.policy.targets import PRIMARY

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context

UNDER_WAY = ("queued", "running")


class StartFull(Step):
    """Start the DAG that takes the full, unless a run that will bring one is under way.

    Where nothing is due the WAL task skips it, and no worker is woken. Each WAL run decides anew, by the
    manifests: a start that failed is made up for by the next run, and so is a full that failed, an hour later at the
    soonest. A run's id is made of what was lost and of the hour, so that two WAL runs at once start one full.

    Args:
        backup_task: the WAL task: it has left why a full is due, and of which tier.
    """

    def __init__(self, *, backup_task: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backup_task = backup_task

    def execute(self, context: Context) -> None:
        """Ends by an exception that Airflow takes for the order to start the run, as its own operator for that does:
        importing that one would cost every parse of the WAL DAGs most of a second.

        Raises:
            AirflowFailException: nothing would come of it, and somebody has to see to that.
        """
        ti: Any = context["ti"]
        due = ti.xcom_pull(task_ids=self.backup_task, key=FULL_DUE)
        because, tier = str(due["because"]), str(due["tiers"][0])
        first, *others = (dag_id(self.system, self.source, str(one)) for one in due["tiers"])
        self._insist_on_unpaused(ti, first, because, tier)
        for dag in (first, *others):
            if ti.get_dr_count(dag_id=dag, states=list(UNDER_WAY)) and not ti.get_dag(dag).is_paused:
                self.log.info("%s A run of %s is under way; the next WAL run looks what became of it.", because, dag)
                return
        repository = self._repository()
        run = run_id(str(due["mark"]), repository.outside.clock())
        if ti.get_dr_count(dag_id=first, run_ids=[run]):
            self.log.error("%s %s of %s has ended without one; the next is started an hour later.", because, run, first)
            return
        journal = self._journal(context, repository, PRIMARY)
        journal.write("full_forced", source=self.source, reason=because, dag=first, run=run)
        self.log.info("%s Starting %s of %s", because, run, first)
        raise DagRunTriggerException(
            trigger_dag_id=first,
            dag_run_id=run,
            # The form's field: it is kept in the full's manifest.
            conf={"note": because},
            note=because,
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=0,
            deferrable=False,
        )

    def _insist_on_unpaused(self, ti: Any, dag: str, because: str, tier: str) -> None:
        by_hand = f"Or take it now: lifeboat backup {self.system} {self.source} --tier {tier}"
        try:
            paused = ti.get_dag(dag).is_paused
        except AirflowRuntimeError as error:
            if (error.error.detail or {}).get("status_code") != HTTPStatus.NOT_FOUND:
                raise
            raise AirflowFailException(
                f"{because} Airflow has no DAG {dag} that would take it: see its import errors. {by_hand}"
            ) from error
        if paused:
            raise AirflowFailException(
                f"{because} The DAG {dag} that takes it is paused, so none is taken. Unpause it: the next WAL run "
                f"starts the full. {by_hand}"
            )


def run_id(mark: str, now: datetime) -> str:
    """The id of the run that takes a full because of a loss: the same within an hour."""
    return f"after_lost_wal__{mark}__{now:%Y-%m-%dT%H}"
