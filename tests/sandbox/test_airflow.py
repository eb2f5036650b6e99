import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from sandbox.accounts import CLONE, SandboxError
from sandbox.airflow import AirflowSandbox
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR
from sandbox.postgres_template import Template
from sandbox.processes import is_alive

DAG = """
from airflow.sdk import BaseHook, dag, task

@dag(schedule=None)
def probe():
    @task
    def look():
        print("the host is", BaseHook.get_connection("somewhere").host)
        return 42

    @task
    def fail():
        raise ValueError("as it should")

    look() >> fail()

probe()
"""


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]
) -> Iterator[AirflowSandbox]:
    """Airflow with one DAG: it takes half a minute to start. Nothing of it stays behind."""
    room = tmp_path_factory.mktemp("airflow")
    (room / "dags").mkdir()
    (room / "dags" / "probe.py").write_text(DAG)
    connections = {"somewhere": json.dumps({"conn_type": "http", "host": "far.example"})}
    metadata = PostgresServer(room / "metadata", settings={"fsync": "off"}, template=postgres_template(WHEEL_MAJOR))
    with metadata:
        sandbox = AirflowSandbox(room / "home", metadata, connections=connections, dags=room / "dags")
        with sandbox:
            sandbox.wait_until_ready(dags=["probe"])
            yield sandbox
            family = psutil.Process(sandbox.child.pid).children(recursive=True)
            assert len(family) > 4
        assert not any(is_alive(process) for process in family)


def test_a_dag_is_triggered_followed_and_read_through_the_rest_api(airflow):
    assert airflow.password_file.stat().st_mode & 0o777 == 0o600
    with airflow.client() as client:
        assert [dag["dag_id"] for dag in client.dags()] == ["probe"]
        client.pause("probe", False)
        run = client.trigger("probe")
        seen = []
        assert client.wait("probe", run, within=120, progress=seen.append) == "failed"
        assert seen[-1] == {"look": "success", "fail": "failed"}
        assert "the host is far.example" in client.log("probe", run, "look")
        assert "as it should" in client.log("probe", run, "fail")
        assert client.xcom("probe", run, "look") == 42
        with pytest.raises(SandboxError, match="404"):
            client.trigger("nothing_of_this_name")


def test_a_dag_file_that_can_not_be_imported_ends_the_waiting_with_its_error(airflow):
    broken = "from airflow.sdk import dag\nraise RuntimeError('broken on purpose')\n"
    (airflow.dags / "broken.py").write_text(broken)
    with pytest.raises(SandboxError, match="broken on purpose"):
        airflow.wait_until_ready(dags=["probe", "broken"])


def test_airflow_does_not_look_through_the_package_for_plugins(tmp_path):
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from airflow import plugins_manager\n"
        "plugins_manager.ensure_plugins_loaded()\n"
        "print('LOADED', [name for name in sys.modules if name.startswith('lifeboat.')])\n"
    )
    environment = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__PLUGINS_FOLDER": str(CLONE / "plugins")}
    ended = subprocess.run(
        [sys.executable, "-c", code, CLONE / "plugins"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "LOADED []" in ended.stdout
