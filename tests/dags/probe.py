"""Parses the DAG files as Airflow's DAG processor does, and says what it found.

python -m tests.dags.probe: each line of standard input is JSON, the arguments of :func:`parse`; so is each answer.
While a file is parsed, ``socket.connect`` raises.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager

DAGS = Path(__file__).parents[2] / "dags"
HEAVY = (
    "aws_cryptographic_material_providers",
    "aws_encryption_sdk",
    "boto3",
    "botocore",
    "psycopg",
    "slack_sdk",
    "zstandard",
)

_AIRFLOWS_OWN: set[str] = set()


@contextmanager
def no_network() -> Iterator[None]:
    """Nothing may be connected to."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a DAG file opened a connection while it was parsed")

    connect = socket.socket.connect
    socket.socket.connect = refuse  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]


def serialised(dag: Any) -> tuple[dict[str, Any], str]:
    """A DAG as Airflow stores it, and what it compares before it makes a new version."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.serialization.serialized_objects import DagSerialization

    document = DagSerialization.to_dict(dag)
    return document, SerializedDagModel.hash(document)


def first_run(timetable: Any, minutes: int) -> str | None:
    """When a DAG that appears so many minutes after midnight runs first."""
    from airflow.timetables.base import TimeRestriction

    now = datetime(2026, 11, 25, 0, minutes, tzinfo=UTC)
    with mock.patch("airflow.timetables.trigger.utcnow", return_value=now):
        found = timetable.next_dagrun_info(
            last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
        )
    return None if found is None else f"{found.run_after:%Y-%m-%d %H:%M}"


def facts(dag: Any, file: str, document: dict[str, Any], version: str) -> dict[str, Any]:
    """One DAG, and what is left of it after a round trip through Airflow's own serialisation."""
    from airflow.serialization.serialized_objects import DagSerialization

    again = DagSerialization.from_dict(json.loads(json.dumps(document)))
    return {
        "file": file,
        "version": version,
        "tasks_after_a_round_trip": sorted(again.task_ids),
        "schedule_after_a_round_trip": again.timetable.summary,
        "first_run": {minutes: first_run(again.timetable, minutes) for minutes in (1, 30)},
        "start_date": dag.start_date,
        "access": dag.access_control,
        "tasks_with_a_form": [task.task_id for task in dag.tasks if task.params],
        "catchup": dag.catchup,
        "paused": dag.is_paused_upon_creation,
        "max_active_runs": dag.max_active_runs,
        "doc": dag.doc_md,
        "tags": sorted(dag.tags),
        "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "defaults": dag.params.dump(),
        "callbacks": len(dag.on_failure_callback or []),
        "tasks": {
            task.task_id: {
                "downstream": sorted(task.downstream_task_ids),
                "rule": str(task.trigger_rule.value),
                "retries": task.retries,
                "queue": task.queue,
                "outlets": [asset.name for asset in task.outlets],
                "timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
            }
            for task in dag.tasks
        },
    }


def parse(policies: str, only: str | None, role: str | None = None) -> dict[str, Any]:
    """What Airflow finds in ``dags/`` with these policies; with ``only``, as for a task of that DAG.

    ``role``: who may see and start the DAGs.
    """
    os.environ["LIFEBOAT_DAG_ROLE"] = role or ""
    # Airflow leaves the context of the last task behind; its own processes parse for one task only.
    for name in ("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "_AIRFLOW_PARSING_CONTEXT_TASK_ID"):
        os.environ.pop(name, None)
    if only is None:
        return _parse(policies)
    with _airflow_parsing_context_manager(dag_id=only):
        return _parse(policies)


def _parse(policies: str) -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    from lifeboat.operators.policies import policies_for_dags

    os.environ["LIFEBOAT_POLICIES"] = policies
    found: dict[str, Any] = {"dags": {}, "errors": {}, "seconds": {}, "serialising": {}}
    processor: dict[str, dict[str, float]] = {"parsing": {}, "serialising": {}}
    for file in sorted(DAGS.glob("*.py")):
        policies_for_dags.cache_clear()  # the DAG processor gives each file a process of its own
        begun, used = time.monotonic(), time.process_time()
        with no_network():
            bag = DagBag(str(file), bundle_path=DAGS, bundle_name="lifeboat")
        found["seconds"][file.name] = time.monotonic() - begun
        processor["parsing"][file.name] = time.process_time() - used
        found["errors"] |= {Path(name).name: text for name, text in bag.import_errors.items()}
        begun, used = time.monotonic(), time.process_time()
        stored = {dag.dag_id: serialised(dag) for dag in bag.dags.values()}
        found["serialising"][file.name] = time.monotonic() - begun
        processor["serialising"][file.name] = time.process_time() - used
        found["dags"] |= {dag.dag_id: facts(dag, file.name, *stored[dag.dag_id]) for dag in bag.dags.values()}
    found["processor"] = processor
    found["imported"] = sorted(name for name in HEAVY if name in sys.modules and name not in _AIRFLOWS_OWN)
    return found


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def main() -> None:
    """Answer until the input ends."""
    importlib.import_module("airflow.dag_processing.dagbag")
    importlib.import_module("airflow.serialization.serialized_objects")
    _AIRFLOWS_OWN.update(name for name in HEAVY if name in sys.modules)
    answers = os.dup(1)
    os.dup2(2, 1)  # what Airflow prints is no answer
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            out.write(json.dumps(parse(**json.loads(line)), default=_plain) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
