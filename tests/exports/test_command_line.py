"""Exports as a person at a command line makes and restores them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifeboat.cli.program import run
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from tests.exports.conftest import Exporter

RunSql = Callable[..., list[tuple[Any, ...]]]
Command = Callable[..., tuple[int, str, str]]

GLASS = ("--break-glass", "a test")


@pytest.fixture
def words(exporter: Exporter, export_server: PostgresServer, database: str, tmp_path: Path) -> list[str]:
    """The options before the verb."""
    connections = tmp_path / "connections.json"
    connections.touch(mode=0o600)
    rows = {
        "demo_database": json.loads(export_server.airflow_connection("lifeboat")),
        "staging": json.loads(export_server.airflow_connection("postgres", database)),
    }
    connections.write_text(json.dumps(rows))
    return ["--policies", str(exporter.system.policies), "--connections", str(connections)]


@pytest.fixture
def lifeboat(words: list[str], export_server: PostgresServer, capfd: pytest.CaptureFixture[str]) -> Command:
    def call(*verb: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run([*words, *verb])
        out, err = capfd.readouterr()
        assert not any(password in out + err for password in export_server.passwords.values())
        return code, out, err

    return call


def stored(exporter: Exporter) -> bytes:
    return b"".join(path.read_bytes() for path in (exporter.directory / "primary").rglob("*") if path.is_file())


def test_a_table_that_was_emptied_by_mistake_comes_back(
    exporter: Exporter,
    lifeboat: Command,
    run_sql: RunSql,
    database: str,
    export_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    run_sql("CREATE TABLE users AS SELECT n, 'user ' || n AS name FROM generate_series(1, 100) AS n")
    run_sql("CREATE TABLE other AS SELECT 1 AS n")
    code, out, err = lifeboat("backup", "demo", "database", "--tier", "export", "--deep", "--json")
    assert code == 0, err
    (point,) = json.loads(out)["recovery_points"]
    assert point["kind"] == "export"
    assert sorted(point["copies"]) == ["local", "offsite", "primary"]
    assert "2 tables with 101 rows as json and csv" in json.loads(out)["message"]
    code, out, err = lifeboat(
        "backup", "demo", "database", "--tier", "export", "--only", "public.users", "--no-copy", "--json"
    )
    assert code == 0, err
    code, out, _ = lifeboat("list", "demo", "database", "--json")
    listed = json.loads(out)["sources"][0]["recovery_points"]
    assert [(one["kind"], one["tiers"]) for one in listed] == [("export", ["export"]), ("export", [])]
    assert listed[1]["findings"] == ["A partial export: public.users."]
    assert [one["only"] for one in listed] == [[], ["public.users"]]
    code, out, _ = lifeboat("list", "demo", "database")
    told = {row.split()[0]: " ".join(row.split()) for row in out.splitlines() if "-export-" in row}
    assert ["none (partial: public.users)" in told[one["id"]] for one in listed] == [False, True]
    code, out, err = lifeboat("verify", "demo", "--deep", "--target", "primary")
    assert code == 0, out + err

    run_sql("DELETE FROM users")
    restore = ("restore", "demo", "database", "--recovery-point", point["id"])
    users = (*restore, "--only", "public.users")
    code, out, err = lifeboat(*users, "--connection", "staging", "--plan")
    assert code == 0, err
    assert "public.users (100 rows, json) → public.users_restored" in " ".join(out.split())
    assert lifeboat(*users, "--connection", "staging", *GLASS)[0] == 1  # nobody to ask
    assert run_sql("SELECT to_regclass('users_restored')") == [(None,)]
    code, out, err = lifeboat(*users, "--connection", "staging", "--format", "csv", *GLASS, "--yes", "--json")
    assert code == 0, err
    assert json.loads(out)["restored"] == [
        {"table": "public.users", "as": "public.users_restored", "rows": 100, "made": True}
    ]
    code, out, err = lifeboat(*users, "--connection", "staging", "--as-table", "users", *GLASS, "--yes")
    assert code == 0, err
    assert run_sql("SELECT count(*), max(name) FROM users") == [(100, "user 99")]
    into = exporter.directory / "files"
    code, out, err = lifeboat(*restore, "--into", str(into), "--format", "json", "--yes")
    assert code == 0, err
    assert sorted(path.name for path in into.rglob("*.*") if path.is_file()) == ["other.jsonl", "users.jsonl"]

    for more, piece in [
        ((), "Say either --connection ID or --into DIR"),
        (("--connection", "staging"), "Nothing says which tables"),
        (("--connection", "staging", "--only", "public.*", "--as-table", "x"), "names one table, and 2"),
        (("--connection", "staging", "--only", "public.users"), "is there and not empty"),
        (("--connection", "nowhere", "--only", "public.users", "--as-table", "x"), "nowhere"),
        (("--into", str(into)), "is there already"),
        (("--into", str(into), "--format", "xml"), "no format 'xml'"),
        (("--into", str(into), "--only", "public.nobody"), "holds no table public.nobody"),
        (("--into", str(into / "more"), "--only", "users"), "names no table"),
    ]:
        code, out, err = lifeboat(*restore, *more, *GLASS, "--yes")
        assert (code, piece in " ".join(err.split())) == (1, True), (more, err)
    for more, piece in [
        (("--only", "public.users", "--connection", "staging"), "no logical archive"),
        (("--format", "csv", "--connection", "staging"), "are for an export"),
        (("--only", "public.users", "--into", str(into / "more")), "come from a logical archive or an export"),
        (("--with-globals", *restore[3:], "--connection", "staging"), "are for a logical archive"),
        ((), "It is not said where to"),
    ]:
        code, out, err = lifeboat("restore", "demo", "database", *more, "--yes")
        assert (code, piece in " ".join(err.split())) == (1, True), (more, err)
    everything = stored(exporter)
    assert not any(password.encode() in everything for password in export_server.passwords.values())
    events = [json.loads(path.read_bytes()) for path in (exporter.directory / "local").rglob("*command-restore*.json")]
    assert {event["kind"] for event in events} == {
        "restore_begun",
        "restore_ended",
        "restore_failed",
        "evidence_recorded",
    }


def test_an_export_that_is_killed_leaves_nothing_that_looks_whole_and_can_be_made_again(
    exporter: Exporter, words: list[str], run_sql: RunSql, export_server: PostgresServer
) -> None:
    run_sql("CREATE TABLE users AS SELECT n, repeat(md5(n::text), 40) AS noise FROM generate_series(1, 100000) AS n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "lifeboat.cli", *words, "backup", "demo", "database", "--tier", "export"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
    )  # fmt: skip
    copying = "SELECT FROM pg_stat_activity WHERE usename = 'lifeboat' AND query LIKE 'COPY%' AND state = 'active'"
    wait_until(lambda: bool(run_sql(copying)) or process.poll() is not None, within=60, what="rows are read")
    process.send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL, said
    assert exporter.committed() == []
    wait_until(
        lambda: run_sql("SELECT FROM pg_stat_activity WHERE usename = 'lifeboat'") == [],
        within=20,
        what="the server has taken notice",
    )
    run_sql("DELETE FROM users WHERE n > 10")
    assert exporter.export().manifest.details["rows"] == 10
