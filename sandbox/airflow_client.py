"""A session with Airflow's REST API: trigger DAG runs, follow them, read what their tasks logged.

Source: https://airflow.apache.org/docs/apache-airflow/3.3.2/stable-rest-api-ref.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from sandbox.accounts import SandboxError

FINAL = frozenset({"success", "failed"})


class AirflowClient:
    """Requests of one user; a context manager that closes the connection.

    Raises:
        SandboxError: from every method, when the server does not answer or refuses.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        token = self._ask("POST", "/auth/token", json={"username": user, "password": password})["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise SandboxError(f"Airflow does not answer {method} {path}: {error!r}.") from error
        if answer.is_error:
            raise SandboxError(f"Airflow refuses {method} {path} with {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def dags(self) -> list[dict[str, Any]]:
        """All DAGs as the API describes them."""
        return list(self._ask("GET", "/api/v2/dags", params={"limit": 100, "exclude_stale": True})["dags"])

    def import_errors(self) -> list[dict[str, Any]]:
        """DAG files that can't be imported: ``filename``, ``stack_trace``."""
        return list(self._ask("GET", "/api/v2/importErrors")["import_errors"])

    def pause(self, dag_id: str, paused: bool = True) -> None:
        """Pause a DAG, or let it go on."""
        self._ask("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": paused})

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, *, logical_date: datetime | None = None
    ) -> str:
        """Start a run and return its id."""
        date = None if logical_date is None else logical_date.isoformat()
        run = self._ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": date, "conf": dict(conf or {})})
        return str(run["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """A run as the API describes it: ``state``, ``start_date``, ``end_date`` …"""
        return dict(self._ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The runs of a DAG, newest first."""
        parameters = {"limit": 100, "order_by": "-run_after"}
        return list(self._ask("GET", f"/api/v2/dags/{dag_id}/dagRuns", params=parameters)["dag_runs"])

    def mark(self, dag_id: str, run_id: str, state: str) -> None:
        """Set a run's state: ``success``, ``failed`` or ``queued``."""
        self._ask("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", json={"state": state})

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run: ``task_id``, ``map_index``, ``state``, ``try_number`` …"""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self._ask("GET", path, params={"limit": 100})["task_instances"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str | None]:
        """The state of each task of a run, by its id; mapped ones as ``task[0]``."""
        return {
            task["task_id"] + (f"[{task['map_index']}]" if task["map_index"] >= 0 else ""): task["state"]
            for task in self.tasks(dag_id, run_id)
        }

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        within: float = 300,
        progress: Callable[[dict[str, str | None]], None] | None = None,
    ) -> str:
        """Wait for the end of a run and return ``"success"`` or ``"failed"``; ``progress`` hears of changed states."""
        end, said = time.monotonic() + within, dict[str, str | None]()
        while True:
            state = str(self.run(dag_id, run_id)["state"])
            # Nobody asks for what nobody hears: each answer costs the server time that the run's tasks want.
            if progress is not None and (states := self.task_states(dag_id, run_id)) != said:
                said = states
                progress(states)
            if state in FINAL:
                return state
            if time.monotonic() > end:
                states = self.task_states(dag_id, run_id)
                raise SandboxError(f"Run {run_id} of {dag_id} has not ended after {within:g} s: {states}")
            time.sleep(0.3)

    def log(self, dag_id: str, run_id: str, task_id: str, *, attempt: int = 1, map_index: int = -1) -> str:
        """What a task logged in one of its tries."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        found = self._ask("GET", path, params={"map_index": map_index, "full_content": True})["content"]
        return "\n".join(_line(entry) for entry in found)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        """A value that a task left for others."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._ask("GET", path, params={"map_index": map_index, "deserialize": False})["value"]


def _line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    moment = entry.get("timestamp")
    text = " ".join(str(part) for part in (moment, entry.get("level"), entry.get("event")) if part)
    details = entry.get("error_detail")
    return f"{text} {details}" if details else text
