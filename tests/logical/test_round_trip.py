"""Archives brought back, whole and in part: equal by content."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import BackupFailed, RestoreError
from lifeboat.postgres import logical_dump
from lifeboat.postgres.details import as_details
from lifeboat.postgres.logical_databases import Session
from lifeboat.postgres.logical_details import Contents
from lifeboat.postgres.server_facts import TablespaceFacts
from lifeboat.repository.catalogue import Copy
from lifeboat.streams.stored import StoredStream
from sandbox.demo_system import DemoSystem
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR, binaries
from tests.logical.archives import DATABASE, Archives, fill
from tests.recovery.line import system_in

ODD = 'Odd "Names"'
_NAMES = (f"back_{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def copy(archives: Archives) -> Copy:
    """The archive that most tests bring back."""
    return archives.back_up()


def script_of(server: PostgresServer, database: str, *more: str) -> str:
    """What PostgreSQL itself would write of a database: every definition, every row, every privilege."""
    # What pg_dump itself brings back otherwise: an heir's columns stand behind its parent's, and rows that are spread
    # by the hash of an enum's value lie in other partitions. Tests of their own look at both.
    left_out = ("--exclude-table=sales.capitals", "--exclude-table-data=sales.by_state_*")
    text = server.run_program("pg_dump", *left_out, *more, database=database)
    return re.sub(r"^(\\(un)?restrict|-- Dumped from) .*$", "", text, flags=re.MULTILINE)


def bring_back(archives: Archives, copy: Copy, **more: object) -> str:
    name = next(_NAMES)
    plan = archives.plan(copy, name=name, **more)
    assert plan.obstacles == ()
    archives.restore(plan)
    return name


def test_a_whole_database_comes_back_as_it_was(archives: Archives, copy: Copy) -> None:
    name = bring_back(archives, copy)
    assert script_of(archives.home, name) == script_of(archives.server, DATABASE)
    assert archives.home.run_sql("SELECT sum(total) FROM sales.totals", database=name) == archives.server.run_sql(
        "SELECT sum(total) FROM sales.totals", database=DATABASE
    )


def test_a_database_keeps_its_settings_and_owner(archives: Archives, copy: Copy) -> None:
    name = bring_back(archives, copy)
    query = """
        SELECT setconfig, pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'), encoding
        FROM pg_database d JOIN pg_db_role_setting ON setdatabase = d.oid WHERE datname = %s"""
    (before,), (after,) = (archives.home.run_sql(query, [one]) for one in (DATABASE, name))
    assert after == before


def test_counts_and_statistics_are_there_after_a_restore(archives: Archives, copy: Copy) -> None:
    name = bring_back(archives, copy)
    query = "SELECT reltuples FROM pg_class WHERE oid = 'sales.invoices'::regclass"
    assert archives.home.run_sql(query, database=name) == [(1001.0,)]


def test_one_table_comes_back_with_all_that_is_its_own(archives: Archives, copy: Copy) -> None:
    name = bring_back(archives, copy, databases=[DATABASE], only=["sales.invoices"])
    home = archives.home

    def of(database: str, query: str) -> list[tuple[object, ...]]:
        return home.run_sql(query, database=database)

    for query in (
        "SELECT count(*), sum(hashtextextended(i::text, 0)) FROM sales.invoices i",
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'invoices' ORDER BY 1",
        "SELECT conname FROM pg_constraint WHERE conrelid = 'sales.invoices'::regclass AND contype <> 'f' ORDER BY 1",
        "SELECT last_value, is_called FROM sales.invoices_id_seq",
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'sales.invoices'::regclass AND NOT tgisinternal",
        "SELECT relacl::text FROM pg_class WHERE oid = 'sales.invoices'::regclass",
        "SELECT stxname FROM pg_statistic_ext",
        "SELECT attname, attacl::text FROM pg_attribute WHERE attrelid = 'sales.invoices'::regclass AND attnum > 0",
        "SELECT pg_get_serial_sequence('sales.invoices', 'id')",
        "SELECT enum_range(NULL::sales.state)::text",
    ):
        assert of(name, query) == of(DATABASE, query), query
    assert of(name, "SELECT count(*) FROM pg_tables WHERE schemaname !~ '^pg_|information'") == [(1,)]
    assert of(name, "SELECT count(*) FROM pg_largeobject_metadata") == [(0,)]


def test_a_sequence_that_a_default_asks_goes_on_where_it_stood(archives: Archives, copy: Copy) -> None:
    name = bring_back(archives, copy, databases=[DATABASE], only=["sales.changes"])
    query = "SELECT last_value, is_called FROM sales.numbers"
    assert archives.home.run_sql(query, database=name) == archives.home.run_sql(query, database=DATABASE)


def test_numbers_that_are_drawn_while_an_archive_is_made_do_not_make_it_look_wrong(
    own_archives: Callable[..., Archives], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences stand in no snapshot: what ``pg_dump`` has read is measured by where they stood before it began."""
    mine = own_archives()
    mine.server.run_sql("CREATE TABLE drawn (id bigserial, t text)")
    mine.server.run_sql("INSERT INTO drawn (t) SELECT 'x' FROM generate_series(1, 9)")
    dumped = threading.Event()
    dump, count = logical_dump._dump, logical_dump.contents_of

    def dump_and_tell(*words: Any) -> StoredStream:
        try:
            return dump(*words)
        finally:
            dumped.set()

    def draw_and_count(session: Session, **more: Any) -> Contents:
        assert dumped.wait(60)
        mine.server.run_sql("SELECT nextval('drawn_id_seq') FROM generate_series(1, 50)")
        return count(session, **more)

    with monkeypatch.context() as patch:
        patch.setattr(logical_dump, "_dump", dump_and_tell)
        patch.setattr(logical_dump, "contents_of", draw_and_count)
        copy = mine.back_up()
    for number, only in enumerate(((), ("public.drawn",))):
        mine.restore(mine.plan(copy, databases=["postgres"], only=list(only), name=f"back_{number}"))
        assert mine.home.run_sql("SELECT nextval('drawn_id_seq')", database=f"back_{number}") == [(10,)]


