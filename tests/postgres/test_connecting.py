from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from lifeboat.errors import Cancelled, PostgresError
from lifeboat.outside import Connection
from lifeboat.postgres.connecting import connect_sql, wait_for
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.refusals import clean_message
from lifeboat.postgres.replication import ReplicationConnection
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role

MAJOR_WITH_TLS = 16
PLAIN = Tls("off")


@pytest.fixture
def server(postgres: PostgresServer) -> PostgresServer:
    create_backup_role(postgres)
    return postgres


def connection_to(server: PostgresServer, **changed: object) -> Connection:
    extra = {} if server.certificates is None else {"sslrootcert": str(server.certificates.authority)}
    connection = Connection(
        "erp_db", "postgres", "127.0.0.1", server.port, "lifeboat", server.passwords["lifeboat"], "postgres", extra
    )
    return replace(connection, **changed)  # type: ignore[arg-type]


def parameters_of(server: PostgresServer, tls: Tls = PLAIN, **changed: object) -> ConnectionParameters:
    return connection_parameters(connection_to(server, **changed), tls, application_name="lifeboat erp database")


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_an_sql_session_is_plain_and_says_who_it_is(server: PostgresServer) -> None:
    with connect_sql(parameters_of(server)) as session:
        assert session.autocommit
        shown = [
            session.execute(f"SHOW {name}").fetchall()[0][0]
            for name in ("search_path", "TimeZone", "application_name", "idle_session_timeout", "statement_timeout")
        ]
    assert shown == ["pg_catalog", "UTC", "lifeboat erp database", "0", "1min"]


def test_a_replication_connection_says_which_server_it_speaks_to(server: PostgresServer) -> None:
    identifier = server.run_sql("SELECT system_identifier FROM pg_control_system()")[0][0]
    with ReplicationConnection(parameters_of(server), settings={"wal_sender_timeout": "7s"}) as replication:
        there = replication.identify_system()
        assert (there.system_identifier, there.timeline, there.database) == (identifier, 1, None)
        assert replication.query("SHOW wal_sender_timeout") == [("7s",)]
        with pytest.raises(PostgresError, match="refused: "):
            replication.query("IDENTIFY NOBODY")
        assert replication.query("SHOW wal_level") == [("replica",)]
    assert replication.closed


def test_a_replication_connection_to_a_database_takes_sql_as_well(server: PostgresServer) -> None:
    with ReplicationConnection(parameters_of(server), database=True) as replication:
        assert replication.identify_system().database == "postgres"
        assert replication.query("SELECT 1, NULL") == [("1", None)]


def test_closing_ends_what_runs_on_the_server(server: PostgresServer) -> None:
    replication = ReplicationConnection(parameters_of(server), database=True)
    with pytest.raises(PostgresError, match="gave no answer within the time allowed"):
        replication.query("SELECT pg_sleep(600)", seconds=0.5)
    assert replication.closed
    deadline = time.monotonic() + 10
    while server.run_sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(600)' AND state='active'")[
        0
    ][0]:
        assert time.monotonic() < deadline


def test_a_server_that_dies_is_an_error(server: PostgresServer) -> None:
    with ReplicationConnection(parameters_of(server)) as replication:
        server.kill()
        with pytest.raises(PostgresError):
            replication.query("IDENTIFY_SYSTEM")
        assert replication.closed


def test_a_silent_server_ends_in_a_time_out(silent: int) -> None:
    connection = Connection("erp_db", "postgres", "127.0.0.1", silent, "lifeboat", "secret-word")
    parameters = connection_parameters(connection, PLAIN)
    for connect in (connect_sql, ReplicationConnection):
        with pytest.raises(PostgresError, match="accepted no connection within the time allowed"):
            connect(parameters, connect_seconds=0.5)


def test_a_wait_for_a_silent_server_can_be_cancelled(silent: int) -> None:
    ticks = iter(range(3))

    def tick() -> None:
        if next(ticks) == 2:
            raise Cancelled("The task was stopped.")

    connection = Connection("erp_db", "postgres", "127.0.0.1", silent, "lifeboat", "secret-word")
    for connect in (connect_sql, ReplicationConnection):
        ticks = iter(range(3))
        with pytest.raises(Cancelled):
            connect(connection_parameters(connection, PLAIN), tick=tick)


def test_a_query_can_be_cancelled(server: PostgresServer) -> None:
    stopped = False

    def tick() -> None:
        if stopped:
            raise Cancelled("The task was stopped.")

    replication = ReplicationConnection(parameters_of(server), database=True, tick=tick)
    stopped = True
    with pytest.raises(Cancelled):
        replication.query("SELECT pg_sleep(600)")
    assert replication.closed


