"""What a store, or somebody who can write to it, may do to an export, and a worker that dies: it is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import KeyUnavailable, LifeboatError, ManifestInvalid, RecoveryPointMissing
from lifeboat.repository.catalogue import Copy
from lifeboat.streams.key_making import new_local_key, write_secret
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role
from sandbox.processes import wait_until
from tests.damaged_page import make_rotten
from tests.exports.conftest import SOURCE, Exporter
from tests.exports.test_round_trip import restore

RunSql = Callable[..., list[tuple[Any, ...]]]
Damage = Callable[[Path, Path, Path], None]
"""An object, another one of the same recovery point, and the same one of another recovery point."""


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))


DAMAGES: dict[str, Damage] = {
    "flipped": lambda path, _, __: rewrite(path, lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]),
    "truncated": lambda path, _, __: rewrite(path, lambda data: data[:-1]),
    "empty": lambda path, _, __: rewrite(path, lambda _data: b""),
    "longer": lambda path, _, __: rewrite(path, lambda data: data + b"\0"),
    "gone": lambda path, _, __: path.unlink(),
    "swapped": lambda path, beside, _: rewrite(path, lambda _data: beside.read_bytes()),
    "of another export": lambda path, _, other: rewrite(path, lambda _data: other.read_bytes()),
}


@pytest.fixture
def exports(exporter: Exporter, run_sql: RunSql) -> tuple[Copy, Copy]:
    run_sql("CREATE TABLE users AS SELECT n, md5(n::text) AS text FROM generate_series(1, 500) AS n")
    return exporter.export(), exporter.export()


def attempt_of(exporter: Exporter, copy: Copy) -> Path:
    return exporter.directory / "primary" / copy.manifest.folder.attempt(copy.manifest.attempt)


def test_any_damage_to_any_object_is_found_and_nothing_is_restored(
    exporter: Exporter, run_sql: RunSql, exports: tuple[Copy, Copy], database: str
) -> None:
    copy, other = exports
    files = [volume.file for stream in copy.manifest.streams for volume in stream.volumes]
    assert len(files) == 2
    for place, file in enumerate(files):
        path = attempt_of(exporter, copy) / file
        beside, elsewhere = attempt_of(exporter, copy) / files[1 - place], attempt_of(exporter, other) / file
        good = path.read_bytes()
        for damage in DAMAGES.values():
            damage(path, beside, elsewhere)
            with pytest.raises(LifeboatError):
                exporter.verify(copy)
            with pytest.raises(LifeboatError):
                restore(exporter, copy, database=database)
            assert run_sql("SELECT to_regclass('users_restored')") == [(None,)]
            path.unlink(missing_ok=True)
            path.write_bytes(good)
    assert exporter.verify(copy).rows == 1000
    restore(exporter, copy, database=database)


def test_an_older_manifest_in_a_newer_ones_place_and_a_missing_newest_one_show(
    exporter: Exporter, exports: tuple[Copy, Copy]
) -> None:
    older, newer = exports
    root = exporter.directory / "primary"
    catalogue = exporter.repository.catalogue("primary")
    mark = root / newer.manifest.folder.manifest
    good = mark.read_bytes()
    rewrite(mark, lambda _data: (root / older.manifest.folder.manifest).read_bytes())
    with pytest.raises(ManifestInvalid, match="belongs to"):
        catalogue.read(newer.manifest.folder)
    assert [bad.folder for bad in catalogue.recovery_points(SOURCE).unreadable] == [newer.manifest.folder]
    rewrite(mark, lambda _data: good)
    mark.unlink()
    with pytest.raises(RecoveryPointMissing):
        catalogue.find(SOURCE, newer.manifest.recovery_point)


def test_another_key_opens_nothing(exporter: Exporter, exports: tuple[Copy, Copy], tmp_path: Path) -> None:
    own, policy = exporter.system.keys / "local.key", exporter.system.policy
    write_secret(tmp_path / "another.key", new_local_key())
    text = policy.read_text()
    assert str(own) in text
    policy.write_text(text.replace(str(own), str(tmp_path / "another.key")))
    stranger = Exporter(exporter.directory, exporter.server, exporter.system)
    with pytest.raises(KeyUnavailable):
        stranger.verify(exports[0])
    assert exporter.verify(exports[0]).rows == 1000


def test_a_worker_killed_with_9_commits_nothing_and_the_next_try_succeeds(
    exporter: Exporter, run_sql: RunSql, export_server: PostgresServer, tmp_path: Path
) -> None:
    run_sql("CREATE TABLE large AS SELECT n, repeat(md5(n::text), 40) AS noise FROM generate_series(1, 80000) AS n")
    connections = tmp_path / "connections.json"
    connections.touch(mode=0o600)
    connections.write_text(json.dumps({"demo_database": json.loads(export_server.airflow_connection("lifeboat"))}))
    options = ["--policies", str(exporter.system.policies), "--connections", str(connections)]
    worker = subprocess.Popen(
        [sys.executable, "-m", "lifeboat.cli", *options, "backup", "demo", "database", "--tier", "export", "--no-copy"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    copying = "SELECT FROM pg_stat_activity WHERE usename = 'lifeboat' AND state = 'active' AND query LIKE 'COPY%'"
    wait_until(lambda: bool(run_sql(copying)), within=90, what="the worker reads a table")
    worker.kill()
    worker.wait()
    ours = "SELECT FROM pg_stat_activity WHERE usename = 'lifeboat'"
    wait_until(lambda: not run_sql(ours), within=30, what="the server has ended its sessions")
    assert exporter.committed() == []
    assert exporter.export().manifest.sequence == 1


def test_a_damaged_page_of_the_source_fails_the_export_and_nothing_is_committed(
    make_postgres: Callable[..., PostgresServer], make_exporter: Callable[..., Exporter]
) -> None:
    server = make_postgres()
    create_backup_role(server)
    server.run_sql("GRANT pg_read_all_data TO lifeboat")
    make_rotten(server)
    exporter = make_exporter(server=server, databases="postgres")
    with pytest.raises(LifeboatError, match="invalid page"):
        exporter.export()
    assert exporter.committed() == []
