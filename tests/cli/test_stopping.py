"""Ctrl-C and SIGTERM in the middle of the work: it ends soon, says so, and leaves nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from typing import Any

import psutil
import pytest

from lifeboat.aws_clients import aws_clients
from sandbox.postgres import PostgresServer
from sandbox.postgres_template import Template
from sandbox.processes import is_alive, wait_until
from sandbox.s3_servers import S3Server
from tests.cli.conftest import Protected, Said, protect
from tests.cli.stalling_proxy import StallingProxy

CODES = [pytest.param(signal.SIGINT, 130, id="SIGINT"), pytest.param(signal.SIGTERM, 143, id="SIGTERM")]
SOON = 20


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]) -> Iterator[Protected]:
    """A system whose full takes long, with one small WAL-less full on record from before it was slow."""
    root = tmp_path_factory.mktemp("slow")
    with ExitStack() as stack:
        server = stack.enter_context(
            PostgresServer(root / "postgres", settings={"fsync": "off"}, template=postgres_template(18))
        )
        server.run_sql("CREATE TABLE noise (text text STORAGE EXTERNAL)")
        server.run_sql(
            "INSERT INTO noise SELECT"
            " (SELECT string_agg(md5((n * 50000 + m)::text), '') FROM generate_series(1, 1000) m)"
            " FROM generate_series(1, 1500) n"
        )
        yield protect(root, server, stack, replacing={'tls: "off"': 'tls: "off"\n    max_rate: 12 MiB/s'})


@cache
def client_of(server: S3Server) -> Any:
    return aws_clients(server.connection("primary"))("s3")


def uploads(protected: Protected) -> list[str]:
    """The multipart uploads that the primary store knows of."""
    client = client_of(protected.primary)
    try:
        return [row["Key"] for row in client.list_multipart_uploads(Bucket="backups").get("Uploads", [])]
    except client.exceptions.NoSuchUpload:  # rclone's way to say none
        return []


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_backup_that_is_stopped_leaves_no_object_no_upload_and_no_slot(
    slow: Protected, number: signal.Signals, code: int
) -> None:
    before = [key for key in slow.primary_keys() if "/journal/" not in key]
    process = slow.start("backup", "demo", "database", "--tier", "daily")

    def far_enough() -> bool:
        rows = slow.server.run_sql("SELECT backup_streamed FROM pg_stat_progress_basebackup")
        return bool(rows) and (rows[0][0] or 0) > 24_000_000 and bool(uploads(slow))

    wait_until(far_enough, within=90, what="the backup is under way")
    process.send_signal(number)
    out, err = process.communicate(timeout=SOON)
    assert process.returncode == code, err
    assert "Stopped" in err
    assert out == ""
    # Hidden files, too: a multipart upload under way is one.
    assert [key for key in slow.primary_keys() if "/journal/" not in key] == before
    assert uploads(slow) == []
    wait_until(
        lambda: slow.server.run_sql("SELECT slot_name FROM pg_replication_slots WHERE temporary OR active") == [],
        within=SOON,
        what="the server has taken notice",
    )


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_restore_that_is_stopped_while_the_store_is_silent_leaves_no_file_and_no_process(
    ledger_offsite: tuple[Protected, StallingProxy], number: signal.Signals, code: int
) -> None:
    protected, proxy = ledger_offsite
    proxy.stalled.clear()
    place = protected.restores
    process = protected.start(
        *("restore", "demo", "database", "--target", "offsite", "--into", str(place / "data"), "--yes"),
    )
    assert proxy.stalled.wait(60), process.communicate(timeout=SOON)
    wait_until(lambda: any(place.iterdir()), within=SOON, what="the restore is under way")
    children = family(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=SOON)
    assert process.returncode == code, err
    assert "Stopped" in err
    assert list(place.iterdir()) == []
    events = [json.loads(path.read_bytes()) for path in protected.offsite.root.rglob("*command-restore*.json")]
    assert {event["details"].get("error") for event in events if event["kind"] == "restore_failed"} == {"Cancelled"}
    assert not any(child.is_running() for child in children)


@pytest.fixture(scope="module")
def ledger_offsite(
    tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]
) -> Iterator[tuple[Protected, StallingProxy]]:
    """A system with a full, whose off-site store falls silent in the middle of it."""
    from lifeboat.cli.program import run

    root = tmp_path_factory.mktemp("silent")
    with ExitStack() as stack:
        server = stack.enter_context(
            PostgresServer(root / "postgres", settings={"fsync": "off"}, template=postgres_template(18))
        )
        protected = protect(root, server, stack)
        assert run([*protected.options(), "backup", "demo", "database", "--tier", "daily"]) == 0
        proxy = stack.enter_context(StallingProxy(protected.offsite.port, after=1_000_000))
        found = json.loads(protected.connections.read_text())
        connection = protected.offsite.connection("demo_offsite")
        found["demo_offsite"] = {
            "conn_type": "aws",
            "login": connection.login,
            "password": connection.password,
            "extra": dict(connection.extra) | {"endpoint_url": proxy.endpoint},
        }
        protected.connections.write_text(json.dumps(found))
        yield protected, proxy


def test_following_ends_at_ctrl_c_after_what_was_written_is_committed_copied_and_published(
    protected: Protected, lifeboat: Callable[..., Said]
) -> None:
    protected.server.run_sql("CREATE TABLE ledger (n int PRIMARY KEY)")
    assert lifeboat(protected, "backup", "demo", "database", "--tier", "daily", "--no-copy").code == 0
    process = protected.start("backup", "demo", "database", "--tier", "wal", "--follow", "--json")
    following = (
        "SELECT true FROM pg_stat_replication WHERE flush_lsn IS NOT NULL AND application_name LIKE 'lifeboat wal%'"
    )
    wait_until(lambda: bool(protected.server.run_sql(following)), within=180, what="it follows")
    protected.server.run_sql("INSERT INTO ledger VALUES (1)")
    [(moment,)] = protected.server.run_sql("SELECT clock_timestamp()")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert "Ending after" in err
    *_, last = json.loads(out)["recovery_points"]
    assert datetime.fromisoformat(last["moment"]) >= moment
    assert sorted(last["copies"]) == ["local", "offsite", "primary"]


def test_following_needs_a_tier_that_can_and_a_length_that_is_one(
    slow: Protected, lifeboat: Callable[..., Said]
) -> None:
    for words in (
        ("--tier", "daily", "--follow"),
        ("--tier", "wal", "--for", "15m"),
        ("--tier", "wal", "--follow", "--for", "a while"),
    ):
        assert lifeboat(slow, "backup", "demo", "database", *words).code == 2


TASK = """
import sys
from pathlib import Path
from lifeboat.connections import outside_from
from lifeboat.operators.own_program import OwnProgram
from lifeboat.policy.loading import load_policy