def test_a_foreign_key_to_a_table_that_was_not_asked_for_is_said(archives: Archives, copy: Copy) -> None:
    plan = archives.plan(copy, databases=[DATABASE], only=["sales.invoices"])
    (one,) = plan.databases
    assert one.selection is not None
    assert [words for words in one.selection.left_out if "FK CONSTRAINT" in words] == [
        "FK CONSTRAINT sales invoices invoices_customer_fkey postgres"
    ]


def test_tables_that_refer_to_each_other_come_back_with_both_keys(archives: Archives, copy: Copy) -> None:
    name = bring_back(archives, copy, databases=[DATABASE], only=["sales.inv*", "SALES.Customers"])
    keys = archives.home.run_sql("SELECT conname FROM pg_constraint WHERE contype = 'f' ORDER BY 1", database=name)
    assert keys == [("customers_favourite_fkey",), ("invoices_customer_fkey",)]
    assert archives.home.run_sql("SELECT count(*) FROM sales.customers", database=name) == [(50,)]
    next_id = "INSERT INTO sales.customers (name) VALUES ('new') RETURNING id"
    assert archives.home.run_sql(next_id, database=name) == [(600,)]


def test_a_partitioned_table_brings_its_partitions_and_an_heir_its_parents_definition(
    archives: Archives, copy: Copy
) -> None:
    name = bring_back(
        archives, copy, databases=[DATABASE], only=["sales.events", "sales.by_state", "capitals", "sales.secrets"]
    )
    home = archives.home
    assert home.run_sql("SELECT count(*) FROM sales.events", database=name) == [(400,)]
    assert home.run_sql("SELECT count(*) FROM sales.events_2026", database=name) == [(187,)]
    assert home.run_sql("SELECT count(*) FROM sales.by_state", database=name) == [(90,)]
    assert home.run_sql("SELECT count(*) FROM ONLY sales.places", database=name) == [(0,)]
    assert home.run_sql("SELECT count(*) FROM sales.places", database=name) == [(2,)]
    assert home.run_sql("SELECT polname FROM pg_policy", database=name) == [("own_words",)]
    assert home.run_sql("SELECT relrowsecurity FROM pg_class WHERE relname = 'secrets'", database=name) == [(True,)]


def test_odd_names_are_found_as_they_are_written(archives: Archives, copy: Copy) -> None:
    name = bring_back(archives, copy, databases=[DATABASE], only=['"Odd ""Names"""."Order Lines"'])
    query = f'SELECT * FROM "{ODD.replace(chr(34), chr(34) * 2)}"."Order Lines" ORDER BY 1'
    assert archives.home.run_sql(query, database=name) == archives.home.run_sql(query, database=DATABASE)
    assert archives.home.run_sql("SELECT indexname FROM pg_indexes WHERE indexname ~ 'blanks'", database=name)


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("sales.invoces", "sales.invoices"), ("customer", "sales.customers"), ("nowhere.to_be_seen", "It has")],
)
def test_an_unknown_table_is_refused_with_names_near_it(
    archives: Archives, copy: Copy, pattern: str, near: str
) -> None:
    with pytest.raises(RestoreError, match=re.escape(near)):
        archives.plan(copy, databases=[DATABASE], only=[pattern])


def test_a_large_database_is_read_in_parts_and_comes_back_whole(archives: Archives) -> None:
    split = Archives(archives.server, archives.system, policy="{split_above: 1 MB, side_by_side: 3}")
    archives.server.run_sql(
        "CREATE TABLE public.bulk AS SELECT i, md5(i::text) FROM generate_series(1, 30000) i", database=DATABASE
    )
    try:
        copy = split.back_up()
        name = bring_back(split, copy, databases=[DATABASE])
        assert script_of(split.home, name) == script_of(split.server, DATABASE)
    finally:
        archives.server.run_sql("DROP TABLE public.bulk", database=DATABASE)
    (shop,) = [one for one in split.details(copy).databases if one.name == DATABASE]
    assert [archive.holds for archive in shop.archives] == ["schema", "data", "data", "data", "data"]
    assert split.verify(copy)["rows"] > 31000
    part = bring_back(split, copy, databases=[DATABASE], only=["sales.invoices", "bulk"])
    assert split.home.run_sql("SELECT count(*) FROM bulk", database=part) == [(30000,)]
    assert split.home.run_sql("SELECT last_value FROM sales.invoices_id_seq", database=part) == [(1001,)]


