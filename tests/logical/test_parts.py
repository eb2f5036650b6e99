"""The pure parts of logical archives: tables of contents, patterns, rows counted in a script, tables shared out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import ManifestInvalid, RestoreError
from lifeboat.operators.run import due_day
from lifeboat.postgres.logical_contents import differences
from lifeboat.postgres.logical_details import Contents, LargeObjects, SequenceContent, TableContent
from lifeboat.postgres.logical_filling import only_asked_too_much
from lifeboat.postgres.logical_globals import missing_statements
from lifeboat.postgres.logical_marks import UNPROVEN, marked_name
from lifeboat.postgres.logical_naming import LONGEST_NAME, restored_name
from lifeboat.postgres.logical_selection import parse_listing, select, tables_like
from lifeboat.postgres.logical_splitting import MOST_NAMED, groups, pattern
from lifeboat.postgres.logical_verification import RowCounter, miscounted
from tests.conftest import Clock


def table(name: str, *, oid: int = 1, schema: str = "public", rows: int | None = 1, **more: object) -> TableContent:
    return TableContent.model_validate(
        {"oid": oid, "schema_name": schema, "name": name, "rows": rows, "fingerprint": None if rows is None else "7"}
        | more
    )


def contents(*tables: TableContent, sequences: Sequence[SequenceContent] = ()) -> Contents:
    return Contents(tables=tables, sequences=tuple(sequences), large_objects=LargeObjects(count=0, fingerprint=None))


LISTING = """;
; Archive created at 2026-11-24
;
10; 2615 1 SCHEMA - sales owner
20; 1259 100 TABLE sales orders owner
;	depends on: 10 30
30; 1247 5 TYPE sales state owner
;	depends on: 10
40; 1259 200 TABLE sales lines owner
;	depends on: 10
50; 1259 7 SEQUENCE sales orders_id_seq owner
;	depends on: 20
60; 0 0 SEQUENCE SET sales orders_id_seq owner
;	depends on: 50
70; 0 100 TABLE DATA sales orders owner
;	depends on: 20
80; 2606 8 CONSTRAINT sales orders orders_pkey owner
;	depends on: 20
90; 2606 9 FK CONSTRAINT sales lines lines_order_fkey owner
;	depends on: 40 80 20
100; 0 0 ACL - SCHEMA sales owner
;	depends on: 10
110; 1259 11 VIEW sales open_orders owner
;	depends on: 20
"""


def test_a_table_comes_with_its_own_and_what_it_needs() -> None:
    selection = select(parse_listing(LISTING), [table("orders", oid=100, schema="sales")])
    assert selection.numbers == {10, 20, 30, 50, 60, 70, 80, 100}
    assert selection.left_out == []


def test_a_foreign_key_comes_when_both_tables_do_and_is_said_when_not() -> None:
    entries = parse_listing(LISTING)
    orders, lines = (table(name, oid=oid, schema="sales") for name, oid in (("orders", 100), ("lines", 200)))
    assert 90 in select(entries, [orders, lines]).numbers
    alone = select(entries, [lines])
    assert 90 not in alone.numbers
    assert 20 not in alone.numbers
    assert alone.left_out == ["FK CONSTRAINT sales lines lines_order_fkey owner"]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("public.inv*", ["invoices"]),
        ("INVOICES", ["invoices"]),
        ('"Order Lines"', ["Order Lines"]),
        ("order*", ["orders"]),
        ("?rders", ["orders"]),
        ("*.*", ["invoices", "orders", "Order Lines", "a.b"]),
        ('"a.b"', ["a.b"]),
        ("(invoices|orders)", ["invoices", "orders"]),
    ],
)
def test_patterns_mean_what_they_mean_to_pg_dump(written: str, found: list[str]) -> None:
    names = ["invoices", "orders", "Order Lines", "a.b"]
    known = contents(*(table(name, oid=number) for number, name in enumerate(names, 1)))
    assert [one.name for one in tables_like([written], known)] == found


@pytest.mark.parametrize("written", ["", ".", "a.b.c", '"open', "sales.", "x[*"])
def test_what_is_no_pattern_is_refused(written: str) -> None:
    with pytest.raises(RestoreError):
        tables_like([written], contents(table("a")))


def test_partitions_come_with_their_table() -> None:
    family = contents(
        table("whole", oid=1, rows=None),
        table("part", oid=2, parents=(1,), partition=True),
        table("part_of_part", oid=3, parents=(2,), partition=True),
        table("other", oid=4),
    )
    assert [one.oid for one in tables_like(["whole"], family)] == [1, 2, 3]


ROW = st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=12).filter(lambda row: row != "\\.")
TABLES = st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.lists(ROW, max_size=6), max_size=5)


@given(TABLES, st.integers(0, 5), st.data())
def test_rows_are_counted_however_the_script_is_cut(
    tables: dict[str, list[str]], objects: int, data: st.DataObject
) -> None:
    script = "--\n-- COPY nothing FROM stdin;\n--\nSET x = 0;\n\n"
    for name, rows in tables.items():
        script += f'COPY public."{name} ""x""" (a, b) FROM stdin;\n' + "".join(f"{row}\n" for row in rows) + "\\.\n\n\n"
    script += "SELECT pg_catalog.lo_open('1', 131072);\n" * objects
    stream = script.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    counter = RowCounter()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        counter.take(stream[begin:end])
    assert counter.whole
    assert counter.rows == {("public", f'{name} "x"'): len(rows) for name, rows in tables.items()}
    assert counter.large_objects == objects


