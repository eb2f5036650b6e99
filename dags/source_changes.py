"""The change DAGs: every few minutes a source is compared, by fingerprints, with its newest recovery point, and stored
when something changed.

    store_if_changed ▸ verify_primary ▸ ( copy ▸ verify ) for each other target ▸ publish

A run that finds nothing changed ends with its first task: the others are skipped, and no worker is woken for them. The
run looks at its needs by itself.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, TriggerRule, task_group

from lifeboat.operators.backup import BackUpChange
from lifeboat.operators.copies import CopyTo, Publish, Verify
from lifeboat.operators.dag_parts import TierDag, tier_dags
from lifeboat.policy.naming import Tier
from lifeboat.policy.targets import PRIMARY

STORE, VERIFY, PUBLISH = "store_if_changed", "verify_primary", "publish"


def schedule(tier: TierDag) -> Any:
    """The tier's own, and where the policy says so a watch over the source's files beside it."""
    if not tier.watches:
        return tier.schedule
    from lifeboat.operators.watching import watched_schedule

    return watched_schedule(tier)


def change_dag(tier: TierDag) -> DAG:
    """The chain of one source's changes."""
    with DAG(tier.id, schedule=schedule(tier), **tier.arguments) as dag:

        @task_group(group_id="copies")
        def copies(target: str) -> None:
            copy = CopyTo(task_id="copy", target=target, backup_task=STORE, **tier.step)
            copy >> Verify(task_id="verify", target=target, backup_task=STORE, **tier.step)

        store = BackUpChange(task_id=STORE, later_tasks=[VERIFY, PUBLISH], **tier.step)
        verify = Verify(task_id=VERIFY, target=PRIMARY, backup_task=STORE, **tier.step)
        publish = Publish(
            task_id=PUBLISH,
            backup_task=STORE,
            verify_tasks=[VERIFY, "copies.verify"],
            others=tier.others,
            # Runs in every case but that, and fails by itself: nothing that failed before may look green.
            trigger_rule=TriggerRule.ALL_DONE,
            outlets=[tier.asset],
            **tier.step,
        )
        store >> verify
        if tier.others:
            verify >> copies.expand(target=tier.others) >> publish
        [store, verify] >> publish
    return dag


for tier in tier_dags(Tier.CHANGE):
    globals()[tier.id] = change_dag(tier)
