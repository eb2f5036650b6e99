"""The drill's DAG of each system whose policy has `drills`: every quarter its loss is practised.

    provision ▸ code ▸ database ▸ files ▸ configuration ▸ dns ▸ verify ▸ monitor ▸ record

One task for each source: what is restored stays on the worker that restored it, is looked at there, and goes again. A
step that fails keeps no later one from being tried; `record` brings all of them together, and fails the run.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any, get_args

from airflow.sdk import DAG, Param, TriggerRule, get_parsing_context

from lifeboat.operators.access import dag_access
from lifeboat.operators.alerts import drill_failure_callbacks
from lifeboat.operators.dag_parts import scheduled
from lifeboat.operators.drill import MakeStep, RecordDrill
from lifeboat.operators.policies import policies_for_dags
from lifeboat.policy.built import built_targets, sources_drilled
from lifeboat.policy.drill_steps import planned_steps
from lifeboat.policy.drills import DrillPolicy, Scenario
from lifeboat.policy.model import LoadedPolicy
from lifeboat.policy.naming import work_dag_id


def drill_dag(loaded: LoadedPolicy, drills: DrillPolicy, dag_id: str) -> DAG:
    """The drill of one system."""
    policy = loaded.policy
    with DAG(
        dag_id,
        description=f"Practises the loss of {policy.system}",
        schedule=scheduled(drills.schedule, policy),
        start_date=None,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        # A drill of today says nothing of another day.
        allowed_run_types=["scheduled", "manual", "operator_triggered", "asset_triggered"],
        access_control=dag_access(),
        doc_md=page(loaded, drills),
        tags={"lifeboat", policy.system, "drill", *(["stale policy"] if loaded.stale else [])},
        params=form(),
        on_failure_callback=drill_failure_callbacks(policy) or None,
        default_args={
            "owner": policy.contacts["primary"].name if "primary" in policy.contacts else "lifeboat",
            # Tried again when its worker is lost; a step that failed has failed, and is no accident.
            "retries": 1,
            "retry_delay": timedelta(minutes=1),
            **({"queue": drills.queue} if drills.queue else {}),
        },
    ) as dag:
        after: dict[str, Any] = {"system": policy.system, "trigger_rule": TriggerRule.ALL_DONE}
        steps = [
            MakeStep(task_id=step.task, step=step.name, source=step.source, first=number == 0, **after)
            for number, step in enumerate(planned_steps(policy))
        ]
        for before, following in pairwise([*steps, RecordDrill(task_id="record", **after)]):
            before >> following
    return dag


def form() -> dict[str, Param]:
    """The trigger form."""
    return {
        "scenario": Param(
            default=None,
            type=["null", "string"],
            enum=[None, *get_args(Scenario)],
            title="Scenario",
            description="What is taken for lost; by default the scenario that was practised longest ago.",
        ),
        "incident": Param(
            default=None,
            type=["null", "string"],
            format="date-time",
            title="Incident",
            description="When it was lost: what came to a target after that is not used. By default now.",
        ),
        "reason": Param(
            default="", type="string", maxLength=500, title="Reason", description="Kept in the drill's record."
        ),
    }


def page(loaded: LoadedPolicy, drills: DrillPolicy) -> str:
    """The DAG's page in Airflow."""
    policy = loaded.policy
    rows = "\n".join(f"| {name} | `{target.url}` |" for name, target in built_targets(policy).items())
    steps = "\n".join(f"1. {step}" for step in drills.steps)
    stale = "\n> **The policy's file is broken: its last valid copy is followed.**\n" if loaded.stale else ""
    return f"""# Drill of {policy.system}
{stale}
Takes the system, or a part of what protects it, for lost, and brings everything back into a scratch place on the
worker: by what the scenario leaves, with a clock on every phase. Nothing of the living system is touched, except by the
hooks of the policy. What was seen is a signed record on every target: `lifeboat report test {policy.system}` shows it.

The run fails when a step failed, when the system took longer than **{policy.objectives.rto}**, or when more was lost
than may be. `lifeboat drill {policy.system}` does the same by hand.

| target | where |
| --- | --- |
{rows}

{steps}
"""


wanted = get_parsing_context().dag_id
for loaded in policies_for_dags().policies.values():
    dag_id = work_dag_id(loaded.policy.system, "dr_drill")
    if loaded.policy.drills is not None and sources_drilled(loaded.policy) and wanted in (None, dag_id):
        globals()[dag_id] = drill_dag(loaded, loaded.policy.drills, dag_id)
