"""The restore test of logical archives on a staging server that others use."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lifeboat.cli.program import run
from lifeboat.errors import Cancelled
from lifeboat.outside import Connection, Outside
from lifeboat.policy.loading import load_policy
from lifeboat.postgres.logical_marks import TEST, UNPROVEN, mark_of, marked_name
from lifeboat.recovery import staging_server
from lifeboat.recovery.evidence import Proof, Record
from lifeboat.recovery.reporting import reports_of
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.recovery.sql_checks import SqlCheck, parse_check
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository
from sandbox.accounts import remove_server_directory, server_directory
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.processes import wait_until
from tests.logical.archives import DATABASE, SOURCE, Archives
from tests.logical.killed_test import killed_test
from tests.recovery.line import system_in

ROLE = "tester"
SMALL = "small"
LOOKED_AT = [
    "every row",
    "pg_amcheck",
    "rows.sql",
    "application",
    "removed",
    "recovery time",
    "recovery point",
]
HOOK = (
    '[sh, -c, "\\"$LIFEBOAT_BINARIES/psql\\" -Atc \'SELECT current_user, count(*) FROM things\' && echo $PGPASSWORD"]'
)
TESTS = f"""\
tests:
  schedule: "0 6 * * 1#1"
  connection: staging
  application:
    {SOURCE}: {{kind: command, command: {HOOK}}}
