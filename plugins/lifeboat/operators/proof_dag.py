"""What the DAGs of restore tests and drills share: their arguments, and the frame of their pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import DAG, Param

from lifeboat.operators.access import dag_access
from lifeboat.operators.dag_parts import RETRY_DELAY, scheduled
from lifeboat.policy.built import built_targets
from lifeboat.policy.drills import ProofPolicy
from lifeboat.policy.model import LoadedPolicy

_OF_TODAY: Any = ["scheduled", "manual", "operator_triggered", "asset_triggered"]
"""No backfill: what is shown today says nothing of another day."""


def proof_dag(
    loaded: LoadedPolicy,
    proof: ProofPolicy,
    dag_id: str,
    *,
    what: str,
    description: str,
    page: str,
    form: Mapping[str, Param],
    told: Sequence[Any],
) -> DAG:
    """A DAG that proves something on its schedule, and runs for today alone.

    Args:
        what: ``restore test`` or ``drill``: a tag.
        form: the trigger form; the reason is a part of it anyway.
        told: called when a run has failed.
    """
    policy = loaded.policy
    reason = Param(
        default="",
        type="string",
        maxLength=500,
        title="Reason",
        description=f"Kept in the {what.split()[-1]}'s record.",
    )
    return DAG(
        dag_id,
        description=description,
        schedule=scheduled(proof.schedule, policy),
        start_date=None,
        catchup=False,
        is_paused_upon_creation=False,
        max_active_runs=1,
        allowed_run_types=_OF_TODAY,
        access_control=dag_access(),
        doc_md=page,
        tags={"lifeboat", policy.system, what, *(["stale policy"] if loaded.stale else [])},
        params={**form, "reason": reason},
        on_failure_callback=list(told) or None,
        default_args={
            "owner": policy.contacts["primary"].name if "primary" in policy.contacts else "lifeboat",
            # Tried again when its worker is lost; what failed has failed, and is no accident.
            "retries": 1,
            "retry_delay": RETRY_DELAY,
            **({"queue": proof.queue} if proof.queue else {}),
        },
    )


def proof_page(loaded: LoadedPolicy, proof: ProofPolicy, title: str, text: str) -> str:
    """A DAG's page in Airflow: what it does, the targets that it reads, and what the policy says of its steps."""
    rows = "\n".join(f"| {name} | `{target.url}` |" for name, target in built_targets(loaded.policy).items())
    steps = "\n".join(f"1. {step}" for step in proof.steps)
    stale = "\n> **The policy's file is broken: its last valid copy is followed.**\n" if loaded.stale else ""
    return f"""# {title}
{stale}
{text}

| target | where |
| --- | --- |
{rows}

{steps}
"""
