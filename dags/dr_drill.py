"""The drill's DAG of each system whose policy has `drills`: every quarter its loss is practised.

    ( approve ▸ ) provision ▸ code ▸ database ▸ files ▸ configuration ▸ dns ▸ verify ▸ monitor ▸ record

One task for each source: what is restored stays on the worker that restored it, is looked at there, and goes again. A
step that fails keeps no later one from being tried; `record` brings all of them together, and fails the run.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any, get_args

from airflow.sdk import DAG, Param, TriggerRule, get_parsing_context

from lifeboat.operators.alerts import drill_failure_callbacks
from lifeboat.operators.drill import MakeStep, RecordDrill
from lifeboat.operators.drill_approval import ApproveDrill
from lifeboat.operators.policies import policies_for_dags
from lifeboat.operators.proof_dag import proof_dag, proof_page
from lifeboat.policy.built import sources_drilled
from lifeboat.policy.drill_steps import planned_steps
from lifeboat.policy.drills import DrillPolicy, Scenario
from lifeboat.policy.model import LoadedPolicy
from lifeboat.policy.naming import work_dag_id


def drill_dag(loaded: LoadedPolicy, drills: DrillPolicy, dag_id: str) -> DAG:
    """The drill of one system."""
    policy = loaded.policy
    with proof_dag(
        loaded,
        drills,
        dag_id,
        what="drill",
        description=f"Practises the loss of {policy.system}",
        page=page(loaded, drills),
        form=form(),
        told=drill_failure_callbacks(policy),
    ) as dag:
        after: dict[str, Any] = {"system": policy.system, "trigger_rule": TriggerRule.ALL_DONE}
        steps = [
            MakeStep(task_id=step.task, step=step.name, source=step.source, first=number == 0, **after)
            for number, step in enumerate(planned_steps(policy))
        ]
        # Asked again when Airflow lost the answer on its way: one that comes within the second in which it was asked.
        again: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=10)}
        asking = [ApproveDrill(task_id="approve", system=policy.system, **again)] if drills.approval else []
        for before, following in pairwise([*asking, *steps, RecordDrill(task_id="record", **after)]):
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
    }


def page(loaded: LoadedPolicy, drills: DrillPolicy) -> str:
    """The DAG's page in Airflow."""
    policy = loaded.policy
    text = f"""\
Takes the system, or a part of what protects it, for lost, and brings everything back into a scratch place on the
worker: by what the scenario leaves, with a clock on every phase. Nothing of the living system is touched, except by the
hooks of the policy. What was seen is a signed record on every target: `lifeboat report test {policy.system}` shows it.

The run fails when a step failed, when the system took longer than **{policy.objectives.rto}**, or when more was lost
than may be. `lifeboat drill {policy.system}` does the same by hand."""
    return proof_page(loaded, drills, f"Drill of {policy.system}", text)


wanted = get_parsing_context().dag_id
for loaded in policies_for_dags().policies.values():
    dag_id = work_dag_id(loaded.policy.system, "dr_drill")
    if loaded.policy.drills is not None and sources_drilled(loaded.policy) and wanted in (None, dag_id):
        globals()[dag_id] = drill_dag(loaded, loaded.policy.drills, dag_id)
