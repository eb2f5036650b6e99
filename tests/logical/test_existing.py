"""Archives brought into a database that is there: all of it or nothing, and nothing that was there changes."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import Cancelled, LifeboatError, ObjectDamaged, RestoreError
from lifeboat.postgres import logical_existing
from lifeboat.repository.catalogue import Copy
from sandbox import postgres_builds
from sandbox.postgres import PostgresServer
from tests.logical.archives import DATABASE, Archives

_NAMES = (f"there_{number}" for number in itertools.count())
Make = Callable[..., str]


@pytest.fixture(scope="module")
def copy(archives: Archives) -> Copy:
    """The archive that most tests bring back."""
    return archives.back_up()


@pytest.fixture
def database(archives: Archives) -> Iterator[Make]:
    """Call it for a database of a test's own: ``like`` another one, changed by a statement."""
    made: list[str] = []

    def make(statement: str = "", *, like: str = "template0", more: str = "") -> str:
        made.append(name := next(_NAMES))
        archives.home.run_sql(f"CREATE DATABASE {name} TEMPLATE {like} {more}")
        if statement:
            archives.home.run_sql(statement, database=name)
        return name

    yield make
    for name in made:
        archives.home.run_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def script_of(server: PostgresServer, name: str, *more: str) -> str:
    """What PostgreSQL itself would write of a database."""
    text = server.run_program("pg_dump", "--exclude-table=sales.capitals", *more, database=name)
    return re.sub(r"^(\\(un)?restrict|-- Dumped from) .*$", "", text, flags=re.MULTILINE)


def things(archives: Archives, name: str) -> int:
    """How much of a user's there is in a database."""
    ((count,),) = archives.home.run_sql(
        "SELECT (SELECT count(*) FROM pg_class WHERE oid >= 16384) + (SELECT count(*) FROM pg_namespace WHERE oid >="
        " 16384) + (SELECT count(*) FROM pg_type WHERE oid >= 16384) + (SELECT count(*) FROM pg_largeobject_metadata)",
        database=name,
    )
    return int(count)


def test_a_whole_archive_comes_into_an_empty_database(archives: Archives, copy: Copy, database: Make) -> None:
    plan = archives.plan(copy, into=database())
    assert plan.obstacles == ()
    name = plan.databases[0].name
    restored = archives.restore(plan)
    left_out = "--exclude-table-data=sales.by_state_*"
    assert script_of(archives.home, name, left_out) == script_of(archives.server, DATABASE, left_out)
    assert restored.databases[0].rows == archives.details(copy).databases[1].rows
    assert archives.home.run_sql("SELECT pubname FROM pg_publication", database=name) == [("everything",)]
    query = "SELECT reltuples FROM pg_class WHERE oid = 'sales.invoices'::regclass"
    assert archives.home.run_sql(query, database=name) == [(1001.0,)]


def test_an_archive_in_parts_of_an_older_server_comes_into_an_empty_database_of_it(
    own_archives: Callable[..., Archives],
) -> None:
    older = own_archives(
        major=min(postgres_builds.tested_majors()), filled=True, policy="{split_above: 1 MB, side_by_side: 2}"
    )
    older.server.run_sql(
        "CREATE TABLE public.bulk AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i", database=DATABASE
    )
    copy = older.back_up()
    assert len(older.details(copy).databases[1].archives) > 1
    older.server.run_sql("CREATE DATABASE there TEMPLATE template0")
    older.restore(older.plan(copy, into="there", databases=[DATABASE]))
    for section in ("pre-data", "post-data"):
        more = f"--section={section}"
        assert script_of(older.server, "there", more) == script_of(older.server, DATABASE, more)
    older.server.run_sql("DROP TABLE public.bulk", database="there")
    older.restore(older.plan(copy, into="there", databases=[DATABASE], only=["bulk"]))
    assert older.server.run_sql("SELECT count(*) FROM bulk", database="there") == [(20000,)]


