"""Who may see and start the DAGs of backups, where Airflow's users have roles.

``LIFEBOAT_DAG_ROLE`` names one role of the FAB auth manager; it gets the backups' DAGs and nobody else does besides
administrators, as long as no role may see all DAGs. The role must exist before the DAGs are parsed: Airflow reports an
import error otherwise. Without the variable DAGs say nothing of roles, as the simple auth manager wants it.

Source: https://airflow.apache.org/docs/apache-airflow-providers-fab/stable/auth-manager/access-control.html
"""

from __future__ import annotations

import os

VARIABLE = "LIFEBOAT_DAG_ROLE"
# Seeing a DAG with its runs, tasks and logs; pausing it, clearing its tasks; starting a run.
_RIGHTS = {"DAGs": {"can_read", "can_edit"}, "DAG Runs": {"can_read", "can_create"}}


def dag_access() -> dict[str, dict[str, set[str]]] | None:
    """The ``access_control`` of every DAG; ``None``: nothing is said."""
    role = os.environ.get(VARIABLE, "").strip()
    return {role: {resource: set(actions) for resource, actions in _RIGHTS.items()}} if role else None