policy, connections, *words = sys.argv[1:]
outside = outside_from({}, Path(connections))
OwnProgram(load_policy(Path(policy)), outside, tell=lambda line: None, tick=lambda: None).run(words)
"""
"""What a task of the restore's DAG does with the command line."""


def test_a_task_killed_with_9_takes_its_restore_along_which_leaves_nothing_and_can_go_again(
    ledger_offsite: tuple[Protected, StallingProxy],
) -> None:
    protected, proxy = ledger_offsite
    proxy.stalled.clear()
    place = protected.restores
    words = ["restore", "demo", "database", "--into", str(place / "data"), "--yes"]
    policy = protected.system.policies / "demo.yaml"
    task = subprocess.Popen(
        [sys.executable, "-c", TASK, str(policy), str(protected.connections), *words, "--target", "offsite"],
        env=protected.environment(),
    )
    assert proxy.stalled.wait(60)
    wait_until(lambda: any(place.iterdir()), within=SOON, what="the restore is under way")
    children = family(task.pid)
    assert children
    task.kill()
    task.wait()
    wait_until(lambda: not any(is_alive(child) for child in children), within=SOON, what="nothing of it runs on")
    assert list(place.iterdir()) == []
    again = protected.start(*words, "--target", "primary")
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert (place / "data" / "PG_VERSION").is_file()
    shutil.rmtree(place / "data")
