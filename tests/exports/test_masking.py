"""What a policy masks never leaves the server, and what comes back of it says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lifeboat.errors import PolicyError
from lifeboat.postgres.copy_stream import CopyStream
from lifeboat.postgres.exports.reading import table_file
from lifeboat.postgres.exports.session import Sql
from lifeboat.postgres.exports.snapshot import take_snapshot
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from sandbox.postgres import PostgresServer
from tests.exports.conftest import Exporter
from tests.exports.test_round_trip import restore

RunSql = Callable[..., list[tuple[Any, ...]]]
SECRET = "ann.secret@example.com"


def json_of(exporter: Exporter, copy: Copy, table: str) -> list[dict[str, Any]]:
    (record,) = [record for record in exporter.records(copy).values() if record.path == table]
    with table_file(copy.manifest, origin_of(exporter.repository, "primary", copy), record.files[0]) as content:
        return [json.loads(line) for line in content.read().splitlines()]


def make_people(run_sql: RunSql) -> None:
    run_sql(
        "CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL, phone text, born date NOT NULL, pin int,"
        " words text[], lower text GENERATED ALWAYS AS (lower(email)) STORED)"
    )
    run_sql("CREATE TABLE staff () INHERITS (users)")
    run_sql("CREATE TABLE orders (user_email text)")
    run_sql("INSERT INTO users VALUES (1, %s, '555123456', '1970-01-01', 1234, '{secret}')", [SECRET])
    run_sql("INSERT INTO users VALUES (2, 'b', 'abc', '1970-01-02', NULL, NULL)")
    run_sql("INSERT INTO staff VALUES (3, %s, NULL, '1970-01-01', 1234, '{secret}')", [SECRET])
    run_sql("INSERT INTO orders VALUES (%s)", [SECRET])


MASKS = """\
mask:
  public.users.email: hash
  public.users.lower: "null"
  public.users.phone: partial
  public.users.born: null
  public.users.pin: hash
  public.users.words: {fixed: "it's \\\\ hidden"}
  public.orders.*: hash
"""


def test_masked_values_are_made_on_the_server_and_their_key_is_nowhere(
    make_exporter: Callable[..., Exporter],
    run_sql: RunSql,
    database: str,
    export_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_people(run_sql)
    for setting in ("log_statement = 'all'", "log_min_duration_statement = 0"):
        run_sql(f"ALTER ROLE lifeboat SET {setting}")
    received: list[bytes] = []
    keys: list[str] = []
    next_message = CopyStream.next_message

    def heard(stream: CopyStream) -> memoryview | None:
        message = next_message(stream)
        received.append(bytes(message or b""))
        return message

    def with_key(session: Sql, *arguments: Any) -> Any:
        keys.extend(str(row[0]) for row in session.execute("SELECT current_setting('lifeboat.mask_key')"))
        return take_snapshot(session, *arguments)

    monkeypatch.setattr(CopyStream, "next_message", heard)
    monkeypatch.setattr("lifeboat.postgres.exports.export.take_snapshot", with_key)
    exporter = make_exporter(MASKS)
    copy = exporter.export()
    for setting in ("log_statement", "log_min_duration_statement"):
        run_sql(f"ALTER ROLE lifeboat RESET {setting}")
    everything = b"".join(received)
    assert b'"id":1' in everything
    for plain in (SECRET, "555123", "1970", "1234", "secret}"):
        assert plain.encode() not in everything
    (key,) = keys
    assert len(key) == 72
    log = export_server.log.read_text()
    assert "lifeboat.mask_key" in log  # every statement is in it
    assert key not in log
    assert key.encode() not in everything + copy.document

    first, second = json_of(exporter, copy, "public.users")
    (heir,) = json_of(exporter, copy, "public.staff")
    (order,) = json_of(exporter, copy, "public.orders")
    # One value has one hash in all tables of an export, so that they can be joined.
    assert first["email"] == heir["email"] == order["user_email"]
    assert len(first["email"]) == 64
    assert (first["phone"], second["phone"], heir["phone"]) == ("55***", "***", None)
    assert (first["born"], first["lower"], second["pin"]) == (None, None, None)
    assert first["words"] == second["words"] == heir["words"] == "it's \\ hidden"
    masked = {one["column"]: one["mask"] for one in copy.manifest.details["masked"]}
    assert masked[f"{database}.public.staff.email"] == "hash"
    assert masked[f"{database}.public.users.born"] == "null"
    assert exporter.verify(copy).rows == 8
    again = json_of(exporter, exporter.export(), "public.users")[0]
    assert again["email"] != first["email"]  # the key was gone with its session

    for format_name in ("json", "csv"):
        restore(exporter, copy, "public.users", format_name=format_name, database=database)
        rows = run_sql("SELECT id, email, born, pin, words, lower FROM users_restored ORDER BY id")
        assert rows[0] == (1, first["email"], None, first["pin"], first["words"], None)
        run_sql("DROP TABLE users_restored")


def test_a_mask_that_fits_nothing_any_more_stops_the_export_and_nothing_is_committed(
    make_exporter: Callable[..., Exporter], run_sql: RunSql
) -> None:
    make_people(run_sql)
    exporter = make_exporter('mask: {public.users.email: hash, public.users.lower: "null"}')
    run_sql("ALTER TABLE users RENAME COLUMN email TO mail")
    with pytest.raises(PolicyError, match=r"no column `public\.users\.email`"):
        exporter.export()
    assert exporter.committed() == []


def test_a_column_that_is_renamed_between_the_survey_and_the_snapshot_stops_it_as_well(
    make_exporter: Callable[..., Exporter], run_sql: RunSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql("CREATE TABLE users (email text)")
    exporter = make_exporter("mask: {public.users.email: hash}")

    def late(session: Sql, *arguments: Any) -> Any:
        run_sql("ALTER TABLE users RENAME COLUMN email TO mail")
        return take_snapshot(session, *arguments)

    monkeypatch.setattr("lifeboat.postgres.exports.export.take_snapshot", late)
    with pytest.raises(PolicyError, match=r"no column `public\.users\.email`"):
        exporter.export()
    assert exporter.committed() == []
