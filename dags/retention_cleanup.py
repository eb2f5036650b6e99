"""The retention's DAG of each system: every day, what is past its retention goes.

    plan ▸ guard ▸ ( soft_delete ▸ purge ) for each target ▸ report

What goes is hidden first, and its bytes are removed when it can't be taken back any more. Each task plans by itself: a
task that is tried again, a run for a past date and two runs at once do what is right now, and no more.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, TaskGroup, TriggerRule, get_parsing_context

from lifeboat.operators.access import dag_access
from lifeboat.operators.alerts import cleanup_failure_callbacks
from lifeboat.operators.dag_parts import scheduled
from lifeboat.operators.policies import policies_for_dags
from lifeboat.operators.retention import GuardCleanup, PlanCleanup, Purge, ReportCleanup, SoftDelete
from lifeboat.policy.built import built_targets
from lifeboat.policy.model import LoadedPolicy
from lifeboat.policy.naming import work_dag_id

PLAN, GUARD = "plan", "guard"


def cleanup_dag(loaded: LoadedPolicy, dag_id: str) -> DAG:
    """The cleanup of one system."""
    policy = loaded.policy
    targets = built_targets(policy)
    step = {"system": policy.system}
    with DAG(
        dag_id,
        description=f"Removes recovery points of {policy.system} that are past their retention",
        schedule=scheduled(policy.retention.schedule, policy),
        start_date=None,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        access_control=dag_access(),
        doc_md=page(loaded),
        tags={"lifeboat", policy.system, "retention", *(["stale policy"] if loaded.stale else [])},
        params={
            "dry_run": Param(
                default=False,
                type="boolean",
                title="Dry run",
                description="Plan only: the log of `plan` says what would go, and nothing is changed.",
            )
        },
        on_failure_callback=cleanup_failure_callbacks(policy) or None,
        default_args={
            "owner": policy.contacts["primary"].name if "primary" in policy.contacts else "lifeboat",
            "retries": 2,
            "retry_delay": timedelta(minutes=5),
        },
    ) as dag:
        plan = PlanCleanup(task_id=PLAN, **step)
        guard = GuardCleanup(task_id=GUARD, plan_task=PLAN, **step)
        tasks: dict[str, list[str]] = {}
        with TaskGroup("targets") as clean:
            for name, target in targets.items():
                # Mapped tasks would all run on one queue, and only some workers may see a disk.
                place = {"target": name, "guard_task": GUARD, **({"queue": target.queue} if target.queue else {})}
                with TaskGroup(name):
                    soft_delete = SoftDelete(task_id="soft_delete", **place, **step)
                    purge = Purge(task_id="purge", **place, **step)
                    soft_delete >> purge
                tasks[name] = [soft_delete.task_id, purge.task_id]
        report = ReportCleanup(
            task_id="report", plan_task=PLAN, target_tasks=tasks, trigger_rule=TriggerRule.ALL_DONE, **step
        )
        plan >> guard >> clean >> report
        guard >> report
    return dag


def page(loaded: LoadedPolicy) -> str:
    """The DAG's page in Airflow."""
    policy = loaded.policy
    rows = "\n".join(
        f"| {name} | `{target.url}` | {target.retention or 'as each tier says'} |"
        for name, target in built_targets(policy).items()
    )
    stale = "\n> **The policy's file is broken: its last valid copy is followed.**\n" if loaded.stale else ""
    return f"""# Retention of {policy.system}
{stale}
Removes what is past its retention: never the newest verified recovery points, never what something that stays is
restored with, never what is held. More than {policy.retention.most_deleted} % and {policy.retention.few_deleted} of a
tier at once are refused.

| target | where | kept there |
| --- | --- | --- |
{rows}

`lifeboat retention plan {policy.system}` says of every copy why it stays or goes; `lifeboat retention undo` takes a
deletion back for {policy.retention.undelete}. A dry run from the form changes nothing.
"""


wanted = get_parsing_context().dag_id
for loaded in policies_for_dags().policies.values():
    dag_id = work_dag_id(loaded.policy.system, "retention_cleanup")
    if wanted in (None, dag_id):
        globals()[dag_id] = cleanup_dag(loaded, dag_id)