"""


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with a system identifier of its own, a database of somebody's, and a role that may make databases."""
    server = PostgresServer(
        tmp_path_factory.mktemp("staging") / "server", settings={"fsync": "off", "max_prepared_transactions": "5"}
    )
    with server:
        server.run_sql(f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD 'tested'")
        server.passwords[ROLE] = "tested"
        server.run_sql("CREATE DATABASE theirs")
        server.run_sql("CREATE TABLE precious AS SELECT 1 AS n", database="theirs")
        yield server
    remove_server_directory(server.directory)


@pytest.fixture(scope="module")
def small(
    tmp_path_factory: pytest.TempPathFactory, module_server: Callable[..., PostgresServer], staging: PostgresServer
) -> Archives:
    """A system with one small database of a role that the staging server does not have, and an archive of it."""
    server = module_server()
    server.run_sql("CREATE ROLE clerk")
    server.run_sql(f"CREATE DATABASE {SMALL} OWNER clerk")
    server.run_sql("CREATE SCHEMA stock", database=SMALL)
    server.run_sql("CREATE TABLE stock.things AS SELECT generate_series(1, 500) AS n", database=SMALL)
    server.run_sql("ALTER TABLE stock.things OWNER TO clerk", database=SMALL)
    server.run_sql("GRANT SELECT ON stock.things TO PUBLIC", database=SMALL)
    server.run_sql(f"ALTER DATABASE {SMALL} SET search_path TO stock, public")
    server.run_sql(f"ALTER DATABASE {SMALL} SET session_preload_libraries TO 'auto_explain'")
    server.run_sql(f"ALTER DATABASE {SMALL} SET log_min_duration_statement TO 0")  # a superuser's
    server.run_sql(f"ALTER ROLE clerk IN DATABASE {SMALL} SET work_mem TO '5MB'")
    archives = Archives(server, system_in(tmp_path_factory.mktemp("small")))
    give_its_test(archives)
    archives.staging = (staging, SUPERUSER)
    archives.back_up()
    return archives


def give_its_test(archives: Archives) -> None:
    """Give a system's policy its restore test."""
    policy = archives.system.policy
    policy.write_text(policy.read_text(encoding="utf-8") + TESTS, encoding="utf-8")
    archives.repository = SystemRepository(load_policy(policy), archives.repository.outside)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    link = tmp_path / "scratch"
    yield server_directory(link)
    remove_server_directory(link)


@pytest.fixture(autouse=True)
def as_it_was(staging: PostgresServer) -> Iterator[None]:
    """Whatever a test does, the server has what it had, and nothing more."""
    roles = "SELECT rolname FROM pg_roles ORDER BY 1"
    before = databases(staging), staging.run_sql(roles)
    yield
    assert (databases(staging), staging.run_sql(roles)) == before
    assert staging.run_sql("SELECT n FROM precious", database="theirs") == [(1,)]


def databases(server: PostgresServer) -> set[str]:
    return {str(name) for (name,) in server.run_sql("SELECT datname FROM pg_database")}


def ours(server: PostgresServer) -> list[str]:
    return sorted(name for name in databases(server) if name.startswith((TEST, UNPROVEN)))


def rows(expect: str = "500 or more", database: str = SMALL) -> SqlCheck:
    # Without its schema: the database's own search path leads to it.
    query = "SELECT count(*) FROM things"
    return parse_check("rows.sql", f"-- source: {SOURCE}\n-- database: {database}\n-- expect: {expect}\n{query}")


def a_test_of(
    archives: Archives, scratch: Path, *, check: SqlCheck | None = None, tick: Callable[[], None] = lambda: None
) -> Record:
    wish = Wish(sources=(SOURCE,), scratch=scratch, checks=(check or rows(),), seed=1)
    return RestoreTest(archives.repository, wish, Run(command="lifeboat test"), "a test", tick=tick).carry_out()


def what_of(proof: Proof, name: str) -> str:
    return next(check.what for check in proof.checks if check.name == name)


@pytest.mark.parametrize("user", [SUPERUSER, ROLE])
def test_an_archive_comes_back_is_looked_at_and_goes_again(
    small: Archives, staging: PostgresServer, scratch: Path, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "staging", (staging, user))
    seen: dict[str, tuple[str, bool, list[str]]] = {}

    def tick() -> None:
        for comment, public, settings, name in staging.run_sql(
            "SELECT shobj_description(d.oid, 'pg_database'), datacl IS NULL OR EXISTS"
            " (SELECT FROM aclexplode(datacl) a WHERE a.grantee = 0), setconfig, datname::text"
            " FROM pg_database d LEFT JOIN pg_db_role_setting ON setdatabase = d.oid"
            " WHERE starts_with(datname::text, %s)",
            [TEST],
        ):
            seen[name] = (comment, public, settings)

    record = a_test_of(small, scratch, tick=tick)
    [proof] = record.proofs
    assert record.passed, (proof.error, proof.checks)
    # What amcheck needs is a superuser's.
    assert [check.name for check in proof.checks] == [
        name for name in LOOKED_AT if user == SUPERUSER or name != "pg_amcheck"
    ]
    assert what_of(proof, "every row").startswith("500 rows of 1 tables")
    assert f"{user}|500" in what_of(proof, "application")
    assert staging.passwords[user] not in record.to_json().decode()
    assert proof.place.startswith(f"staging at 127.0.0.1:{staging.port}, as {TEST}{SMALL}_")
    [(name, (comment, public, settings))] = seen.items()
    assert comment == mark_of(name, "demo", "lifeboat test")
    assert not public
    # Nothing that loads a library, or that is a superuser's, and nobody else's.
    assert settings == ["search_path=stock, public"]
    reports = reports_of(record, [record], small.repository.policy.zone, record.ended)
    for report in (reports.markdown, reports.html):
        assert proof.place in report
    assert list(scratch.iterdir()) == []


def test_an_archive_with_something_of_everything_comes_back(
    archives: Archives, staging: PostgresServer, scratch: Path
) -> None:
    archives.back_up()
    give_its_test(archives)
    archives.staging = (staging, SUPERUSER)
    staging.run_sql("CREATE ROLE reader")
    try:
        record = a_test_of(archives, scratch, check=rows("0 or more", "postgres"))
    finally:
        staging.run_sql("DROP ROLE reader")
    [proof] = record.proofs
    assert not proof.error
    bad = {check.name for check in proof.checks if not check.passed}
    assert bad == {"rows.sql", "application"}  # it has no such table
    assert f"{TEST}{DATABASE}_" in proof.place


def test_a_check_that_fails_and_a_copy_that_is_damaged_leave_nothing(
    small: Archives, staging: PostgresServer, scratch: Path
) -> None:
    [proof] = a_test_of(small, scratch, check=rows("501 or more")).proofs
    assert [check.name for check in proof.checks if not check.passed] == ["rows.sql"]
    folder = small.system.policy.parents[2] / "primary" / "demo" / SOURCE / proof.recovery_point
    largest = max(folder.rglob("*.enc"), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    largest.chmod(0o600)
    largest.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        [proof] = a_test_of(small, scratch).proofs
    finally:
        largest.write_bytes(whole)
    assert proof.error
    assert ours(staging) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_source_s_own_server_is_refused_whatever_name_leads_there(
    small: Archives, scratch: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(small, "staging", (small.server, SUPERUSER))
    connection = small._connection

    def elsewhere(name: str) -> Connection:
        return replace(connection(name), host=host) if name == "staging" else connection(name)

    monkeypatch.setattr(small.repository, "outside", Outside(elsewhere, lambda *_, **__: None))
    before = databases(small.server)
    [proof] = a_test_of(small, scratch).proofs
    assert ("where the source itself is" if host == "127.0.0.1" else "system identifier") in proof.error
    assert proof.place == ""  # refused before anything was planned for it
    assert databases(small.server) == before


def test_it_is_refused_where_the_connection_leads_there_only_when_the_databases_are_made(
    small: Archives, staging: PostgresServer, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = staging_server.prepare

    def and_then_elsewhere(*arguments: object, **more: object) -> object:
        plan = prepare(*arguments, **more)  # type: ignore[arg-type]
        small.staging = (small.server, SUPERUSER)
        return plan

    monkeypatch.setattr(staging_server, "prepare", and_then_elsewhere)
    before = databases(small.server)
    try:
        [proof] = a_test_of(small, scratch).proofs
    finally:
        small.staging = (staging, SUPERUSER)
    assert "where the source itself is" in proof.error
    assert databases(small.server) == before


@pytest.mark.parametrize("kind", [UNPROVEN, TEST])
def test_stopped_it_leaves_nothing(small: Archives, staging: PostgresServer, scratch: Path, kind: str) -> None:
    def tick() -> None:
        for name in ours(staging):
            # One that has its name is being looked at: amcheck has been there.
            if name.startswith(kind) and (kind == UNPROVEN or staging.run_sql(looked_at, database=name)):
                raise Cancelled("by a test")

    looked_at = "SELECT 1 FROM pg_extension WHERE extname = 'amcheck'"

    with pytest.raises(Cancelled):
        a_test_of(small, scratch, tick=tick)
    assert ours(staging) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("kind", [UNPROVEN, TEST])
def test_what_a_killed_test_left_goes_with_the_next_and_nothing_else_does(
    small: Archives, staging: PostgresServer, scratch: Path, kind: str
) -> None:
    environment = {
        "AIRFLOW_CONN_STAGING": staging.airflow_connection(SUPERUSER),
        "AIRFLOW_CONN_DEMO_DATABASE": small.server.airflow_connection("lifeboat"),
    }
    killed = killed_test(small.system.policy, SOURCE, scratch, environment, staging.dsn(), kind)
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    used = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'lifeboat test'"
    wait_until(lambda: not staging.run_sql(used), within=30, what="its sessions have ended")
    [left] = ours(staging)
    assert left.startswith(kind)
    name = marked_name(TEST, SMALL)
    staging.run_sql(f"CREATE DATABASE {name}")
    staging.run_sql(f"COMMENT ON DATABASE {name} IS '{mark_of(name, 'another', 'x').replace(chr(39), chr(39) * 2)}'")
    try:
        record = a_test_of(small, scratch)
        assert record.passed, record.proofs
        assert left in what_of(record.proofs[0], "removed")
        assert ours(staging) == [name]
    finally:
        staging.run_sql(f"DROP DATABASE {name}")


def test_a_copy_that_can_t_be_dropped_fails_the_test_and_goes_with_the_next(
    small: Archives, staging: PostgresServer, scratch: Path
) -> None:
    held: list[str] = []

    def tick() -> None:
        for name in ours(staging):
            if name.startswith(TEST) and not held:
                with staging.connect(database=name) as session:
                    session.execute("BEGIN; CREATE TABLE public.x (n int); PREPARE TRANSACTION 'held'")
                held.append(name)

    [proof] = a_test_of(small, scratch, tick=tick).proofs
    assert [check.name for check in proof.checks if not check.passed] == ["removed"]
    assert held[0] in what_of(proof, "removed")
    staging.run_sql("ROLLBACK PREPARED 'held'", database=held[0])
    assert a_test_of(small, scratch).passed


def test_the_command_line_says_where_it_came_back(
    small: Archives, staging: PostgresServer, scratch: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    connections = tmp_path / "connections.json"
    connections.touch(mode=0o600)
    found = {
        "staging": json.loads(staging.airflow_connection(ROLE)),
        small.source.connection: json.loads(small.server.airflow_connection("lifeboat")),
    }
    connections.write_text(json.dumps(found))
    files = ["--policies", str(small.system.policies), "--connections", str(connections)]
    assert run([*files, "test", "demo", SOURCE, "--scratch", str(scratch)]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert f"was restored into staging at 127.0.0.1:{staging.port}, as {TEST}{SMALL}_" in said
