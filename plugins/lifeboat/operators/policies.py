"""Policies as DAG files and tasks find them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from lifeboat.errors import PolicyError
from lifeboat.policy.last_valid import policies_to_run
from lifeboat.policy.loading import LoadedPolicies
from lifeboat.policy.model import LoadedPolicy

_REPOSITORY = Path(__file__).parents[3]


def policies_directory() -> Path:
    """The policies' directory: ``LIFEBOAT_POLICIES``, else ``include/policies`` beside the plugins folder."""
    named = os.environ.get("LIFEBOAT_POLICIES")
    return Path(named) if named else _REPOSITORY / "include" / "policies"


def state_directory() -> Path:
    """Where the last valid copies of policies are kept: below ``AIRFLOW_HOME``, one place for each directory."""
    home = Path(os.environ.get("AIRFLOW_HOME", str(Path.home() / "airflow")))
    return home / "lifeboat" / "last_valid" / policies_directory().resolve().as_posix().strip("/").replace("/", "_")


@cache
def policies_for_dags() -> LoadedPolicies:
    """All policies that have DAGs; read once for each process that parses."""
    return policies_to_run(policies_directory(), state_directory())


def policy_for_task(system: str) -> LoadedPolicy:
    """The policy of a system, read anew when a task runs.

    Raises:
        PolicyError: there is none any more.
    """
    policies = policies_to_run(policies_directory(), state_directory())
    found = policies.policies.get(system)
    if found is None:
        problems = "; ".join(str(problem) for problem in policies.problems)
        raise PolicyError(
            f"There is no policy for the system {system!r} in {policies_directory()}. {problems}".rstrip(),
            "Bring its file back, or remove the DAG's runs.",
        )
    return found
