"""The backup DAGs: one for each tier, but `wal` and `change`, of each source of each policy in `include/policies`.

preflight ▸ dump_compress_upload ▸ verify_primary ▸ ( copy ▸ verify ) for each other target ▸ publish
"""

from __future__ import annotations

from airflow.sdk import DAG, TriggerRule, task_group

from lifeboat.operators.backup import BackUp, Preflight
from lifeboat.operators.copies import CopyTo, Publish, Verify
from lifeboat.operators.dag_parts import TierDag, tier_dags
from lifeboat.policy.naming import Tier
from lifeboat.policy.targets import PRIMARY

PREFLIGHT, DUMP = "preflight", "dump_compress_upload"


def source_dag(tier: TierDag) -> DAG:
    """The chain of one tier."""
    with DAG(tier.id, schedule=tier.schedule, **tier.arguments) as dag:

        @task_group(group_id="copies")
        def copies(target: str) -> None:
            copy = CopyTo(task_id="copy", target=target, backup_task=DUMP, **tier.step)
            copy >> Verify(task_id="verify", target=target, backup_task=DUMP, **tier.step)

        preflight = Preflight(task_id=PREFLIGHT, **tier.step)
        dump = BackUp(task_id=DUMP, preflight_task=PREFLIGHT, **tier.step)
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
        preflight >> dump >> verify
        if tier.others:
            verify >> copies.expand(target=tier.others) >> publish
        verify >> publish
    return dag


for tier in tier_dags(*(tier for tier in Tier if tier not in (Tier.WAL, Tier.CHANGE))):
    globals()[tier.id] = source_dag(tier)