def test_a_block_without_an_end_is_not_whole() -> None:
    counter = RowCounter()
    counter.take(b"COPY public.a (n) FROM stdin;\n1\n2\n")
    assert not counter.whole


def test_rows_that_go_through_the_partitioned_table_count_for_the_family() -> None:
    family = contents(
        table("whole", oid=1, rows=None),
        table("one", oid=2, parents=(1,), partition=True, rows=3),
        table("two", oid=3, parents=(1,), partition=True, rows=4),
    )
    assert miscounted(family, {("public", "whole"): 7}) == []
    assert miscounted(family, {("public", "one"): 3, ("public", "two"): 4}) == []
    assert miscounted(family, {("public", "whole"): 6}) == ["public.whole has 6 rows instead of 7"]
    assert miscounted(family, {("public", "one"): 3}) == ["public.two has 0 rows instead of 4"]


SIZES = st.lists(st.integers(0, 10**9), max_size=2 * MOST_NAMED)


@given(SIZES, st.integers(2, 9))
def test_every_table_is_in_one_group_and_the_groups_are_balanced(sizes: list[int], count: int) -> None:
    tables = [table(f"t{number}", oid=number, size_bytes=size) for number, size in enumerate(sizes)]
    rest, *shares = groups(tables, count)
    named = [one.oid for share in shares for one in share.tables]
    assert rest.tables == ()
    assert len(shares) < count
    assert len(named) == len(set(named)) == min(MOST_NAMED, sum(size > 0 for size in sizes))
    assert rest.size_bytes + sum(share.size_bytes for share in shares) == sum(sizes)
    if shares:
        largest = max((one.size_bytes for share in shares for one in share.tables), default=0)
        assert max(s.size_bytes for s in shares) - min(s.size_bytes for s in shares) <= largest


def test_a_pattern_for_pg_dump_names_one_table() -> None:
    assert pattern(table('Odd "one"', schema="a.b")) == '"a.b"."Odd ""one"""'


def sequence(last: int, **more: object) -> SequenceContent:
    return SequenceContent.model_validate(
        {"oid": 1, "schema_name": "s", "name": "q", "last": last, "called": True, "increment": 1, "cycle": False} | more
    )


