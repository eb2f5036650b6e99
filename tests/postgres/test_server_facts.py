from __future__ import annotations

import psycopg
from psycopg.rows import TupleRow

from lifeboat.outside import Connection
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.server_facts import server_facts
from sandbox.accounts import hand_over
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role


def parameters_of(server: PostgresServer, user: str = "lifeboat", database: str = "postgres") -> ConnectionParameters:
    connection = Connection("erp_db", "postgres", "127.0.0.1", server.port, user, server.passwords[user], database)
    return connection_parameters(connection, Tls("off"))


def test_facts_hold_what_a_restore_must_know(postgres_of_major: PostgresServer) -> None:
    server = postgres_of_major
    server.run_sql("CREATE DATABASE erp TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    server.run_sql("CREATE DATABASE closed")
    server.run_sql("REVOKE CONNECT ON DATABASE closed FROM public")
    create_backup_role(server, databases=["erp"])

    def open_database(name: str) -> psycopg.Connection[TupleRow]:
        return connect_sql(parameters_of(server, database=name))

    with connect_sql(parameters_of(server)) as sql:
        facts = server_facts(sql, open_database)
    assert facts.major == server.major
    assert facts.system_identifier == server.run_sql("SELECT system_identifier FROM pg_control_system()")[0][0]
    assert (facts.timeline, facts.block_size, facts.wal_block_size) == (1, 8192, 8192)
    assert (facts.wal_segment_size, facts.data_checksums) == (16 * 1024 * 1024, True)
    databases = {database.name: database for database in facts.databases}
    assert set(databases) == {"closed", "erp", "postgres", "template1"}
    assert (databases["erp"].encoding, databases["erp"].collate) == ("LATIN1", "C")
    assert [extension.name for extension in databases["erp"].extensions or ()] == ["plpgsql"]
    assert all(database.size_bytes for database in databases.values())
    assert databases["closed"].extensions is None
    assert len(facts.unread) == 1
    assert "extensions of database closed" in facts.unread[0]
    assert facts.settings["max_connections"] == "100"
    assert facts.settings["shared_preload_libraries"] == ""
    assert type(facts).model_validate_json(facts.model_dump_json()) == facts


def test_facts_that_a_poor_role_may_not_read_are_named(postgres: PostgresServer) -> None:
    postgres.run_sql("CREATE DATABASE closed")
    postgres.run_sql("REVOKE CONNECT ON DATABASE closed FROM public")
    postgres.run_sql("CREATE ROLE poor LOGIN PASSWORD 'secret-word'")
    postgres.passwords["poor"] = "secret-word"
    with connect_sql(parameters_of(postgres, "poor")) as sql:
        facts = server_facts(sql)
    unread = " ".join(facts.unread)
    for what in ("shared_preload_libraries", "configuration files lie", "size of database closed", "extensions of"):
        assert what in unread


def test_facts_know_the_new_timeline_at_once(postgres: PostgresServer) -> None:
    postgres.stop()
    signal = postgres.data_directory / "standby.signal"
    signal.touch()
    hand_over(signal)
    postgres.start()
    postgres.run_sql("SELECT pg_promote()")
    with connect_sql(parameters_of(postgres, "postgres")) as sql:
        assert server_facts(sql).timeline == 2
