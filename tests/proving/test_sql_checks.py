"""A system's own checks: what their files say, and what a server answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import PolicyError
from lifeboat.recovery.sql_checks import SqlCheck, ask, parse_check, read_checks
from sandbox.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[2]
SEVERAL = "cannot insert multiple commands into a prepared statement"
HEADER = "-- source: database\n-- database: postgres\n"


def check(expect: str, query: str) -> SqlCheck:
    return parse_check("a.sql", f"{HEADER}-- expect: {expect}\n{query}")


@pytest.mark.parametrize(
    ("expect", "rows", "least", "most"),
    [
        ("no rows", True, None, None),
        ("1 or more", False, 1, None),
        ("-2.5 or less", False, None, Decimal("-2.5")),
        ("1 to 100", False, 1, 100),
        ("0 to 0", False, 0, 0),
    ],
)
def test_what_is_expected_is_read(expect: str, rows: bool, least: Any, most: Any) -> None:
    found = check(expect, "SELECT 1")
    assert (found.rows, found.least, found.most) == (rows, least, most)
    assert (found.source, found.database, found.query) == ("database", "postgres", "SELECT 1")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("SELECT 1", "does not say `-- source: …`"),
        ("-- source: a\n-- expect: no rows\nSELECT 1", "does not say `-- database: …`"),
        (HEADER + "SELECT 1", "does not say `-- expect: …`"),
        (HEADER + "-- expect:\nSELECT 1", "does not say `-- expect: …`"),
        (HEADER + "-- expect: no rows\n-- expect: 1 or more\nSELECT 1", "says `expect` twice"),
        (HEADER + "-- expect: some rows\nSELECT 1", "expects 'some rows'"),
        (HEADER + "-- expect: 5 to 1\nSELECT 1", "expects 5 to 1, which no number is"),
        (HEADER + "-- expect: no rows\n", "has no query"),
        (HEADER + "-- expect: no rows\n-- SELECT 1\n\n", "has no query"),
    ],
)
def test_a_header_that_is_not_understood_is_refused(text: str, what: str) -> None:
    with pytest.raises(PolicyError, match="The check a.sql") as raised:
        parse_check("a.sql", text)
    assert what in raised.value.what
    assert raised.value.remedy


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(PolicyError):
        parse_check("a.sql", text)


@given(st.integers(-99, 99), st.integers(-99, 99))
def test_bounds_are_read_as_they_are_written(one: int, other: int) -> None:
    least, most = sorted((one, other))
    found = check(f"{least} to {most}", "SELECT 1")
    assert (found.least, found.most) == (least, most)


def test_the_checks_of_a_folder_come_by_their_names(tmp_path: Path) -> None:
    for name in ("b.sql", "a.sql", "notes.txt"):
        (tmp_path / name).write_text(f"{HEADER}-- expect: no rows\nSELECT 1")
    assert [found.name for found in read_checks(tmp_path)] == ["a.sql", "b.sql"]
    assert read_checks(tmp_path / "missing") == []


def test_a_check_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes(b"\xff\xfe")
    with pytest.raises(PolicyError, match="can't be read"):
        read_checks(tmp_path)


def test_the_checks_that_come_with_the_policies_are_read() -> None:
    folders = [folder for folder in (ROOT / "include" / "checks").iterdir() if folder.is_dir()]
    assert all(read_checks(folder) for folder in folders)
    assert "erp" in [folder.name for folder in folders]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("checks") / "server", settings={"fsync": "off"}) as running:
        running.run_sql("CREATE TABLE card (number text)")
        running.run_sql("INSERT INTO card VALUES ('4111-1111'), ('4222-2222')")
        yield running


@pytest.mark.parametrize(
    ("expect", "query", "passed", "what"),
    [
        ("no rows", "SELECT 1 WHERE false", True, "no rows"),
        ("no rows", "SELECT number FROM card", False, "2 rows where none should be"),
        ("no rows", "SELECT number FROM card LIMIT 1;", False, "1 row where none should be"),
        ("2 or more", "SELECT count(*) FROM card", True, "2 (expected: 2 or more)"),
        ("1 or less", "SELECT count(*) FROM card", False, "2 (expected: 1 or less)"),
        ("2 to 3", "SELECT 2.5", True, "2.5 (expected: 2 to 3)"),
        ("2 to 3", "SELECT 3.01", False, "3.01 (expected: 2 to 3)"),
        ("2 or more", "SELECT number FROM card LIMIT 1", False, "it gives no number"),
        ("2 or more", "SELECT 'NaN'::float", False, "it gives no number"),
        ("2 or more", "SELECT 'infinity'::float", True, "Infinity (expected: 2 or more)"),
        ("2 or more", "SELECT NULL::int", False, "it gives no single number"),
        ("2 or more", "SELECT 1, 2", False, "it gives no single number"),
        ("2 or more", "SELECT 1 FROM card", False, "it gives no single number"),
        ("no rows", "SELECT number::int FROM card", False, "it can't be asked: InvalidTextRepresentation"),
        ("no rows", "SELECT FROM nowhere", False, "it can't be asked: relation \"nowhere\" does not exist"),
        ("no rows", "INSERT INTO card VALUES ('x') RETURNING 1", False, "it can't be asked: ReadOnlySqlTransaction"),
        ("no rows", "SET default_transaction_read_only = off", False, "it can't be asked: it gives no rows"),
        ("no rows", "SELECT 1; SELECT 2", False, f"it can't be asked: {SEVERAL}"),
        ("no rows", "SELECT generate_series(1, 100001)", False, "more than 100,000 rows where none should be"),
        ("no rows", "SELECT '100%' WHERE 'a' LIKE '%b'", True, "no rows"),
    ],
)  # fmt: skip
def test_a_servers_answer_is_judged_and_none_of_its_rows_is_told(
    server: PostgresServer, expect: str, query: str, passed: bool, what: str
) -> None:
    def session(database: str) -> psycopg.Connection[Any]:
        connection = server.connect(database=database)
        connection.autocommit = True
        return connection

    assert ask(check(expect, query), session) == (passed, what)


def test_a_database_that_is_not_there_fails_its_check(server: PostgresServer) -> None:
    one = parse_check("a.sql", "-- source: database\n-- database: gone\n-- expect: no rows\nSELECT 1")
    passed, what = ask(one, lambda database: server.connect(database=database))
    assert not passed
    assert what.startswith("it can't be asked")
