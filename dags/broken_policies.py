"""Raises one import error in Airflow that lists everything that is wrong in the policies' files; makes no DAG.

A broken policy stops nobody else: the last valid copy of it keeps its own DAGs running, marked stale. The words
"airflow" and "dag" must stay in this file: Airflow does not even look into one without them.
"""

from __future__ import annotations

from lifeboat.errors import PolicyError
from lifeboat.operators.policies import policies_for_dags

problems = policies_for_dags().problems
if problems:
    listed = "\n".join(str(problem) for problem in problems)
    raise PolicyError(f"Policies are broken:\n{listed}", "`lifeboat policy check` shows the same.")
