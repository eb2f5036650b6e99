"""An archive in the place of the database that is there: renamed aside in one transaction, and back in one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import LifeboatError, RestoreError
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.logical_marks import UNPROVEN
from lifeboat.postgres.logical_naming import LONGEST_NAME, before_name, gave_way_as
from lifeboat.postgres.logical_planning import LogicalPlan
from lifeboat.postgres.logical_restore import restore_logical
from lifeboat.repository.catalogue import Copy
from sandbox import postgres_builds
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from tests.logical.archives import DATABASE, Archives, fill

NOW = datetime(2026, 11, 22, 14, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def copy(archives: Archives) -> Copy:
    return archives.back_up()


@pytest.fixture(autouse=True)
def shop(archives: Archives, copy: Copy) -> Iterator[None]:
    """The database is there, with something that the archive lacks; nothing else is, before and after."""
    server = archives.home
    for name in archives.databases() - {"postgres", "template0", "template1", DATABASE}:
        server.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    if DATABASE not in archives.databases():
        fill(server)
    with server.connect(database=DATABASE) as session:
        session.execute("CREATE TABLE IF NOT EXISTS public.newer (n int)")
    yield
    assert not [name for name in archives.databases() if name.startswith(UNPROVEN)]
    assert DATABASE in archives.databases()


def plan_for(archives: Archives, copy: Copy, **more: object) -> LogicalPlan:
    return archives.plan(copy, databases=[DATABASE], replace_databases=True, **more)  # type: ignore[arg-type]


def is_old(server: PostgresServer, name: str = DATABASE) -> bool:
    return bool(server.run_sql("SELECT to_regclass('public.newer') IS NOT NULL", database=name)[0][0])


def test_the_plan_says_what_gives_way_how_large_it_is_and_who_is_in_it(archives: Archives, copy: Copy) -> None:
    with archives.home.connect(database=DATABASE):
        plan = plan_for(archives, copy)
    (one,) = plan.databases
    assert plan.obstacles == ()
    assert one.name == DATABASE
    assert one.replaces is not None
    assert one.replaces.name == DATABASE
    assert one.replaces.sessions == 1
    assert one.replaces.size_bytes is not None
    assert one.replaces.size_bytes > 1_000_000
    assert plan.replaces == {DATABASE: one.replaces.aside}
    assert one.replaces.aside.startswith("shop_before_20")
    assert is_old(archives.home)


def test_without_the_word_a_database_that_is_there_is_in_the_way(archives: Archives, copy: Copy) -> None:
    (obstacle,) = archives.plan(copy, databases=[DATABASE], name=DATABASE).obstacles
    assert "--replace-database" in obstacle.remedy


def test_the_restored_one_has_the_name_and_the_old_one_is_whole_beside_it(archives: Archives, copy: Copy) -> None:
    server = archives.home
    plan = plan_for(archives, copy)
    with server.connect(database=DATABASE) as lasting:
        restored = archives.restore(plan)
        with pytest.raises(psycopg.OperationalError):
            lasting.execute("SELECT 1")
    aside = plan.replaces[DATABASE]
    assert [one.aside for one in restored.databases] == [aside]
    assert restored.sessions_ended == 1
    assert "swap" in restored.phases
    assert not is_old(server)
    assert is_old(server, aside)
    settings = (
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = %s"
    )
    assert "work_mem=8MB" in server.run_sql(settings, [DATABASE])[0][0]
    # And once more, with what was renamed before still there: the next plan names it.
    again = plan_for(archives, copy)
    assert any(aside in remark for remark in again.remarks)
    archives.restore(again)
    assert len({DATABASE, aside, again.replaces[DATABASE]} & archives.databases()) == 3


def test_nothing_is_renamed_before_all_is_proven(
    archives: Archives, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differ(*_: object, **__: object) -> list[str]:
        return ["one row too few"]

    monkeypatch.setattr("lifeboat.postgres.logical_proof.differences", differ)
    plan = plan_for(archives, copy)
    with archives.home.connect(database=DATABASE) as lasting:
        with pytest.raises(RestoreError, match="one row too few"):
            archives.restore(plan)
        assert lasting.execute("SELECT 1").fetchone() == (1,)
    assert is_old(archives.home)
    assert plan.replaces[DATABASE] not in archives.databases()


def test_a_check_that_fails_after_it_brings_the_old_one_back_and_drops_the_new_one(
    archives: Archives, copy: Copy
) -> None:
    seen: list[bool] = []

    def examine(name: str) -> None:
        seen.append(is_old(archives.home, name))
        raise RestoreError("The application's check failed.")

    plan = plan_for(archives, copy)
    with pytest.raises(RestoreError, match="application's check"):
        restore_logical(archives.repository, plan, archives.parameters, examine=examine)
    assert seen == [False]
    assert is_old(archives.home)
    assert plan.replaces[DATABASE] not in archives.databases()


def test_a_last_look_that_finds_a_table_missing_brings_the_old_one_back(
    archives: Archives, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lifeboat.postgres import logical_restore

    give_names = logical_restore.give_names

    def and_drop(*arguments: object) -> int:
        ended = give_names(*arguments)  # type: ignore[arg-type]
        archives.home.run_sql("DROP TABLE sales.changes CASCADE", database=DATABASE)
        return ended

    table = archives.home.run_sql("SELECT to_regclass('sales.changes') IS NOT NULL", database=DATABASE)
    assert table == [(True,)]
    monkeypatch.setattr(logical_restore, "give_names", and_drop)
    with pytest.raises(RestoreError, match=r"lacks sales\.changes"):
        archives.restore(plan_for(archives, copy))
    assert is_old(archives.home)


@contextmanager
def coming_again(server: PostgresServer, database: str = DATABASE) -> Iterator[None]:
    """Applications that connect again as soon as they are thrown out."""
    over = threading.Event()

    def connect() -> None:
        while not over.is_set():
            try:
                with server.connect(database=database) as session:
                    while not over.is_set():
                        session.execute("SELECT 1")
            except psycopg.Error:
                pass

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_sessions_that_keep_coming_back_do_not_hold_it_up(archives: Archives, copy: Copy) -> None:
    plan = plan_for(archives, copy)
    with coming_again(archives.home):
        restored = archives.restore(plan)
        assert not is_old(archives.home)
    assert restored.sessions_ended >= 4
    assert is_old(archives.home, plan.replaces[DATABASE])
    flags = "SELECT datallowconn, datconnlimit FROM pg_database WHERE datname = ANY(%s)"
    assert archives.home.run_sql(flags, [[DATABASE, plan.replaces[DATABASE]]]) == [(True, -1), (True, -1)]


def test_what_forbids_to_rename_it_is_refused_by_name_before_anything_is_done(
    own_archives: Callable[..., Archives],
) -> None:
    archives = own_archives(filled=True)
    server = archives.home
    copy = archives.back_up()
    server.run_sql("ALTER SYSTEM SET wal_level TO logical")
    server.run_sql("ALTER SYSTEM SET max_prepared_transactions TO 5")
    server.stop()
    server.start()
    with server.connect(database=DATABASE) as session:
        session.execute("SELECT pg_create_logical_replication_slot('to_the_lake', 'pgoutput')")
        session.execute(
            "CREATE SUBSCRIPTION from_the_mill CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION y"
            " WITH (connect = false, slot_name = NONE)"
        )
        session.execute("BEGIN")
        session.execute("CREATE TABLE in_doubt (n int)")
        session.execute("PREPARE TRANSACTION 'of the bank'")
    words = " ".join(str(obstacle) for obstacle in plan_for(archives, copy).obstacles)
    for name in ("of the bank", "to_the_lake", "from_the_mill"):
        assert name in words
    assert server.run_sql("SELECT count(*) FROM pg_database") == [(4,)]


def test_a_transaction_that_is_prepared_meanwhile_leaves_everything_as_it_was(
    own_archives: Callable[..., Archives],
) -> None:
    """Of several databases all are exchanged, or none."""
    archives = own_archives()
    server = archives.home
    names = ("first", "second")
    for name in names:
        server.run_sql(f"CREATE DATABASE {name}")
        server.run_sql("CREATE TABLE public.things AS SELECT 1 AS n", database=name)
    copy = archives.back_up()
    server.run_sql("ALTER SYSTEM SET max_prepared_transactions TO 5")
    server.stop()
    server.start()
    plan = archives.plan(copy, databases=names, replace_databases=True)
    assert sorted(plan.replaces) == list(names)
    for name in names:
        server.run_sql("UPDATE things SET n = 2", database=name)
    with server.connect(database="second") as session:
        session.execute("BEGIN")
        session.execute("CREATE TABLE public.newer (n int)")
        session.execute("PREPARE TRANSACTION 'of the bank'")
    with pytest.raises(RestoreError, match="of the bank"):
        archives.restore(plan)
    server.run_sql("COMMIT PREPARED 'of the bank'", database="second")
    assert archives.databases() == {"postgres", "template0", "template1", *names}
    assert [server.run_sql("SELECT n FROM things", database=name) for name in names] == [[(2,)], [(2,)]]
    again = archives.plan(copy, databases=names, replace_databases=True)
    archives.restore(again)
    assert [server.run_sql("SELECT n FROM things", database=name) for name in names] == [[(1,)], [(1,)]]
    assert {*names, *again.replaces.values()} <= archives.databases()


@pytest.mark.parametrize("major", postgres_builds.tested_majors()[:-1])
def test_servers_of_other_major_versions_do_the_same(own_archives: Callable[..., Archives], major: int) -> None:
    archives = own_archives(major=major)
    archives.home.run_sql("CREATE DATABASE small")
    archives.home.run_sql("CREATE TABLE things AS SELECT 1 AS n", database="small")
    copy = archives.back_up()
    plan = archives.plan(copy, databases=["small"], replace_databases=True)
    archives.home.run_sql("UPDATE things SET n = 2", database="small")
    with coming_again(archives.home, "small"):
        archives.restore(plan)
    assert archives.home.run_sql("SELECT n FROM things", database="small") == [(1,)]
    assert archives.home.run_sql("SELECT n FROM things", database=plan.replaces["small"]) == [(2,)]


def test_an_ordinary_role_replaces_what_it_owns_and_is_told_what_it_may_not(
    own_archives: Callable[..., Archives],
) -> None:
    archives = own_archives()
    server = archives.home
    server.run_sql("CREATE ROLE keeper LOGIN CREATEDB PASSWORD 'kept'")
    server.run_sql("CREATE DATABASE small OWNER keeper")
    server.run_sql("CREATE TABLE public.things AS SELECT 1 AS n", database="small")
    server.run_sql("ALTER TABLE public.things OWNER TO keeper", database="small")
    copy = archives.back_up()
    server.passwords["keeper"] = "kept"
    archives.server, home = server, archives.repository.outside.connection("home")
    from dataclasses import replace

    from lifeboat.postgres.parameters import Tls, connection_parameters

    def parameters(database: str = "") -> object:
        return connection_parameters(
            replace(home, login="keeper", password="kept"), Tls("off"), database=database or None
        )

    archives.parameters = parameters  # type: ignore[method-assign,assignment]
    with server.connect(database="small"):
        words = " ".join(str(one) for one in plan_of_small(archives, copy).obstacles)
    assert "may not end the sessions that postgres has in the database small" in words
    server.run_sql("ALTER DATABASE small OWNER TO postgres")
    assert "does not own the database small" in " ".join(str(o) for o in plan_of_small(archives, copy).obstacles)
    server.run_sql("ALTER DATABASE small OWNER TO keeper")
    server.run_sql("DELETE FROM things", database="small")
    wait_until(lambda: not plan_of_small(archives, copy).obstacles, within=10, what="nobody is in it")
    archives.restore(plan_of_small(archives, copy))
    assert server.run_sql("SELECT n FROM things", database="small") == [(1,)]


def plan_of_small(archives: Archives, copy: Copy) -> LogicalPlan:
    return archives.plan(copy, databases=["small"], replace_databases=True)


def test_the_database_that_the_connection_itself_names_can_be_replaced(
    archives: Archives, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = archives.parameters
    monkeypatch.setattr(archives, "parameters", lambda database="": parameters(database or DATABASE))
    archives.restore(plan_for(archives, copy))
    assert not is_old(archives.home)
    plan = archives.plan(copy, databases=["postgres"], replace_databases=True)
    assert not any("connection itself" in str(one) for one in plan.obstacles)
    monkeypatch.setattr(archives, "parameters", parameters)
    plan = archives.plan(copy, databases=["postgres"], replace_databases=True)
    assert any("connection itself leads to the database postgres" in str(one) for one in plan.obstacles)


def test_another_database_of_that_name_than_the_planned_one_is_not_touched(archives: Archives, copy: Copy) -> None:
    plan = plan_for(archives, copy)
    archives.home.run_sql(f"ALTER DATABASE {DATABASE} RENAME TO kept")
    archives.home.run_sql(f"CREATE DATABASE {DATABASE} TEMPLATE kept")
    with pytest.raises(RestoreError, match="not the database any more"):
        archives.restore(plan)
    assert is_old(archives.home)
    assert {DATABASE, "kept"} <= archives.databases()


def test_a_part_of_an_archive_replaces_nothing(archives: Archives, copy: Copy) -> None:
    with pytest.raises(LifeboatError, match="Only a whole database"):
        plan_for(archives, copy, only=["sales.*"])
    with pytest.raises(LifeboatError, match="Only a whole database"):
        plan_for(archives, copy, into=DATABASE)


def test_a_database_that_is_not_there_is_made_under_its_name(archives: Archives, copy: Copy) -> None:
    plan = plan_for(archives, copy, name="another")
    assert plan.replaces == {}
    archives.restore(plan)
    assert {"another", DATABASE} <= archives.databases()


def test_a_session_that_is_lost_at_the_commit_leaves_the_old_one_or_the_new_one_whole(
    archives: Archives, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lost it can't know whether the names were exchanged: it is seen by the databases' numbers."""
    from lifeboat.postgres import logical_restore

    give_names = logical_restore.give_names

    def lost(*arguments: object) -> int:
        give_names(*arguments)  # type: ignore[arg-type]
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(logical_restore, "give_names", lost)
    with pytest.raises(RestoreError, match="closed the connection"):
        archives.restore(plan_for(archives, copy))
    assert is_old(archives.home)