@pytest.fixture(scope="module")
def filled_server(archives: Archives, module_server: Callable[..., PostgresServer]) -> Callable[[int], PostgresServer]:
    """Call it for a server of a major version with the database ``shop``: one for all tests of the module."""
    made = {WHEEL_MAJOR: archives.server}

    def server(major: int) -> PostgresServer:
        if major not in made:
            made[major] = module_server(major)
            fill(made[major])
        return made[major]

    return server


@pytest.mark.parametrize("major", [15, 16, 17], ids=lambda major: f"postgresql-{major}")
def test_an_archive_of_an_older_major_comes_back_in_every_newer_one(
    major: int, filled_server: Callable[[int], PostgresServer], tmp_path: Path
) -> None:
    older = Archives(filled_server(major), system_with_programs_of(major, tmp_path))
    copy = older.back_up()
    assert older.details(copy).server.major == major
    for newer in range(major + 1, WHEEL_MAJOR + 1):
        older.home = filled_server(newer)
        name = bring_back(older, copy, databases=[DATABASE])
        query = "SELECT count(*), sum(hashtextextended(i::text, 0)) FROM sales.invoices i"
        assert older.home.run_sql(query, database=name) == older.server.run_sql(query, database=DATABASE)
        assert script_of(older.home, name, "--section=data") == script_of(older.server, DATABASE, "--section=data")
        older.home.run_sql(f"DROP DATABASE {name}")


def system_with_programs_of(major: int, directory: Path) -> DemoSystem:
    """The demo's system; the client programs are those of the server's own major version where they are at hand."""
    system = system_in(directory)
    if (binaries(major) / "pg_dump").exists():
        text = system.policy.read_text()
        assert text.count(str(binaries())) == 1
        system.policy.write_text(text.replace(str(binaries()), str(binaries(major))))
    return system


def test_programs_that_do_not_know_the_servers_own_marks_are_refused_before_anything_is_stored(
    filled_server: Callable[[int], PostgresServer], tmp_path: Path
) -> None:
    """PostgreSQL 17.12 marks columns in a way that pg_dump 18.6 takes for an option; no server takes that back."""
    server = filled_server(17)
    marks = "SELECT count(*) > 0 FROM pg_attribute WHERE attoptions::text LIKE %s"
    assert server.run_sql(marks, ["%pg_attver=%"], database=DATABASE) == [(True,)]
    script = server.run_program("pg_dump", "--schema-only", "--table=sales.invoices", database=DATABASE)
    assert "SET (pg_attver=" in script, "the wheel's pg_dump knows the marks by now: this test needs an older one"
    unaware = Archives(server, system_in(tmp_path))
    with pytest.raises(BackupFailed, match=r"pg_dump 18\..*pg_attver.*no server would take") as refused:
        unaware.back_up()
    assert "Install newer client programs" in refused.value.remedy
    assert unaware.committed() == []


def test_a_tablespace_that_the_server_lacks_is_said_and_done_without(
    archives: Archives, copy: Copy, module_server: Callable[..., PostgresServer]
) -> None:
    details = archives.details(copy)
    spaces = (TablespaceFacts(oid=99999, name="fast", location="/fast"),)
    server = details.server.model_copy(update={"tablespaces": spaces})
    changed = as_details(details.model_copy(update={"server": server}))
    plan = archives.plan(
        replace(copy, manifest=copy.manifest.model_copy(update={"details": changed})),
        name=(name := next(_NAMES)),
        databases=[DATABASE],
        only=["quick"],
    )
    assert ["tablespaces fast" in remark for remark in plan.remarks] == [True]
    archives.restore(plan)
    assert archives.home.run_sql("SELECT count(*) FROM quick", database=name) == [(10,)]


def test_missing_roles_are_an_obstacle_and_can_be_made(
    archives: Archives, copy: Copy, make_postgres: Callable[..., PostgresServer]
) -> None:
    archives.home = make_postgres()
    try:
        plan = archives.plan(copy, name="without")
        assert [str(obstacle) for obstacle in plan.obstacles if "reader" in str(obstacle)]
        archives.restore(archives.plan(copy, name="without_owners", owners=False))
        plan = archives.plan(copy, name="with_roles", globals_wanted=True)
        assert plan.obstacles == ()
        assert archives.restore(plan).made_globals >= 2
        assert archives.home.run_sql("SELECT 1 FROM pg_roles WHERE rolname = 'reader'")
        # What is there is not touched: the superuser keeps the password of this server.
        archives.home.run_sql("SELECT 1")
        assert script_of(archives.home, "with_roles") == script_of(archives.server, DATABASE)
    finally:
        archives.home = archives.server
