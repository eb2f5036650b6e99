import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from sandbox import accounts, postgres_builds
from sandbox.accounts import SandboxError
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role
from sandbox.processes import is_alive, wait_until


def test_a_server_of_each_major_answers_with_its_version(postgres_of_major):
    version = postgres_of_major.run_sql("SHOW server_version_num")[0][0]
    assert int(version) // 10_000 == postgres_of_major.major


def test_a_server_never_runs_as_root(postgres):
    assert psutil.Process(postgres.child.pid).uids().effective != 0


def test_two_servers_run_side_by_side_on_ports_of_their_own(make_postgres):
    first, second = make_postgres(), make_postgres()
    assert first.port != second.port
    first.run_sql("CREATE TABLE only_here ()")
    assert second.run_sql("SELECT to_regclass('only_here')") == [(None,)]


def test_committed_rows_survive_a_kill_and_a_restart(postgres):
    postgres.run_sql("CREATE TABLE kept AS SELECT 42 AS answer")
    family = psutil.Process(postgres.child.pid).children(recursive=True)
    postgres.kill()
    assert not any(is_alive(process) for process in family)
    postgres.start()
    assert postgres.run_sql("SELECT answer FROM kept") == [(42,)]


def test_a_server_asked_for_its_own_identity_has_another_system_identifier(make_postgres):
    identities = {
        server.run_sql("SELECT system_identifier FROM pg_control_system()")[0][0]
        for server in (make_postgres(own_identity=True), make_postgres(own_identity=True))
    }
    assert len(identities) == 2


def test_a_wrong_password_is_refused(postgres):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        postgres.connect(password="wrong")


def test_the_backup_role_streams_and_switches_wal_and_no_more(postgres):
    create_backup_role(postgres)
    with postgres.connect("lifeboat") as session:
        session.execute("SELECT pg_switch_wal()")
        assert session.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'").fetchone() is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("CREATE DATABASE mine")
    with psycopg.connect(postgres.dsn("lifeboat", replication="true"), autocommit=True) as walsender:
        assert walsender.pgconn.exec_(b"IDENTIFY_SYSTEM").get_value(0, 0)


def test_before_the_backup_role_is_let_in_replication_is_closed_to_others(postgres):
    postgres.run_sql("CREATE ROLE somebody LOGIN REPLICATION PASSWORD 'known'")
    postgres.passwords["somebody"] = "known"
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(postgres.dsn("somebody", replication="true"))


def test_a_server_with_tls_proves_who_it_is_and_takes_nothing_less(make_postgres):
    major = next((major for major in postgres_builds.tested_majors() if major != 18), None)
    assert major is not None
    server = make_postgres(major=major, tls=True)
    with server.connect() as session:
        row = session.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == (True, "TLSv1.3")
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        server.connect(sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        server.connect(sslrootcert="/etc/ssl/certs/ca-certificates.crt")


def test_a_build_without_tls_says_which_one_has_it(tmp_path):
    with pytest.raises(SandboxError, match="without TLS"):
        PostgresServer(tmp_path / "server", tls=True).create()


def test_a_setting_the_server_refuses_is_shown_from_its_log(tmp_path, postgres_template):
    server = PostgresServer(tmp_path / "server", template=postgres_template(18), settings={"wal_level": "nonsense"})
    try:
        server.create()
        with pytest.raises(SandboxError, match='invalid value for parameter "wal_level"'):
            server.start()
    finally:
        server.destroy()


def test_a_server_dies_with_the_process_that_started_it(tmp_path):
    code = (
        "import sys, time, pathlib\n"
        "from sandbox.postgres import PostgresServer\n"
        "server = PostgresServer(pathlib.Path(sys.argv[1]))\n"
        "server.create(); server.start()\n"
        "print(server.child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    place = tmp_path / "server"
    starter = subprocess.Popen(
        [sys.executable, "-c", code, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=accounts.CLONE,
        env=os.environ | {"PYTHONPATH": f"{accounts.CLONE}:{accounts.CLONE / 'plugins'}"},
    )
    try:
        server = psutil.Process(int(starter.stdout.readline()))
        family = [server, *server.children(recursive=True)]
        starter.send_signal(signal.SIGKILL)
        wait_until(lambda: not any(is_alive(process) for process in family), within=30, what="all are gone")
    finally:
        starter.kill()
        starter.communicate()
        accounts.remove_server_directory(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's servers can read what the user can")
def test_a_directory_closed_to_the_servers_account_serves_all_the_same(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = PostgresServer(closed / "server")
    with server:
        assert server.directory.is_symlink()
        assert not server.data_directory.is_relative_to(closed)
        assert server.run_sql("SELECT 1") == [(1,)]
        outer = server.data_directory.parent
    assert not outer.exists()
    assert list(closed.iterdir()) == []


def test_a_data_directory_made_elsewhere_can_be_opened(postgres, server_place):
    postgres.run_sql("CREATE TABLE kept AS SELECT 42 AS answer")
    data = server_place / "restored"
    postgres.run_program("pg_basebackup", "--pgdata", data, "--checkpoint=fast", "--no-sync")
    copy = PostgresServer.on_data(data.parent / "opened", data, passwords=postgres.passwords)
    try:
        copy.start()
        assert copy.run_sql("SELECT answer FROM kept") == [(42,)]
    finally:
        copy.destroy()
    assert Path(data).exists()
