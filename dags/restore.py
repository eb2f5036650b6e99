"""The restore's DAG of each system whose policy names who may approve one.

    plan ─▶ approve_1 ─▶ approve_2 ─▶ restore ─▶ hand_over

Nothing counts between the tasks but signed events of the journal: a task that was marked a success, cleared, or given
another XCom has approved nothing.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, get_parsing_context
from airflow.sdk.bases.operator import chain

from lifeboat.operators.access import dag_access
from lifeboat.operators.alerts import restore_failure_callbacks
from lifeboat.operators.policies import policies_for_dags
from lifeboat.operators.restore import CarryOutRestore, HandOver, PlanRestore
from lifeboat.operators.restore_approval import ApproveRestore
from lifeboat.operators.restore_form import restore_form
from lifeboat.policy.built import built_targets, built_tiers
from lifeboat.policy.model import LoadedPolicy
from lifeboat.policy.naming import work_dag_id


def restore_dag(loaded: LoadedPolicy, dag_id: str) -> DAG:
    """The restore of one system."""
    policy = loaded.policy
    who = policy.restore
    # Asked again when Airflow lost the answer on its way: one that comes within the second in which it was asked.
    asking = {"retries": 2, "retry_delay": timedelta(seconds=10)}
    on_its_workers = {"system": policy.system, "retries": 0, **({"queue": who.queue} if who.queue else {})}
    with DAG(
        dag_id,
        description=f"Restores {policy.system}, when {who.approvals} people say so",
        schedule=None,
        start_date=None,
        catchup=False,
        is_paused_upon_creation=False,
        # A person asks for it, now: no schedule, no backfill, no other DAG.
        allowed_run_types=["manual"],
        access_control=dag_access(),
        doc_md=page(loaded),
        tags={"lifeboat", policy.system, "restore", *(["stale policy"] if loaded.stale else [])},
        params=restore_form(policy),
        on_failure_callback=restore_failure_callbacks(policy) or None,
        default_args={"owner": policy.contacts["primary"].name if "primary" in policy.contacts else "lifeboat"},
    ) as dag:
        chain(
            PlanRestore(task_id="plan", **on_its_workers),
            *(
                ApproveRestore(task_id=f"approve_{number}", number=number, **on_its_workers | asking)
                for number in range(1, who.approvals + 1)
            ),
            CarryOutRestore(task_id="restore", **on_its_workers),
            HandOver(task_id="hand_over", **on_its_workers),
        )
    return dag


def page(loaded: LoadedPolicy) -> str:
    """The DAG's page in Airflow."""
    policy, who = loaded.policy, loaded.policy.restore
    rows = "\n".join(f"| {name} | `{target.url}` |" for name, target in built_targets(policy).items())
    stale = "\n> **The policy's file is broken: its last valid copy is followed.**\n" if loaded.stale else ""
    return f"""# Restore of {policy.system}
{stale}
1. **Trigger** it and say what, to which moment, where to, and why. The task `plan` shows what will be done, and fails
   at once when it can't be: its log says which moment can be reached.
2. **{who.approvals} people approve**, none of them you: {", ".join(f"`{name}`" for name in who.approvers)}. They see
   the plan, and what they approve is exactly that. Nobody's answer within {who.valid_for} means no.
3. The task `restore` restores, once; `hand_over` says what is yours to do then.

Marking a task a success approves nothing and restores nothing. Without Airflow: `lifeboat restore` on the command line,
with `--break-glass REASON` where no scratch place is meant.

| target | where |
| --- | --- |
{rows}
"""


wanted = get_parsing_context().dag_id
for loaded in policies_for_dags().policies.values():
    dag_id = work_dag_id(loaded.policy.system, "restore")
    has_sources = any(True for _ in built_tiers(loaded.policy))
    if loaded.policy.restore.approvers and has_sources and wanted in (None, dag_id):
        globals()[dag_id] = restore_dag(loaded, dag_id)
