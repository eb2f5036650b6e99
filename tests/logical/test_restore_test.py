"""The restore test of logical archives: brought back into a server that is made for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifeboat.recovery.evidence import Record
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.recovery.sql_checks import parse_check
from lifeboat.repository.manifest import Run
from sandbox.accounts import remove_server_directory, server_directory
from tests.logical.archives import DATABASE, SOURCE, Archives

CHECK = parse_check(
    "customers.sql", f"-- source: {SOURCE}\n-- database: {DATABASE}\n-- expect: 1 or more\n"
    "SELECT count(*) FROM sales.customers",
)  # fmt: skip


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    link = tmp_path / "scratch"
    yield server_directory(link)
    remove_server_directory(link)


def a_test_of(archives: Archives, scratch: Path) -> Record:
    wish = Wish(sources=(SOURCE,), scratch=scratch, checks=(CHECK,), seed=1)
    return RestoreTest(archives.repository, wish, Run(command="a test"), "a test").carry_out()


def test_archives_with_something_of_everything_come_back_and_every_row_is_compared(
    archives: Archives, scratch: Path
) -> None:
    first, second = archives.back_up(), archives.back_up()
    record = a_test_of(archives, scratch)
    for proof in record.proofs:
        assert proof.passed, (proof.error, proof.checks)
    newest, drawn = record.proofs
    assert [newest.recovery_point, drawn.recovery_point] == [
        second.manifest.recovery_point, first.manifest.recovery_point
    ]  # fmt: skip
    assert [check.name for check in newest.checks] == [
        "every row", "pg_amcheck", "customers.sql", "recovery time", "recovery point"
    ]  # fmt: skip
    assert set(newest.milliseconds) == {"restore", "check"}
    assert newest.data_until == second.manifest.moment
    assert list(scratch.iterdir()) == []


def test_an_archive_of_a_server_with_tablespaces_makes_none_of_them(
    own_archives: Callable[..., Archives], tmp_path: Path, scratch: Path
) -> None:
    """They would lie where they lay on the lost server: in what may be a living one's directory."""
    archives = own_archives()
    place = server_directory(tmp_path / "space")
    try:
        archives.server.run_sql(f"CREATE TABLESPACE far LOCATION '{place}'")
        archives.server.run_sql(f'CREATE DATABASE "{DATABASE}"')
        archives.server.run_sql("CREATE SCHEMA sales", database=DATABASE)
        archives.server.run_sql("CREATE TABLE sales.customers (n int) TABLESPACE far", database=DATABASE)
        archives.server.run_sql("INSERT INTO sales.customers VALUES (1)", database=DATABASE)
        archives.back_up()
        before = sorted(path.name for path in place.iterdir())
        record = a_test_of(archives, scratch)
        assert record.passed, record.proofs
        assert sorted(path.name for path in place.iterdir()) == before
    finally:
        archives.server.destroy()
        remove_server_directory(tmp_path / "space")


def test_an_archive_that_is_damaged_fails_and_leaves_no_server(
    own_archives: Callable[..., Archives], scratch: Path
) -> None:
    archives = own_archives(filled=True)
    copy = archives.back_up()
    folder = archives.system.policy.parents[2] / "primary" / "demo" / SOURCE / copy.manifest.recovery_point
    largest = max(folder.rglob("*.enc"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.chmod(0o600)
    largest.write_bytes(data)
    record = a_test_of(archives, scratch)
    (proof,) = record.proofs
    assert not proof.passed
    assert proof.error
    assert list(scratch.iterdir()) == []