def test_each_refusal_names_its_remedy(server: PostgresServer, free_port: Callable[[], int]) -> None:
    server.run_sql("CREATE ROLE plain LOGIN PASSWORD 'secret-word'")
    server.passwords["plain"] = "secret-word"
    server.run_sql("CREATE ROLE stranger LOGIN REPLICATION PASSWORD 'secret-word'")
    server.allow("replication", "plain")
    plain = {"login": "plain", "password": "secret-word"}
    stranger = {"login": "stranger", "password": "secret-word"}
    for changed, message in (
        (plain, "Run as a superuser: ALTER ROLE plain REPLICATION;"),
        (stranger, "pg_hba.conf and reload: hostnossl replication stranger"),
        ({"password": "wrong-word"}, "Look at login and password"),
        ({"password": None}, "Give the connection a password"),
        ({"port": free_port()}, "whether the server runs"),
        ({"host": "no-such-host.invalid"}, "name service"),
        ({"host": "/nonexistent"}, "keeps its socket"),
    ):
        with pytest.raises(PostgresError) as caught:
            ReplicationConnection(parameters_of(server, **changed))
        assert message in caught.value.remedy, caught.value
        assert "secret-word" not in repr(caught.value) + str(caught.value.__cause__)
        assert "wrong-word" not in repr(caught.value)
    with pytest.raises(PostgresError, match="Look at login and schema"):
        connect_sql(parameters_of(server, schema="no_such_database"))


def test_no_password_shows(server: PostgresServer) -> None:
    parameters = parameters_of(server)
    password = server.passwords["lifeboat"]
    with connect_sql(parameters) as session, ReplicationConnection(parameters) as replication:
        shown = [repr(thing) for thing in (parameters, session, session.info.dsn, replication, replication.pgconn)]
    assert password in parameters.conninfo()
    assert password not in " ".join(shown)
    assert clean_message("FATAL:  it was xyzzy\n", ("xyzzy",)) == "it was ***"


def test_tls_is_checked_as_the_policy_says(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres(major=MAJOR_WITH_TLS, tls=True)
    create_backup_role(server)
    with connect_sql(parameters_of(server, Tls())) as session:
        assert session.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
            "TLSv1.3",
        )
    with ReplicationConnection(parameters_of(server, Tls("verify-ca", "TLSv1.2"))) as replication:
        assert replication.pgconn.ssl_in_use
    with pytest.raises(PostgresError, match="root certificate"):
        connect_sql(parameters_of(server, Tls(), extra={"sslrootcert": "/nonexistent"}))
    with pytest.raises(PostgresError, match="hostnossl postgres lifeboat"):
        connect_sql(parameters_of(server, Tls("off")))


def test_a_certificate_of_another_authority_or_host_is_refused(
    make_postgres: Callable[..., PostgresServer],
) -> None:
    server = make_postgres(major=MAJOR_WITH_TLS, tls=True)
    other = make_postgres(major=MAJOR_WITH_TLS, tls=True)
    create_backup_role(server)
    assert other.certificates is not None
    with pytest.raises(PostgresError, match="the server's authority is another one"):
        connect_sql(parameters_of(server, Tls(), extra={"sslrootcert": str(other.certificates.authority)}))
    # Linux takes 0.0.0.0 for this machine as well, but it is no name in the certificate.
    with pytest.raises(PostgresError, match="host name that stands in the server's certificate"):
        connect_sql(parameters_of(server, Tls(), host="0.0.0.0"))
    with connect_sql(parameters_of(server, Tls("verify-ca"), host="0.0.0.0")) as session:
        assert session.pgconn.ssl_in_use


def test_an_unencrypted_server_is_refused_unless_the_policy_allows_it(server: PostgresServer) -> None:
    for mode in ("verify-full", "verify-ca", "require"):
        with pytest.raises(PostgresError):
            connect_sql(parameters_of(server, Tls(mode), extra={"sslrootcert": "system"}))


def test_a_connections_sslmode_never_weakens_the_policy() -> None:
    connection = Connection("erp_db", "postgres", "db", None, "lifeboat", extra={"sslmode": "disable", "cursor": "x"})
    parameters = connection_parameters(connection, Tls())
    assert parameters.keywords["sslmode"] == "verify-full"
    assert parameters.keywords["ssl_min_protocol_version"] == "TLSv1.3"
    assert "cursor" not in parameters.keywords
    assert (parameters.port, parameters.keywords["dbname"]) == (5432, "postgres")


def test_a_socket_needs_no_tls() -> None:
    connection = Connection("erp_db", "postgres", "/var/run/postgresql", 5433, "lifeboat")
    parameters = connection_parameters(connection, Tls())
    assert parameters.is_socket
    assert "sslmode" not in parameters.keywords


@pytest.mark.parametrize("missing", ["host", "login"])
def test_a_connection_that_lacks_something_is_refused_by_name(missing: str) -> None:
    connection = Connection("erp_db", "postgres", "db", 5432, "lifeboat", "secret-word")
    with pytest.raises(PostgresError, match=f"'erp_db' names no {missing}"):
        connection_parameters(replace(connection, **{missing: None}), Tls())  # type: ignore[arg-type]


def test_a_wait_gives_what_is_ready() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.send(b"x")
        assert wait_for(here.fileno(), selectors.EVENT_READ, time.monotonic() + 5, lambda: None, "it") == 1
