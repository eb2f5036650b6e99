"""A restore in the place of a database, killed with -9 in each phase: the name always answers with a whole one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat.cli.program import run
from lifeboat.postgres.logical_marks import UNPROVEN
from sandbox.accounts import CLONE
from sandbox.postgres import SUPERUSER
from sandbox.postgres_builds import binaries
from sandbox.processes import wait_until
from tests.logical.archives import DATABASE, Archives

KILLED = CLONE / "tests" / "recovery" / "killed_restore.py"
ROWS = "SELECT count(*) FROM sales.customers"


@pytest.fixture(scope="module")
def words(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command line's."""
    archives.back_up()
    connections = tmp_path_factory.mktemp("connections") / "connections.json"
    connections.touch(mode=0o600)
    connections.write_text(json.dumps({"home": json.loads(archives.home.airflow_connection(SUPERUSER))}))
    return [
        *("--policies", str(archives.system.policies), "--connections", str(connections)),
        *(
            "restore",
            "demo",
            "database",
            "--connection",
            "home",
            "--database",
            DATABASE,
            "--replace-database",
            "--break-glass",
            "a test",
            "--yes",
        ),
        *("--binaries", str(binaries())),
    ]


def programs_of(archives: Archives) -> list[psutil.Process]:
    """The client programs that are in the server."""
    port = str(archives.home.port)
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == "pg_restore" and port in Path(f"/proc/{process.pid}/environ").read_text():
                found.append(process)
        except OSError:
            continue
    return found


def left(archives: Archives) -> list[str]:
    return sorted(name for name in archives.databases() if name.startswith(UNPROVEN))


def sessions(archives: Archives) -> list[tuple[str, str]]:
    return archives.home.run_sql(  # type: ignore[return-value]
        "SELECT datname, application_name FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


def test_the_plan_says_to_a_person_and_to_a_program_what_gives_way(
    archives: Archives, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with archives.home.connect(database=DATABASE):
        assert run([*words, "--plan"]) == 0
        said = " ".join(capfd.readouterr().out.split())
        assert run([*words, "--plan", "--json"]) == 0
        (one,) = json.loads(capfd.readouterr().out)["databases"]
    assert f"the database {DATABASE} of " in said
    assert f"is renamed to {DATABASE}_before_20" in said
    assert "1 session in it is ended" in said
    assert one["replaces"]["sessions"] == 1
    assert one["replaces"]["size_bytes"] > 1_000_000
    assert one["new_name"] == DATABASE


@pytest.mark.parametrize("phase", ["restore", "check", "swap", "named"])
def test_nothing_runs_on_nothing_half_is_in_use_and_the_same_command_succeeds(
    archives: Archives, words: list[str], phase: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server = archives.home
    before = server.run_sql(ROWS, database=DATABASE)
    server.run_sql("CREATE TABLE IF NOT EXISTS public.newer (n int)", database=DATABASE)
    ended = subprocess.run(
        [sys.executable, str(KILLED), phase, *words],
        env={**os.environ, "PYTHONPATH": f"{CLONE / 'plugins'}:{CLONE}"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    wait_until(lambda: not sessions(archives) and not programs_of(archives), within=30, what="nothing of it runs")
    old = server.run_sql("SELECT to_regclass('public.newer') IS NOT NULL", database=DATABASE)
    assert old == [(phase != "named",)]
    assert server.run_sql(ROWS, database=DATABASE) == before
    assert server.run_sql("SELECT datallowconn, datconnlimit FROM pg_database WHERE datname = %s", [DATABASE]) == [
        (True, -1)
    ]
    # What it left has a name that says so; the next plan names it, and the next restore drops it first.
    remains = left(archives)
    assert len(remains) == (0 if phase == "named" else 1)
    capfd.readouterr()
    assert run(words) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert all(f"left the database {name}: it is dropped first." in said for name in remains)
    assert server.run_sql(ROWS, database=DATABASE) == before
    assert left(archives) == []
    for name in [name for name in archives.databases() if "_before_" in name]:
        server.run_sql(f'DROP DATABASE "{name}"')


def test_an_index_that_takes_hours_ends_with_the_worker_that_wanted_it(archives: Archives, words: list[str]) -> None:
    """``pg_restore`` has read everything by then: no end of its input tells it."""
    server = archives.home
    server.run_sql("CREATE DATABASE slow")
    with server.connect(database="slow") as session:
        session.execute(
            "CREATE FUNCTION public.slowly(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
            " IF current_database() <> 'slow' THEN PERFORM pg_catalog.pg_sleep(600); END IF; RETURN n; END $$"
        )
        session.execute("CREATE TABLE public.things AS SELECT 1 AS n")
        session.execute("CREATE INDEX ON public.things (public.slowly(n))")
    archives.back_up()
    words = [*(word if word != DATABASE else "slow" for word in words)]
    worker = subprocess.Popen(
        [sys.executable, "-m", "lifeboat.cli", *words],
        env={**os.environ, "PYTHONPATH": str(CLONE / "plugins")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    try:
        wait_until(lambda: bool(server.run_sql(asleep)), within=60, what="the index is being built")
        worker.kill()
        worker.wait()
        wait_until(lambda: not sessions(archives) and not programs_of(archives), within=15, what="nothing of it runs")
    finally:
        worker.kill()
        server.run_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        for name in ("slow", *left(archives)):
            server.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
