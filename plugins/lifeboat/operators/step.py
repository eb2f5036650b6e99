"""What every task of Lifeboat is: it can be stopped at any moment, reads its policy anew, and writes to the journal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from lifeboat.operators.cancellation import Cancellation
from lifeboat.operators.outside import airflow_outside, has_connection
from lifeboat.operators.policies import policy_for_task
from lifeboat.policy.built import built_targets

if TYPE_CHECKING:
    from airflow.sdk import Context

    from lifeboat.policy.model import LoadedPolicy
    from lifeboat.repository.journal import Journal
    from lifeboat.repository.system import SystemRepository


class SystemStep(BaseOperator):
    """A step of one system's work; can be stopped at any moment.

    Attributes:
        removing: whether it opens targets by the connections that may delete.
    """

    removing = False

    def __init__(self, *, system: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Airflow gives each task a copy of its DAG's form and checks every copy's schema whenever it serialises: four
        # fifths of the time that this takes. A task that runs gets the DAG's form all the same.
        self.params = ParamsDict()
        self.system = system
        self._cancellation = Cancellation()

    def on_kill(self) -> None:
        """Unwind the task where it stands, so that uploads are aborted and the server's session is closed."""
        if isinstance(sys.exception(), AirflowTaskTimeout):
            return  # It has unwound the task already, and says better what happened.
        self._cancellation.tell()

    def _repository(self) -> SystemRepository:
        # Imported here: parsing a DAG file must not pay for the libraries that move bytes.
        from lifeboat.repository.system import SystemRepository

        loaded = policy_for_task(self.system)
        for notice in loaded.notices:
            self.log.info("Policy %s: %s", loaded.path.name, notice)
        if loaded.stale:
            self.log.warning("Policy %s is broken; its last valid copy is followed.", loaded.path.name)
        return SystemRepository(loaded, airflow_outside(), removing=self.removing)

    def _journal(self, context: Context, repository: SystemRepository, *targets: str) -> Journal:
        from lifeboat.operators.run import actor_of, journal_run

        return repository.journal(*targets, run=journal_run(context), actor=actor_of(context))


def stay_quiet_until_connected(loaded: LoadedPolicy, *, removing: bool = False) -> None:
    """Skip the work on a system whose policy came with the package, or was written before its targets' connections.

    Args:
        removing: whether the work opens targets by the connections that may delete.

    Raises:
        AirflowSkipException: none of them exists yet.
    """
    targets = built_targets(loaded.policy).values()
    wanted = ((target.retention_connection if removing else None) or target.connection for target in targets)
    connections = {name for name in wanted if name}
    if connections and not any(has_connection(name) for name in connections):
        raise AirflowSkipException(f"None of the connections of {loaded.policy.system}'s targets exists yet.")


class Step(SystemStep):
    """A step of one tier of one source."""

    def __init__(self, *, source: str, tier: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.tier = tier

    def _stay_quiet_until_connected(self, context: Context, loaded: LoadedPolicy) -> None:
        """A policy that came with the package, or was written before its connections, is no failure every night.

        One connection that exists, or one run that has ever published something, ends the quiet: from then on a missing
        connection is a failure, and all that are missing are named.
        """
        connections = sorted(loaded.connections(self.source))
        missing = [name for name in connections if not has_connection(name)]
        if connections and len(missing) == len(connections) and not _ever_published(context):
            raise AirflowSkipException(
                f"None of the connections of {self.system} exists yet, so nothing is backed up: {', '.join(missing)}."
            )
        if missing:
            self.log.error("Connections that the policy names and Airflow does not have: %s", ", ".join(missing))


def _ever_published(context: Context) -> bool:
    ti: Any = context["ti"]
    return ti.xcom_pull(task_ids="publish", include_prior_dates=True) is not None


def is_backfill(context: Context) -> bool:
    """Whether somebody asked for the run of a date that has passed."""
    run: Any = context["dag_run"]
    return str(getattr(run.run_type, "value", run.run_type)) == "backfill"


def task_states(context: Context) -> dict[str, str | None]:
    """The states of the run's tasks; a mapped one's index follows its name after an underscore."""
    ti: Any = context["ti"]
    return dict(ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {}))
