"""Values written by a real server and read back by us: nothing is lost between."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from lifeboat.errors import VerificationFailed
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.exports.queries import copy_statement
from lifeboat.postgres.exports.records import ColumnRecord
from lifeboat.postgres.exports.rows import (
    Fingerprint,
    Value,
    copy_line,
    csv_records,
    csv_values,
    json_values,
    lines,
)
from lifeboat.postgres.exports.session import Sql, copy_out, exact_session
from lifeboat.postgres.parameters import ConnectionParameters
from sandbox.postgres import PostgresServer

TEXTS = st.one_of(
    st.none(),
    st.sampled_from(["", "NULL", "\\N", "\\.", '"', ",", "\n", "\r\n", "\t", "\\", "\\n", '"",', "\x01", "\x02"]),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20),
)
COLUMNS = tuple(ColumnRecord(name=name, type="text") for name in ("a", "b, c", 'd"'))
NAMES = [column.name for column in COLUMNS]


@pytest.fixture(scope="module")
def session(export_server: PostgresServer) -> Iterator[Sql]:
    keywords = {"host": "127.0.0.1", "port": str(export_server.port), "user": "postgres", "dbname": "postgres"}
    keywords |= {"sslmode": "disable", "client_encoding": "UTF8"}
    password = {"password": export_server.passwords["postgres"]}
    parameters = ConnectionParameters("test", "127.0.0.1", export_server.port, keywords, password)
    with exact_session(parameters, tick=no_tick) as opened:
        opened.execute('CREATE TEMPORARY TABLE val (n int, a text, "b, c" text, "d""" text)')
        yield opened


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_a_server_takes_and_gives_is_what_was_meant(session: Sql, rows: list[tuple[Value, ...]]) -> None:
    session.execute("TRUNCATE pg_temp.val")
    with session.cursor() as cursor, cursor.copy('COPY pg_temp.val (a, "b, c", "d""") FROM STDIN') as copy:
        for row in rows:
            copy.write(copy_line(row))
    stored = session.execute('SELECT a, "b, c", "d""" FROM pg_temp.val').fetchall()
    assert stored == rows
    relation = sql.Identifier("pg_temp", "val")
    given_json = b"".join(_copied(session, copy_statement(relation, COLUMNS, "json", only=True)))
    assert [tuple(json_values(line, NAMES)) for line in lines(io.BytesIO(given_json))] == rows
    given_csv = b"".join(_copied(session, copy_statement(relation, COLUMNS, "csv", only=True)))
    header, *records = csv_records(io.BytesIO(given_csv))
    assert csv_values(header, 3) == NAMES
    assert [tuple(csv_values(record, 3)) for record in records] == rows
    # Everybody's reader agrees, but for the NULL that it does not know.
    stock = list(csv.reader(io.StringIO(given_csv.decode(), newline="")))
    assert stock == [NAMES, *[[value or "" for value in row] for row in rows]]


def _copied(session: Sql, statement: sql.Composed) -> Iterator[bytes]:
    for row in copy_out(session, statement.as_string(session), "the table", tick=no_tick):
        yield bytes(row)


@given(st.lists(st.binary(max_size=12), max_size=12), st.randoms())
def test_a_fingerprint_knows_the_rows_and_not_their_order(rows: list[bytes], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _fingerprint(rows).hex == _fingerprint(shuffled).hex
    assert _fingerprint(rows).hex != _fingerprint([*rows, b"one more"]).hex
    if rows:
        assert _fingerprint(rows).hex != _fingerprint(rows[1:]).hex
        assert _fingerprint(rows).hex != _fingerprint([rows[0] + b"x", *rows[1:]]).hex


def _fingerprint(rows: list[bytes]) -> Fingerprint:
    found = Fingerprint()
    for row in rows:
        found.add(row)
    return found


def test_a_number_is_read_as_it_is_written() -> None:
    assert json_values(b'{"a":1.10,"b, c":-0,"d\\"":1e400}', NAMES) == ["1.10", "-0", "1e400"]
    assert json_values(b'{"a":true,"b, c":false,"d\\"":null}', NAMES) == ["t", "f", None]


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1}',
        b'{"a":1,"a":2,"b, c":3,"d\\"":4}',
        b'{"b, c":1,"a":2,"d\\"":3}',
        b'{"a":[],"b, c":null,"d\\"":null}',
        b'{"a":NaN,"b, c":null,"d\\"":null}',
        b'{"a":"\xff","b, c":null,"d\\"":null}',
        b'{"a":null,"b, c":null,"d\\"":null} x',
        b"[1,2,3]",
        b"[" * 100_000,
        b"",
    ],
)
def test_a_line_that_no_export_writes_is_refused(line: bytes) -> None:
    with pytest.raises(VerificationFailed):
        json_values(line, NAMES)


@pytest.mark.parametrize("record", [b"1,2", b"1,2,3,4", b'1,"2,3', b'1,2"3,4', b'"1"x,2,3', b"\xff,2,3", b""])
def test_a_record_that_no_export_writes_is_refused(record: bytes) -> None:
    with pytest.raises(VerificationFailed):
        csv_values(record, 3)


def test_a_file_that_ends_in_mid_row_is_refused() -> None:
    for content in (b"a\nb", b'"a\n'):
        with pytest.raises(VerificationFailed):
            list(csv_records(io.BytesIO(content)))
