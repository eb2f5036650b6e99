from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import Cancelled, PostgresError
from lifeboat.outside import Connection, utc_now
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.preflight import preflight
from lifeboat.postgres.preflight_settings import (
    capacity_findings,
    incremental_findings,
    setting_findings,
    synchronous_findings,
    version_findings,
)
from lifeboat.postgres.preflight_slot import SlotState, slot_findings
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.server_facts import server_facts
from lifeboat.targets.target import Finding
from sandbox.accounts import hand_over
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role

MAJOR_WITH_TLS = 16
SLOT = "lifeboat_erp"


def parameters_of(server: PostgresServer, user: str = "lifeboat") -> ConnectionParameters:
    extra = {} if server.certificates is None else {"sslrootcert": str(server.certificates.authority)}
    connection = Connection("erp_db", "postgres", "127.0.0.1", server.port, user, server.passwords[user], extra=extra)
    return connection_parameters(connection, Tls("off" if server.certificates is None else "verify-full"))


def look(
    server: PostgresServer,
    user: str = "lifeboat",
    *,
    clock: Callable[[], datetime] = utc_now,
    tiers: Collection[str] = ("wal", "daily"),
    **more: Any,
) -> list[Finding]:
    parameters = parameters_of(server, user)
    with connect_sql(parameters) as sql:
        return preflight(
            sql,
            lambda: ReplicationConnection(parameters),
            parameters=parameters,
            slot_name=SLOT,
            tiers=tiers,
            clock=clock,
            **more,
        )


