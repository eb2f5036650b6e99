"""The restore test's DAG of each system whose policy has `tests`: every month it is proven that everything comes back.

    restore_test

One task for all: what is restored stays on the worker that restored it, is looked at there, and goes again.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, get_parsing_context

from lifeboat.operators.alerts import restore_test_failure_callbacks
from lifeboat.operators.policies import policies_for_dags
from lifeboat.operators.proof_dag import proof_dag, proof_page
from lifeboat.operators.restore_test import RestoreTestTask
from lifeboat.policy.built import built_targets, sources_tested
from lifeboat.policy.drills import ProofPolicy
from lifeboat.policy.model import LoadedPolicy
from lifeboat.policy.naming import work_dag_id


def restore_test_dag(loaded: LoadedPolicy, tests: ProofPolicy, dag_id: str) -> DAG:
    """The restore test of one system."""
    policy = loaded.policy
    with proof_dag(
        loaded,
        tests,
        dag_id,
        what="restore test",
        description=f"Proves that {policy.system} comes back",
        page=page(loaded, tests),
        form=form(loaded),
        told=restore_test_failure_callbacks(policy),
    ) as dag:
        RestoreTestTask(task_id="restore_test", system=policy.system)
    return dag


def form(loaded: LoadedPolicy) -> dict[str, Param]:
    """The trigger form."""
    sources = sources_tested(loaded.policy)
    targets = list(built_targets(loaded.policy))
    return {
        "sources": Param(
            default=sources,
            type="array",
            items={"type": "string", "enum": sources},
            examples=sources,
            title="Sources",
            description="What is brought back. Leave all of them for a normal run.",
        ),
        "target": Param(
            default=None,
            type=["null", "string"],
            enum=[None, *targets],
            title="Target",
            description="Restore from this one alone; by default from each in turn.",
        ),
        "seed": Param(
            default=None,
            type=["null", "integer"],
            title="Seed",
            description="Draw the same recovery points as the test whose record has this seed.",
        ),
    }


def page(loaded: LoadedPolicy, tests: ProofPolicy) -> str:
    """The DAG's page in Airflow."""
    policy = loaded.policy
    staging = (
        f"\nLogical archives come back into new databases of the server behind the connection `{tests.connection}`,\n"
        "and are dropped from it again.\n"
        if tests.connection is not None
        else ""
    )
    text = f"""\
Brings back the newest recovery point of each source and one at random, into a scratch place on the worker, looks at
both, and removes them. A database is recovered by a server of its own that nobody can reach and that reaches nobody.
What was seen is a signed record on every target: `lifeboat report evidence {policy.system}` makes an archive of them.
{staging}
The run fails when anything did not come back, was not as it should be, took longer than **{policy.objectives.rto}**
(or its own objective), or is older than it may be. `lifeboat test {policy.system}` does the same by hand."""
    return proof_page(loaded, tests, f"Restore test of {policy.system}", text)


wanted = get_parsing_context().dag_id
for loaded in policies_for_dags().policies.values():
    dag_id = work_dag_id(loaded.policy.system, "restore_test")
    if loaded.policy.tests is not None and sources_tested(loaded.policy) and wanted in (None, dag_id):
        globals()[dag_id] = restore_test_dag(loaded, loaded.policy.tests, dag_id)
