import json
import os
import subprocess
import sys

import psutil
import pytest

from sandbox.accounts import CLONE, SandboxError
from sandbox.airflow import AirflowSandbox
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


@pytest.fixture
def dags(tmp_path):
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "probe.py").write_text(DAG)
    return folder


def test_a_dag_is_triggered_followed_and_read_through_the_rest_api_and_nothing_stays_behind(postgres, tmp_path, dags):
    connections = {"somewhere": json.dumps({"conn_type": "http", "host": "far.example"})}
    with AirflowSandbox(tmp_path / "airflow", postgres, connections=connections, dags=dags) as airflow:
        airflow.wait_until_ready(dags=["probe"])
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
        family = psutil.Process(airflow.child.pid).children(recursive=True)
        assert len(family) > 4
    assert not any(is_alive(process) for process in family)


def test_a_dag_file_that_can_not_be_imported_ends_the_waiting_with_its_error(postgres, tmp_path, dags):
    (dags / "probe.py").write_text("from airflow.sdk import dag\nraise RuntimeError('broken on purpose')\n")
    airflow = AirflowSandbox(tmp_path / "airflow", postgres, dags=dags)
    with airflow, pytest.raises(SandboxError, match="broken on purpose"):
        airflow.wait_until_ready(dags=["probe"])


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