def about(findings: list[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


def errors(findings: list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.remedy for finding in findings if finding.severity == "error"}


def test_the_least_privileged_role_passes(postgres_of_major: PostgresServer) -> None:
    create_backup_role(postgres_of_major)
    findings = look(postgres_of_major)
    assert errors(findings) == {}
    assert {finding.subject for finding in findings if finding.severity == "warning"} == {
        "fsync",  # the tests' own servers
        "max_slot_wal_keep_size",
        "tls",
    }
    assert "first backup makes it" in about(findings, "slot").what


def test_every_missing_privilege_is_named_and_its_remedy_is_enough(postgres: PostgresServer) -> None:
    postgres.run_sql("CREATE ROLE poor LOGIN PASSWORD 'secret-word'")
    postgres.passwords["poor"] = "secret-word"
    findings = look(postgres, "poor")
    assert set(errors(findings)) == {"role", "pg_switch_wal", "replication connection"}
    assert about(findings, "pg_read_all_settings").severity == "warning"
    assert "hostnossl replication poor" in errors(findings)["replication connection"]
    postgres.allow("replication", "poor")
    for subject in ("role", "pg_switch_wal", "pg_read_all_settings"):
        remedy = about(findings, subject).remedy
        postgres.run_sql(remedy.removeprefix("In database postgres: "))
    findings = look(postgres, "poor")
    assert errors(findings) == {}
    assert "pg_read_all_settings" not in {finding.subject for finding in findings}
    assert "secret-word" not in repr(findings)


def test_switching_wal_is_asked_for_only_where_wal_is_collected(postgres: PostgresServer) -> None:
    postgres.run_sql("CREATE ROLE poor LOGIN REPLICATION PASSWORD 'secret-word'")
    postgres.passwords["poor"] = "secret-word"
    postgres.allow("replication", "poor")
    assert errors(look(postgres, "poor", tiers=("daily",))) == {}


def test_settings_that_forbid_a_backup_are_errors(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(
        settings={
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "max_replication_slots": "0",
            "full_page_writes": "off",
            "archive_mode": "off",
        }
    )
    create_backup_role(server)
    found = errors(look(server))
    assert set(found) == {
        "wal_level",
        "max_wal_senders",
        "max_replication_slots",
        "full_page_writes",
        "replication connection",
    }
    assert found["wal_level"].startswith("ALTER SYSTEM SET wal_level = 'replica';")
    assert "Raise max_wal_senders" in found["replication connection"]


def test_senders_and_slots_that_are_taken_are_counted(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(settings={"max_wal_senders": "2", "max_replication_slots": "1"})
    create_backup_role(server)
    server.run_sql("SELECT pg_create_physical_replication_slot('of_a_standby')")
    with ReplicationConnection(parameters_of(server)):
        findings = look(server)
    assert about(findings, "max_wal_senders").severity == "warning"
    assert "pg_drop_replication_slot" in errors(findings)["max_replication_slots"]


def test_a_healthy_slot_is_described(postgres: PostgresServer) -> None:
    create_backup_role(postgres)
    postgres.run_sql(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
    found = about(look(postgres), "slot")
    assert found.severity == "ok"
    assert "reserved" in found.what
    assert "bytes behind" in found.what


def test_a_slot_in_use_names_its_user(postgres: PostgresServer) -> None:
    create_backup_role(postgres)
    postgres.run_sql(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
    with ReplicationConnection(parameters_of(postgres)) as replication:
        start = replication.identify_system().position
        replication.pgconn.send_query(f"START_REPLICATION SLOT {SLOT} PHYSICAL {start}".encode())
        replication.next_result(float("inf"))
        found = [finding for finding in look(postgres) if finding.subject == "slot"]
    assert [finding.severity for finding in found] == ["warning", "ok"]
    assert "lifeboat from 127.0.0.1" in found[0].what
    assert "pg_terminate_backend" in found[0].remedy


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (f"SELECT pg_create_physical_replication_slot('{SLOT}')", "keeps no WAL"),
        (f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')", "logical slot of somebody else"),
    ],
)
def test_a_slot_that_can_not_serve_is_an_error(
    make_postgres: Callable[..., PostgresServer], make: str, what: str
) -> None:
    server = make_postgres(settings={"wal_level": "logical"})
    create_backup_role(server)
    server.run_sql(make)
    found = about(look(server), "slot")
    assert found.severity == "error"
    assert what in found.what


def test_a_lost_slot_is_an_error(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(
        settings={"max_slot_wal_keep_size": "1MB", "min_wal_size": "2MB", "max_wal_size": "2MB"},
        initdb_arguments=("--wal-segsize=1",),
    )
    create_backup_role(server)
    server.run_sql(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
    for _ in range(5):
        server.run_sql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))")
        server.run_sql("SELECT pg_switch_wal()")
    server.run_sql("CHECKPOINT")
    found = about(look(server), "slot")
    assert found.severity == "error"
    assert "is lost" in found.what
    assert "new full backup" in found.remedy
    assert about(look(server), "max_slot_wal_keep_size").severity == "ok"


def slot(**changed: object) -> SlotState:
    values = {
        "name": SLOT,
        "kind": "physical",
        "temporary": False,
        "active_pid": None,
        "active_by": "",
        "restart": None,
        "wal_status": "unreserved",
        "safe_bytes": -5,
        "lag_bytes": 7,
    }
    return SlotState(**(values | changed))  # type: ignore[arg-type]


def test_a_slot_about_to_lose_wal_is_urgent() -> None:
    (found,) = slot_findings(SLOT, slot(restart=Lsn(1)))
    assert found.severity == "warning"
    assert "next checkpoint" in found.what
    assert "Run WAL collection now" in found.remedy


@pytest.mark.parametrize(
    ("version", "severity"), [(140010, "error"), (150000, "ok"), (180006, "ok"), (190001, "error")]
)
def test_versions_outside_what_was_tested_are_refused(version: int, severity: str) -> None:
    (found,) = version_findings(version)
    assert found.severity == severity


def test_settings_that_put_backups_at_risk_are_warnings() -> None:
    settings = {
        "wal_level": "logical",
        "full_page_writes": "on",
        "fsync": "off",
        "data_checksums": "off",
        "max_slot_wal_keep_size": "-1",
        "idle_replication_slot_timeout": "3600",
        "archive_mode": "on",
        "max_wal_senders": "10",
        "max_replication_slots": "10",
    }
    findings = setting_findings(settings)
    assert {finding.subject for finding in findings if finding.severity == "warning"} == {
        "fsync",
        "data_checksums",
        "max_slot_wal_keep_size",
        "idle_replication_slot_timeout",
    }
    assert [f.severity for f in capacity_findings(settings, 9, 10, slot_exists=True)] == ["warning", "ok"]


def test_a_standby_is_refused(postgres: PostgresServer) -> None:
    create_backup_role(postgres)
    postgres.stop()
    signal = postgres.data_directory / "standby.signal"
    signal.touch()
    hand_over(signal)
    postgres.start()
    assert "primary" in errors(look(postgres))["server role"]


def test_tls_is_reported_as_it_is(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(major=MAJOR_WITH_TLS, tls=True)
    create_backup_role(server)
    found = about(look(server), "tls")
    assert found.severity == "ok"
    assert "TLSv1.3" in found.what
    assert "verify-full" in found.what


def test_a_superuser_and_a_password_that_ends_are_warnings(postgres: PostgresServer) -> None:
    assert about(look(postgres, "postgres"), "role").severity == "warning"
    create_backup_role(postgres)
    postgres.run_sql("ALTER ROLE lifeboat VALID UNTIL '2096-11-30'")
    soon = datetime(2096, 11, 22, tzinfo=UTC)
    warnings = [finding.what for finding in look(postgres, clock=lambda: soon) if finding.severity == "warning"]
    assert any("valid until 2096-11-30" in what for what in warnings)


def test_clocks_that_differ_are_a_warning(postgres: PostgresServer) -> None:
    create_backup_role(postgres)
    assert about(look(postgres), "clock").severity == "ok"
    for hours in (-1, 1):
        found = about(look(postgres, clock=lambda hours=hours: utc_now() + timedelta(hours=hours)), "clock")  # type: ignore[misc]
        assert found.severity == "warning"
        assert "differ by 3" in found.what


def test_tablespaces_unlogged_tables_and_files_outside_are_listed(
    make_postgres: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    server = make_postgres(settings={"allow_in_place_tablespaces": "on"})
    create_backup_role(server)
    outside = server.data_directory.parent / "outside"
    outside.mkdir()
    shutil.chown(outside, server.data_directory.stat().st_uid)
    server.run_sql(f"CREATE TABLESPACE outside LOCATION '{outside}'")
    server.run_sql("CREATE TABLESPACE inside LOCATION ''")
    server.run_sql("CREATE UNLOGGED TABLE scratch (x int)")
    rules = server.data_directory.parent / "rules.conf"
    shutil.copy(server.data_directory / "pg_hba.conf", rules)
    hand_over(rules)
    server.write_settings(hba_file=str(rules))
    server.restart()
    findings = look(server)
    assert sorted("inside the data" in f.what for f in findings if f.subject == "tablespace") == [False, True]
    assert "1 unlogged tables" in about(findings, "unlogged tables").what
    assert str(rules) in about(findings, "configuration").what
    with connect_sql(parameters_of(server)) as sql:
        facts = server_facts(sql)
    assert facts.files_outside == {"hba_file": str(rules)}
    assert {(space.name, space.in_place) for space in facts.tablespaces} == {("inside", True), ("outside", False)}


def test_a_tablespace_that_postgresql_15_would_leave_out_is_an_error(
    make_postgres: Callable[..., PostgresServer],
) -> None:
    server = make_postgres(major=15, settings={"allow_in_place_tablespaces": "on"})
    create_backup_role(server)
    server.run_sql("CREATE TABLESPACE inside LOCATION ''")
    assert "16 or later" in errors(look(server))["tablespace"]


def test_two_servers_at_one_address_are_found(make_postgres: Callable[..., PostgresServer]) -> None:
    one, other = make_postgres(own_identity=True), make_postgres(own_identity=True)
    for server in (one, other):
        create_backup_role(server)
    with connect_sql(parameters_of(one)) as sql:
        findings = preflight(
            sql,
            lambda: ReplicationConnection(parameters_of(other)),
            parameters=parameters_of(one),
            slot_name=SLOT,
        )
    assert "two servers answer" in about(findings, "replication connection").what


def test_a_cancellation_gets_through_and_a_lost_connection_is_an_error(postgres: PostgresServer) -> None:
    create_backup_role(postgres)

    def cancelled() -> ReplicationConnection:
        raise Cancelled("The task was stopped.")

    parameters = parameters_of(postgres)
    with connect_sql(parameters) as sql:
        with pytest.raises(Cancelled):
            preflight(sql, cancelled, parameters=parameters, slot_name=SLOT)
        postgres.kill()
        with pytest.raises(PostgresError, match="connection was lost"):
            preflight(sql, cancelled, parameters=parameters, slot_name=SLOT)


@pytest.mark.parametrize(("kept", "warned"), [("0", False), ("720", False), ("719", True)])
def test_summaries_kept_for_less_than_two_intervals_are_a_warning(kept: str, warned: bool) -> None:
    settings = {"summarize_wal": "on", "wal_summary_keep_time": kept}
    look = partial(incremental_findings, 18, settings, runs=True, instead_full=False)
    warnings = [finding for finding in look(interval=timedelta(hours=6)) if finding.severity == "warning"]
    assert [finding.subject for finding in warnings] == ["wal_summary_keep_time"] * warned
    assert all("SET wal_summary_keep_time = '14400min'" in finding.remedy for finding in warnings)
    assert {finding.severity for finding in look(interval=None)} == {"ok"}


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        ("", False),
        ("*", True),
        ("FIRST 1 (standby1, *)", True),
        ("standby1, standby2", False),
        ('ANY 1 (standby1, "Lifeboat WAL shop database")', True),
        ('"lifeboat wal shop"', False),
        ("2 (lifeboat, wal, shop)", False),
    ],
)
def test_standby_names_that_name_our_receiver_are_a_warning(names: str, warned: bool) -> None:
    findings = synchronous_findings(names, "lifeboat wal shop database")
    assert [finding.severity for finding in findings] == ["warning"] * warned


def test_both_are_asked_of_the_server_and_only_where_they_matter(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(settings={"summarize_wal": "on", "wal_summary_keep_time": "1h"})
    create_backup_role(server)
    server.write_settings(synchronous_standby_names="*")
    server.restart()
    subjects = {"wal_summary_keep_time", "synchronous_standby_names"}
    wanted = {"interval": timedelta(hours=6), "receiver": "lifeboat wal erp db"}
    found = {finding.subject for finding in look(server, tiers=("wal", "daily", "incremental"), **wanted)}
    assert subjects <= found
    assert not subjects & {finding.subject for finding in look(server)}