@pytest.mark.parametrize(
    ("before", "after", "fits"),
    [
        (sequence(5), sequence(5), True),
        (sequence(5), sequence(9), True),
        (sequence(5), sequence(4), False),
        (sequence(5), sequence(5, called=False), False),
        (sequence(-5, increment=-1), sequence(-6, increment=-1), True),
        (sequence(-5, increment=-1), sequence(-4, increment=-1), False),
        (sequence(5, cycle=True), sequence(1, cycle=True), True),
    ],
)
def test_a_sequence_may_be_ahead_and_never_behind(before: SequenceContent, after: SequenceContent, fits: bool) -> None:
    assert (differences(contents(sequences=[before]), contents(sequences=[after])) == []) is fits


def test_a_listing_comes_back_as_it_was_written_and_nonsense_is_refused() -> None:
    known = contents(table("a", parents=(3,)), sequences=[sequence(5)])
    assert Contents.parse(b"".join(known.lines()), "x") == known
    for text in (b"", b"{}\n", b"nonsense\n", b'{"kind": "table"}\n', b'{"kind": "planet"}\n'):
        with pytest.raises(ManifestInvalid):
            Contents.parse(text, "x")


def test_only_what_a_server_lacks_is_made_of_the_globals() -> None:
    script = """--
\\restrict x
SET client_encoding = 'UTF8';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER PASSWORD 'SCRAM-SHA-256$x';
CREATE ROLE "Odd one";
ALTER ROLE "Odd one" WITH NOLOGIN;
COMMENT ON ROLE "Odd one" IS 'it''s
two lines; and more';
ALTER ROLE "Odd one" SET work_mem TO '8MB';
GRANT pg_read_all_data TO "Odd one" WITH INHERIT TRUE GRANTED BY postgres;
GRANT pg_read_all_data TO postgres WITH INHERIT TRUE GRANTED BY postgres;
CREATE TABLESPACE fast OWNER postgres LOCATION '/fast';
CREATE TABLESPACE slow OWNER postgres LOCATION '/slow';
"""
    assert list(missing_statements(script, {"postgres"}, {"fast"})) == [
        'CREATE ROLE "Odd one";',
        'ALTER ROLE "Odd one" WITH NOLOGIN;',
        "COMMENT ON ROLE \"Odd one\" IS 'it''s\ntwo lines; and more';",
        "ALTER ROLE \"Odd one\" SET work_mem TO '8MB';",
        'GRANT pg_read_all_data TO "Odd one" WITH INHERIT TRUE;',
        "CREATE TABLESPACE slow OWNER postgres LOCATION '/slow';",
    ]


@given(st.text(min_size=1, max_size=63))
def test_names_of_restored_databases_fit(name: str) -> None:
    for made in (restored_name(name, datetime(2026, 11, 22, 1, tzinfo=UTC)), marked_name(UNPROVEN, name)):
        assert len(made.encode()) <= LONGEST_NAME
        assert made != name


def test_an_error_besides_the_one_setting_is_never_forgiven() -> None:
    unknown = 'ERROR:  unrecognized configuration parameter "transaction_timeout"'
    setting = f"pg_restore: error: could not execute query: {unknown}"
    ignored = "pg_restore: warning: errors ignored on restore: {}"
    assert only_asked_too_much(f"{setting}\nCommand was: SET x;\n{ignored.format(1)}")
    assert not only_asked_too_much(f"{setting}\n{ignored.format(2)}")
    assert not only_asked_too_much(setting)
    assert not only_asked_too_much(f"{setting}\npg_restore: error: ERROR:  no\n{ignored.format(2)}")
    assert not only_asked_too_much("")


def test_only_a_run_that_a_schedule_wanted_is_due(clock: Clock) -> None:
    repository = SimpleNamespace(policy=SimpleNamespace(zone=ZoneInfo("Pacific/Auckland")))
    run = SimpleNamespace(run_type="scheduled", logical_date=clock(), run_after=clock())
    assert due_day(run, repository) == date(2026, 11, 22)
    run.logical_date = clock.advance(hours=12)
    assert due_day(run, repository) == date(2026, 11, 23)
    run.run_type = "manual"
    assert due_day(run, repository) is None
