"""The demo's parts that need no services. The demo itself is run as a whole by `make demo`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from sandbox.demo import wait_for_airflow
from sandbox.demo_backup import FULL_DAG, WAL_DAG
from sandbox.demo_system import make_demo_system
from sandbox.steps import Steps


class Airflow:
    """Stands for an Airflow that takes a minute to boot; remembers what it was waited for."""

    url = "http://127.0.0.1:1"

    def wait_until_ready(self, *, dags: Any = (), **_: Any) -> None:
        self.waited_for = set(dags)


def test_the_demo_begins_when_every_dag_that_it_runs_is_known(tmp_path: Path) -> None:
    services: Any = SimpleNamespace(airflow=Airflow(), system=make_demo_system(tmp_path, binaries=tmp_path))
    wait_for_airflow(services, Steps(Console(quiet=True)))
    assert services.airflow.waited_for >= {FULL_DAG, WAL_DAG}