def test_a_dropped_table_comes_back_into_its_own_database_and_nothing_else_changes(
    archives: Archives, copy: Copy, database: Make
) -> None:
    home = archives.home
    name = database("DROP TABLE sales.invoices CASCADE; DROP TABLE sales.changes", like=DATABASE)
    home.run_sql("SELECT nextval('sales.numbers')", database=name)
    before = script_of(home, name)
    plan = archives.plan(copy, into=name, databases=[DATABASE], only=["sales.invoices", "sales.changes"])
    assert plan.obstacles == ()
    (one,) = plan.databases
    assert one.fit is not None
    assert {"schema sales", "type sales.state", "function sales.note()", "sequence sales.numbers"} <= set(one.fit.names)
    assert ["REFERENCES sales.customers" in statement for statement in one.fit.by_hand] == [True]
    archives.restore(plan)
    after = Counter(script_of(home, name).splitlines())
    assert Counter(before.splitlines()) <= after, Counter(before.splitlines()) - after
    table = "--table=sales.invoices"
    for more in ("--section=pre-data", "--section=data"):
        assert script_of(home, name, table, more) == script_of(home, DATABASE, table, more)
    lost = set(script_of(home, DATABASE, table).splitlines()) - set(script_of(home, name, table).splitlines())
    assert {line for line in lost if "invoices_customer_fkey" not in line} == set()
    assert home.run_sql("SELECT count(*) FROM sales.changes", database=name) == [(2,)]
    # What was left out can be made as the plan says; the sequence that was there gives out no number twice.
    home.run_sql(one.fit.by_hand[0], database=name)
    home.run_sql("INSERT INTO sales.invoices (customer) VALUES (100)", database=name)
    with pytest.raises(RestoreError, match=r"table sales\.invoices is there"):
        archives.restore(archives.plan(copy, into=name, databases=[DATABASE], only=["sales.invoices"]))


@pytest.mark.parametrize(
    ("only", "statement", "what"),
    [
        ("sales.invoices", "", "the sequence sales.invoices_id_seq is there; the table sales.invoices is there"),
        ("quick", "DROP TABLE sales.quick; CREATE VIEW sales.quick AS SELECT 1", "the table sales.quick is there"),
        ("quick", "DROP TABLE sales.quick; CREATE TYPE sales.quick AS ENUM ()", "the table sales.quick is there"),
        (
            "sales.invoices",
            "DROP TABLE sales.invoices CASCADE; ALTER TYPE sales.state ADD VALUE 'lost'",
            "the type sales.state is there, and is another one than it was",
        ),
        (
            "sales.invoices",
            "DROP TABLE sales.invoices CASCADE; CREATE OR REPLACE FUNCTION sales.note() RETURNS trigger"
            " LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "the function sales.note() is there, and is another one than it was",
        ),
        (
            "sales.invoices",
            "DROP TABLE sales.invoices CASCADE; CREATE TABLE sales.other (n int CONSTRAINT invoices_code_key UNIQUE)",
            "the index sales.invoices_code_key is there",
        ),
        (
            "sales.changes",
            "DROP TABLE sales.changes; ALTER SEQUENCE sales.numbers NO CYCLE; ALTER SEQUENCE sales.numbers CYCLE"
            " INCREMENT BY -7",
            "the sequence sales.numbers is there",
        ),
        ("sales.events", "DROP TABLE sales.events_2025", "the table sales.events is there"),
    ],
)
def test_what_is_there_already_is_named_and_stays(
    archives: Archives, copy: Copy, database: Make, only: str, statement: str, what: str
) -> None:
    name = database(statement, like=DATABASE)
    before = script_of(archives.home, name)
    plan = archives.plan(copy, into=name, databases=[DATABASE], only=[only])
    (obstacle,) = plan.obstacles
    assert what in str(obstacle)
    with pytest.raises(RestoreError, match=re.escape(what)):
        archives.restore(plan)
    assert script_of(archives.home, name) == before


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("CREATE TABLE a (n int)", "table public.a"),
        ("CREATE TYPE mood AS ENUM ('sad')", "mood"),
        ("SELECT lo_create(7)", "large object 7"),
        ("CREATE PUBLICATION p", "publication p"),
        ("CREATE SCHEMA s", "schema s"),
    ],
)
def test_a_database_that_is_not_empty_takes_no_whole_archive(
    archives: Archives, copy: Copy, database: Make, statement: str, what: str
) -> None:
    (obstacle,) = archives.plan(copy, into=database(statement)).obstacles
    assert what in str(obstacle)
    assert "not empty" in str(obstacle)


def test_a_database_that_is_missing_or_holds_text_in_another_way_is_refused(
    archives: Archives, copy: Copy, database: Make
) -> None:
    (obstacle,) = archives.plan(copy, into="nowhere").obstacles
    assert "no database 'nowhere'" in str(obstacle)
    name = database(more="ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc")
    (obstacle,) = archives.plan(copy, into=name).obstacles
    assert "ENCODING 'UTF8'" in str(obstacle)


def lose_a_row(archives: Archives, session: Any) -> None:
    session.execute("DELETE FROM sales.invoices WHERE id = 7")


