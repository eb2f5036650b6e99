"""Two Celery workers that share nothing but the network: each has a home, a temporary directory, policies and keys of
its own, and connections that no other process of Airflow has."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from sandbox.postgres_template import Template
from sandbox.processes import free_port
from sandbox.redis_server import RedisServer
from tests.dags.stage import BUCKET, Stage

WORKERS = {"one": "backup,wal", "two": "backup"}
"""The queues that each of them serves. Tasks without a queue go to `backup`."""


@dataclass(frozen=True)
class Worker:
    """One worker's own directory."""

    name: str
    home: Path

    def has_run(self, dag: str, run: str) -> set[str]:
        """The tasks of a run that wrote a log here."""
        logs = self.home / "logs" / f"dag_id={dag}" / f"run_id={run}"
        return {folder.name.removeprefix("task_id=") for folder in logs.glob("task_id=*")}

    def log(self, dag: str, run: str, task: str) -> str:
        """What a task's first try logged here."""
        place = self.home / "logs" / f"dag_id={dag}" / f"run_id={run}" / f"task_id={task}" / "attempt=1.log"
        return place.read_text(encoding="utf-8")


class Cluster(Stage):
    """A stage whose tasks run on :data:`WORKERS`. Its systems keep their copies in the S3 store ``offsite``."""

    def __init__(self, directory: Path, template: Template) -> None:
        super().__init__(directory, template)
        self.redis = RedisServer(directory / "redis")
        self.workers = {name: Worker(name, directory / f"worker-{name}") for name in WORKERS}

    def stored_target(self, system: str) -> str:
        """Lines of a policy whose primary target is the S3 store."""
        return f"  primary:\n    url: s3://{BUCKET}/{system}\n    connection: cluster_store\n"

    def start(self) -> None:
        """Start everything, and Airflow with it; returns at once."""
        self.metadata.create()
        self.metadata.start()
        self.slack.start()
        self.offsite.start()
        self.redis.start()
        self.airflow.configure(
            # Alerts are sent from the DAG's failure callback, which the DAG processor runs.
            {"stage_slack": self.slack.airflow_connection()},
            {
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CELERY__BROKER_URL": self.redis.url,
                "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "604800",
                "AIRFLOW__OPERATORS__DEFAULT_QUEUE": "backup",
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
                "LIFEBOAT_POLICIES": str(self.policies),
            },
        )
        self.airflow.start()
        for worker in self.workers.values():
            self._start_worker(worker)

    def _start_worker(self, worker: Worker) -> None:
        home = worker.home
        for folder in (home, home / "tmp", home / "policies", home / "logs"):
            folder.mkdir(mode=0o700)
        shutil.copytree(self.keys.directory, home / "keys")
        for policy in self.policies.glob("*.yaml"):
            text = policy.read_text().replace(str(self.keys.directory), str(home / "keys"))
            (home / "policies" / policy.name).write_text(text)
        connections = {"cluster_store": self.offsite.airflow_connection_uri()}
        for system in self.systems.values():
            connections |= system.connections
        environment = self.airflow._environment() | {
            f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()
        }
        environment |= {
            "AIRFLOW_HOME": str(home),
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "LIFEBOAT_POLICIES": str(home / "policies"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        }
        program = [
            Path(sys.executable).with_name("airflow"), "celery", "worker", "--queues", WORKERS[worker.name],
            "--concurrency", "2", "--celery-hostname", worker.name, "--skip-serve-logs", "--without-gossip",
            "--without-mingle", "--pid", home / "worker.pid",
        ]  # fmt: skip
        self.airflow._extra[f"worker-{worker.name}"] = self.airflow._start(
            f"worker {worker.name}", program, home / "worker.log", environment
        )

    def stop(self) -> None:
        """End everything."""
        try:
            super().stop()
        finally:
            self.redis.stop()
