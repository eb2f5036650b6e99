"""The backup DAGs: one for each tier, but `wal` and `change`, of each source of each policy in `include/policies`.

preflight ▸ dump_compress_upload ▸ verify_primary ▸ ( copy ▸ verify ) for each other target ▸ publish

A huge set of files is read by several tasks, and brought together: preflight ▸ ( read ) for each share ▸ dump …
"""

from __future__ import annotations

from airflow.sdk import DAG, TriggerRule, task_group

from lifeboat.operators.backup import BackUp, Preflight
from lifeboat.operators.copies import CopyTo, Publish, Verify
from lifeboat.operators.dag_parts import TierDag, tier_dags
from lifeboat.policy.naming import Tier
from lifeboat.policy.targets import PRIMARY

PREFLIGHT, READ, DUMP = "preflight", "shares.read", "dump_compress_upload"


def source_dag(tier: TierDag) -> DAG:
    """The chain of one tier."""
    with DAG(tier.id, schedule=tier.schedule, **tier.arguments) as dag:

        @task_group(group_id="copies")
        def copies(target: str) -> None:
            copy = CopyTo(task_id="copy", target=target, backup_task=DUMP, **tier.step)
            copy >> Verify(task_id="verify", target=target, backup_task=DUMP, **tier.step)

        @task_group(group_id="shares")
        def shares(share: int) -> None:
            BackUp(task_id="read", preflight_task=PREFLIGHT, share=share, of=tier.shares, **tier.step)

        preflight = Preflight(task_id=PREFLIGHT, **tier.step)
        shared = tier.shares > 1
        dump = BackUp(
            task_id=DUMP, preflight_task=PREFLIGHT, shares_task=READ if shared else None, of=tier.shares, **tier.step
        )
        verify = Verify(task_id="verify_primary", target=PRIMARY, backup_task=DUMP, **tier.step)
        publish = Publish(
            task_id="publish",
            backup_task=DUMP,
            verify_tasks=["verify_primary", "copies.verify"],
            others=tier.others,
            # Runs in every case, and fails by itself: nothing that failed before may look green.
            trigger_rule=TriggerRule.ALL_DONE,
            outlets=[tier.asset],
            **tier.step,
        )
        if shared:
            preflight >> shares.expand(share=list(range(1, tier.shares + 1))) >> dump
        preflight >> dump >> verify
        if tier.others:
            verify >> copies.expand(target=tier.others) >> publish
        verify >> publish
    return dag


for tier in tier_dags(*(tier for tier in Tier if tier not in (Tier.WAL, Tier.CHANGE))):
    globals()[tier.id] = source_dag(tier)
