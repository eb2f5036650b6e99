"""Clusters of every kind: tablespaces, segment sizes, no checksums, other names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lifeboat.errors import BackupFailed, RestoreError
from lifeboat.postgres.deep_verification import verify_deep
from lifeboat.postgres.moments import AtName, AtRecoveryPoint, Latest
from lifeboat.postgres.segments import MIB
from lifeboat.postgres.tablespace_records import CreatedTablespaces
from sandbox import postgres_builds
from sandbox.accounts import server_directory
from sandbox.postgres import PostgresServer
from tests.recovery.line import SOURCE, Line, commit, ledger


@pytest.mark.parametrize("major", postgres_builds.tested_majors(), ids=lambda major: f"postgresql-{major}")
def test_tablespaces_large_objects_and_unlogged_tables_come_back(make_line: Callable[..., Line], major: int) -> None:
    """Two real tablespaces, one mapped and one in its default place, and one that lies in the data directory."""
    line = make_line(major=major, settings={"allow_in_place_tablespaces": "on"})
    server = line.server
    for name in ("one", "two"):
        place = server_directory(line.directory / name)
        server.run_sql(f"CREATE TABLESPACE {name} LOCATION '{place.resolve()}'")
        server.run_sql(f"CREATE TABLE in_{name} TABLESPACE {name} AS SELECT generate_series(1, 1000) AS n")
    space = "pg_default" if major == 15 else "inside"  # 15 can't back up what lies in the data directory
    if space == "inside":
        server.run_sql("CREATE TABLESPACE inside LOCATION ''")
    server.run_sql(f"CREATE TABLE in_inside TABLESPACE {space} AS SELECT generate_series(1, 1000) AS n")
    server.run_sql("CREATE UNLOGGED TABLE fleeting AS SELECT generate_series(1, 1000) AS n")
    server.run_sql("SELECT lo_from_bytea(4711, decode(repeat('cafe', 5000), 'hex'))")
    server.run_sql('CREATE DATABASE "Zürich – Büro" TABLESPACE two')
    server.run_sql("CREATE TABLE there AS SELECT 'grüezi'::text AS word", database="Zürich – Büro")
    copy = line.full()
    for name in ("one", "two", "inside"):
        server.run_sql(f"INSERT INTO in_{name} VALUES (1001)")
    line.wal()
    assert verify_deep(line.repository, "primary", copy).files > 1000
    mapped = line.place / "mapped"
    mapped.mkdir()
    restored = line.restore(Latest(), line.request(tablespaces={str((line.directory / "one").resolve()): mapped}))
    server.stop()
    assert "Zürich – Büro" in restored.databases
    with line.opened(restored) as again:
        counts = "SELECT (SELECT count(*) FROM in_one), (SELECT count(*) FROM in_two), (SELECT count(*) FROM in_inside)"
        assert again.run_sql(counts) == [(1001, 1001, 1001)]
        assert again.run_sql("SELECT count(*) FROM fleeting") == [(0,)]
        assert bytes(again.run_sql("SELECT lo_get(4711)")[0][0]) == bytes.fromhex("cafe" * 5000)
        assert again.run_sql("SELECT word FROM there", database="Zürich – Büro") == [("grüezi",)]
        places = dict(again.run_sql("SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace"))
    assert places["one"] == str(mapped)
    assert places["two"].startswith(f"{restored.into}.tablespaces/")
    assert major == 15 or not places["inside"].startswith("/")


def test_a_tablespace_that_postgresql_15_leaves_out_of_its_backup_ends_it(make_line: Callable[..., Line]) -> None:
    line = make_line(major=15, settings={"allow_in_place_tablespaces": "on"})
    line.server.run_sql("CREATE TABLESPACE inside LOCATION ''")
    with pytest.raises(BackupFailed, match="left tablespaces out of its base backup: inside") as failed:
        line.full()
    assert "16 or later" in failed.value.remedy
    assert line.repository.catalogue("primary").recovery_points(SOURCE).copies == ()
    line.server.run_sql("DROP TABLESPACE inside")
    assert line.full().manifest.state == "good"


@pytest.mark.parametrize("megabytes", [1, 64])
def test_wal_segments_of_other_sizes_are_collected_and_replayed(make_line: Callable[..., Line], megabytes: int) -> None:
    line = make_line(initdb_arguments=(f"--wal-segsize={megabytes}",), settings={"min_wal_size": "128MB"})
    line.full()
    commit(line.server, 1)
    line.server.run_sql("CREATE TABLE more AS SELECT repeat('x', 200) AS x FROM generate_series(1, 10000)")
    run = line.wal()
    assert run.copies[0].manifest.details["segment_size"] == megabytes * MIB
    commit(line.server, 2)
    last = line.wal().copies[0]
    assert verify_deep(line.repository, "primary", last).wal_records > 0
    assert ledger(line.ask(line.restore(Latest()), "SELECT n FROM ledger")) == [1, 2]


def test_a_cluster_with_no_checksums_another_superuser_and_no_database_postgres_comes_back(
    make_line: Callable[..., Line], make_postgres: Callable[..., PostgresServer]
) -> None:
    line = make_line(initdb_arguments=("--no-data-checksums",))
    server = line.server
    server.run_sql("CREATE ROLE second SUPERUSER LOGIN PASSWORD 'x'")
    server.passwords["second"] = "x"
    with server.connect(user="second") as session:
        session.execute("ALTER ROLE postgres RENAME TO königin")
    server.passwords["königin"] = server.passwords["postgres"]
    copy = line.full()
    assert copy.manifest.details["superuser"] == "königin"
    assert copy.manifest.details["server"]["data_checksums"] is False
    with server.connect(user="second", database="template1") as session:
        session.execute("CREATE DATABASE other")
        session.execute("ALTER DATABASE postgres RENAME TO away")
        session.execute("SELECT pg_create_restore_point('renamed')")
        session.execute("ALTER DATABASE away RENAME TO postgres")
    line.wal()
    restored = line.restore(AtName("renamed"))
    assert restored.databases == ("away", "other", "template1")


def test_a_superuser_that_was_renamed_after_the_full_ends_the_restore_with_a_clear_error(
    make_line: Callable[..., Line],
) -> None:
    """Nobody waits a day for a server that will let nobody in."""
    line = make_line()
    full = line.full()
    line.server.run_sql("CREATE ROLE second SUPERUSER LOGIN PASSWORD 'x'")
    line.server.passwords["second"] = "x"
    with line.server.connect(user="second") as session:
        session.execute("ALTER ROLE postgres RENAME TO queen")
    line.wal()
    with pytest.raises(RestoreError, match="lets nobody in"):
        line.restore(Latest())
    assert line.restore(AtRecoveryPoint(full.manifest.recovery_point)).databases


def test_a_database_whose_drop_was_cut_short_does_not_stop_a_restore(line: Line) -> None:
    line.server.run_sql("CREATE DATABASE half_gone")
    line.server.run_sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half_gone'")
    line.full()
    assert line.restore(Latest()).databases == ("postgres", "template1")


def test_prepared_transactions_and_many_replication_origins_come_back(make_line: Callable[..., Line]) -> None:
    settings = {
        "max_prepared_transactions": "5",
        "max_active_replication_origins": "50",
        "wal_level": "logical",
        "max_connections": "300",
    }
    line = make_line(settings=settings)
    for number in range(30):
        line.server.run_sql(f"SELECT pg_replication_origin_create('origin {number}')")
        line.server.run_sql(f"SELECT pg_replication_origin_advance('origin {number}', '0/1000')")
    line.full()
    with line.server.connect() as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO ledger VALUES (7)")
        session.execute("PREPARE TRANSACTION 'waiting'")
    line.server.run_sql("CHECKPOINT")
    line.full()
    restored = line.restore(Latest())
    settings = {"archive_mode": "off", "max_prepared_transactions": "5", "max_active_replication_origins": "50"}
    with PostgresServer.on_data(
        line.directory / "again", restored.into, passwords=line.server.passwords, settings=settings
    ) as again:
        again.run_sql("COMMIT PREPARED 'waiting'")
        assert again.run_sql("SELECT n FROM ledger") == [(7,)]
        assert again.run_sql("SELECT count(*) FROM pg_replication_origin_status") == [(30,)]


def test_wal_that_creates_a_tablespace_is_not_replayed_into_the_place_of_the_living_server(line: Line) -> None:
    """Restored on the server's own machine, its replay would write to the very files that the server uses."""
    server = line.server
    line.full()
    commit(server, 1)
    before = line.wal()
    place = server_directory(line.directory / "living").resolve()
    server.run_sql(f"CREATE TABLESPACE living LOCATION '{place}'")
    server.run_sql("CREATE TABLE precious TABLESPACE living AS SELECT generate_series(1, 1000) AS n")
    line.wal()
    with pytest.raises(RestoreError, match=str(place)):
        line.restore(Latest())
    assert server.run_sql("SELECT count(*) FROM precious") == [(1000,)]
    run = before.copies[0].manifest.recovery_point
    assert ledger(line.ask(line.restore(AtRecoveryPoint(run)), "SELECT n FROM ledger")) == [1]
    line.full()
    commit(server, 2)
    line.wal()
    assert line.ask(line.restore(Latest()), "SELECT count(*) FROM precious") == [(1000,)]


def test_every_creation_of_a_tablespace_is_found_wherever_it_lies_in_the_wal(make_line: Callable[..., Line]) -> None:
    """On page borders and over segments' ends, too."""
    server = make_line(
        initdb_arguments=("--wal-segsize=1",), settings={"full_page_writes": "off", "wal_keep_size": "1GB"}
    ).server
    made = []
    for number in range(150):
        place = server_directory(server.directory / f"tablespace-{number}").resolve()
        made.append(str(place))
        with server.connect() as session:
            session.execute(f"CREATE TABLESPACE t{number} LOCATION '{place}'")
            session.execute("SELECT pg_logical_emit_message(false, 'x', repeat('y', %s))", (number * 37 % 9000,))
    name = server.run_sql("SELECT pg_walfile_name(pg_switch_wal())")[0][0]
    folder = server.data_directory / "pg_wal"
    names = sorted(path.name for path in folder.iterdir() if len(path.name) == 24 and path.name <= name)
    created = CreatedTablespaces()
    assert [place for one in names for place in created.of((folder / one).read_bytes())] == made
