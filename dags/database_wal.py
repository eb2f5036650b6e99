"""The WAL DAGs of databases: every few minutes, everything that was written since the last run; or, where the policy
says so, all the time: a run then follows the server until the next one is due.

    collect ▸ ( copy ▸ verify ) for each other target ▸ publish
            ▸ start_full, where WAL was lost and no full was taken since

Each run proves how far the database is covered, also when nothing was written. The run looks at its needs by itself:
at this pace a task of its own for that would cost more than the work. Copies are tried once: the next run brings what
a target missed, and waiting here for that target would keep the next run, and with it the primary copy, from beginning.
"""

from __future__ import annotations

from airflow.sdk import DAG, TriggerRule, task_group

from lifeboat.operators.backup import CollectWal
from lifeboat.operators.copies import CopyTo, Publish, Verify
from lifeboat.operators.dag_parts import TierDag, tier_dags
from lifeboat.operators.full_after_gap import StartFull
from lifeboat.policy.naming import Tier

COLLECT, START_FULL = "collect", "start_full"


def wal_dag(tier: TierDag) -> DAG:
    """The chain of one source's WAL."""
    with DAG(tier.id, schedule=tier.schedule, **tier.arguments) as dag:

        @task_group(group_id="copies")
        def copies(target: str) -> None:
            copy = CopyTo(task_id="copy", target=target, backup_task=COLLECT, retries=0, **tier.step)
            copy >> Verify(task_id="verify", target=target, backup_task=COLLECT, retries=0, **tier.step)

        collect = CollectWal(task_id=COLLECT, start_task=START_FULL, **tier.step)
        publish = Publish(
            task_id="publish",
            backup_task=COLLECT,
            verify_tasks=["copies.verify"],
            others=tier.others,
            trigger_rule=TriggerRule.ALL_DONE,
            outlets=[tier.asset],
            retries=0,
            **tier.step,
        )
        if tier.others:
            collect >> copies.expand(target=tier.others) >> publish
        collect >> publish
        # Not tried again: the next run decides anew.
        collect >> StartFull(task_id=START_FULL, backup_task=COLLECT, retries=0, **tier.step)
    return dag


for tier in tier_dags(Tier.WAL):
    globals()[tier.id] = wal_dag(tier)