def test_where_even_that_fails_the_error_says_the_statements(
    archives: Archives, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lifeboat.postgres import logical_swap

    def examine(_name: str) -> None:
        monkeypatch.setattr(logical_swap, "_swap_back", refuse)
        raise RestoreError("The application's check failed.")

    def refuse(*_: object) -> None:
        raise RestoreError("The server is gone.")

    plan = plan_for(archives, copy)
    aside = plan.replaces[DATABASE]
    with pytest.raises(RestoreError, match=r"check failed\. And whether all of it could be taken back") as caught:
        restore_logical(archives.repository, plan, archives.parameters, examine=examine)
    statements = caught.value.remedy.partition("BEGIN; ")[2].partition("; COMMIT")[0].split("; ")
    assert f'ALTER DATABASE "{aside}" RENAME TO "{DATABASE}"' in statements
    with connect_sql(archives.parameters()) as session:
        for statement in ("BEGIN", *statements, "COMMIT"):
            session.execute(statement.encode())
    assert is_old(archives.home)
    for name in archives.databases():
        if name.startswith(UNPROVEN):
            archives.home.run_sql(f'DROP DATABASE "{name}"')


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=80),
    st.sets(st.integers(1, 4)),
)
def test_a_name_aside_is_free_fits_and_says_when(name: str, numbers: set[int]) -> None:
    taken: set[str] = set()
    for _ in numbers:
        made = before_name(name, NOW, taken)
        assert made not in taken
        assert len(made.encode()) <= LONGEST_NAME
        assert "_before_20261122t140500" in made
        taken.add(made)
        if len(name.encode()) < 30:
            assert gave_way_as(made) == name
    assert gave_way_as(f"{name}_before_migration") is None