def move_a_sequence_back(archives: Archives, session: Any) -> None:
    session.execute("SELECT setval('sales.invoices_id_seq', 5)")


def cancel(archives: Archives, session: Any) -> None:
    raise Cancelled("by a test")


def end_the_session(archives: Archives, session: Any) -> None:
    archives.home.run_sql("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])


FAULTS: list[tuple[Callable[[Archives, Any], None], str]] = [
    (lose_a_row, r"sales\.invoices has 1000 rows instead of 1001.*as it was before"),
    (move_a_sequence_back, r"sequence sales\.invoices_id_seq stands at 5"),
    (cancel, "by a test"),
    (end_the_session, "terminating connection"),
]


@pytest.mark.parametrize("only", [(), ("sales.invoices", "sales.customers")], ids=["whole", "tables"])
@pytest.mark.parametrize(("fault", "what"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_what_fails_last_of_all_leaves_the_database_as_it_was(
    archives: Archives,
    copy: Copy,
    database: Make,
    monkeypatch: pytest.MonkeyPatch,
    only: tuple[str, ...],
    fault: Callable[[Archives, Any], None],
    what: str,
) -> None:
    prove = logical_existing._proven
    name = database("CREATE TABLE mine (n int)" if only else "")
    before = things(archives, name)
    plan = archives.plan(copy, into=name, databases=[DATABASE], only=only)
    assert plan.obstacles == ()

    def prove_after_the_fault(session: Any, *more: Any) -> Any:
        fault(archives, session)
        return prove(session, *more)

    monkeypatch.setattr(logical_existing, "_proven", prove_after_the_fault)
    with pytest.raises(LifeboatError, match=what):
        archives.restore(plan)
    assert things(archives, name) == before
    monkeypatch.undo()
    archives.restore(archives.plan(copy, into=name, databases=[DATABASE], only=only))


def test_what_somebody_makes_after_the_plan_is_not_touched(archives: Archives, copy: Copy, database: Make) -> None:
    whole, part = database(), database()
    plans = [
        archives.plan(copy, into=whole),
        archives.plan(copy, into=part, databases=[DATABASE], only=["quick"]),
    ]
    for name in (whole, part):
        archives.home.run_sql("CREATE SCHEMA sales; CREATE TABLE sales.quick AS SELECT 7 AS mine", database=name)
    for plan, what in zip(plans, ("not empty any more", "already exists"), strict=True):
        with pytest.raises(RestoreError, match=what):
            archives.restore(plan)
        name = plan.databases[0].name
        assert archives.home.run_sql("SELECT * FROM sales.quick", database=name) == [(7,)]


def test_a_flipped_byte_brings_nothing(archives: Archives, copy: Copy, database: Make) -> None:
    plan = archives.plan(copy, into=database())
    stream = plan.databases[0].archive.archives[0].stream
    volume = copy.manifest.stream(stream).volumes[0]
    root = archives.system.policies.parents[1] / "primary"
    file: Path = root / copy.manifest.folder.attempt(copy.manifest.attempt) / volume.file
    before = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(before[:-40] + bytes([before[-40] ^ 1]) + before[-39:])
    try:
        with pytest.raises(ObjectDamaged):
            archives.restore(plan)
    finally:
        file.write_bytes(before)
    assert things(archives, plan.databases[0].name) == 0


def test_missing_roles_are_made_in_the_same_transaction_or_done_without(
    archives: Archives, copy: Copy, make_postgres: Callable[..., PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.home = home = make_postgres()
    try:
        for name in ("without", "with_roles"):
            home.run_sql(f"CREATE DATABASE {name} TEMPLATE template0")
        (obstacle,) = archives.plan(copy, into="without").obstacles
        assert "reader" in str(obstacle)
        assert "--no-owner" in obstacle.remedy
        archives.restore(archives.plan(copy, into="without", owners=False))
        plan = archives.plan(copy, into="with_roles", globals_wanted=True)
        with monkeypatch.context() as patched:
            patched.setattr(logical_existing, "_proven", lambda *_: cancel(archives, None))
            with pytest.raises(Cancelled):
                archives.restore(plan)
        assert home.run_sql("SELECT 1 FROM pg_roles WHERE rolname = 'reader'") == []
        assert archives.restore(plan).made_globals > 0
        assert home.run_sql("SELECT has_table_privilege('reader', 'sales.invoices', 'SELECT')", database="with_roles")[
            0
        ][0]
    finally:
        archives.home = archives.server
