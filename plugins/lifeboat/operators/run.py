"""The names that one DAG run gives to its work: the same again for every retry, others for another run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from lifeboat.backup.kinds import kind_of
from lifeboat.policy.naming import Tier
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work

if TYPE_CHECKING:
    from airflow.sdk import Context


def work_of(context: Context, repository: SystemRepository, source: str, tier: Tier) -> Work:
    """What this try is called.

    The id's time is when the run really began, never its logical date: a run for a past date reads today's data. The
    four digits come from the run, so that a retry finds the same id and a cleared run, which begins anew, another one.
    """
    run: Any = context["dag_run"]
    begun = run.start_date or repository.outside.clock()
    mark = hashlib.sha256(f"{run.dag_id} {run.run_id} {begun.isoformat()}".encode()).hexdigest()[:4]
    kind = kind_of(repository.policy.sources[source].kind)
    number = int(context["ti"].try_number or 1)
    return Work.new(
        kind.point_kind(tier),
        begun=begun,
        tiers=(tier.value,),
        run=Run(dag_id=run.dag_id, run_id=run.run_id, try_number=number),
        actor=actor_of(context),
        mark=mark,
        attempt=number,
        note=str((context.get("params") or {}).get("note") or ""),
    )


def actor_of(context: Context) -> str:
    """Who did it, for the journal: the DAG run, and the user who started it."""
    run: Any = context["dag_run"]
    user = f" by {run.triggering_user_name}" if run.triggering_user_name else ""
    return f"airflow {run.dag_id} {run.run_id}{user}"


def journal_run(context: Context) -> str:
    """The name of this task's own run of events."""
    ti: Any = context["ti"]
    digest = hashlib.sha256(f"{ti.dag_id} {ti.run_id}".encode()).hexdigest()[:6]
    place = f"-{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
    task = str(ti.task_id).replace(".", "-").replace("_", "-")
    return f"{task}{place}-{digest}-{ti.try_number}"
