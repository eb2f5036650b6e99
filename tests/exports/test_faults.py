"""What may happen to an export on its way, and to what was stored: nothing half-done is taken for an export."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lifeboat.backup.steps import Point, verify
from lifeboat.errors import (
    BackupFailed,
    Cancelled,
    DestinationInUse,
    LifeboatError,
    NotEnoughDisk,
    PolicyError,
    PostgresError,
    RestoreError,
    VerificationFailed,
)
from lifeboat.operators.run import work_of
from lifeboat.outside import utc_now
from lifeboat.policy.naming import Tier
from lifeboat.postgres import advisory_lock
from lifeboat.postgres.advisory_lock import take_lock
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.exports import packing, snapshot
from lifeboat.postgres.exports.files import UNFINISHED, files_of, write_files
from lifeboat.postgres.exports.packing import TableFile
from lifeboat.postgres.exports.reading import chosen_tables
from lifeboat.postgres.exports.session import Sql
from lifeboat.postgres.kind import PostgresKind
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role
from sandbox.processes import wait_until
from tests.exports.conftest import SOURCE, Exporter
from tests.exports.test_masking import json_of
from tests.exports.test_round_trip import content, restore
from tests.no_room import files_of_at_most

RunSql = Callable[..., list[tuple[Any, ...]]]
# More than the sockets between us and the server hold.
LARGE = "CREATE TABLE large AS SELECT n, repeat(md5(n::text), 40) AS noise FROM generate_series(1, 20000) AS n"


def midway(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Do something once, when the first rows have come."""
    write = TableFile.write
    rows = iter(range(10**9))

    def write_and_act(file: TableFile, row: memoryview, **more: Any) -> None:
        write(file, row, **more)
        if next(rows) == 100:
            action()

    monkeypatch.setattr(TableFile, "write", write_and_act)


def no_session_left(server: PostgresServer) -> None:
    wait_until(
        lambda: server.run_sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'lifeboat'")[0][0] == 0,
        within=15,
        what="the server has taken notice",
    )


def objects(exporter: Exporter) -> list[str]:
    return [path.name for path in (exporter.directory / "primary").rglob("*.enc")]


def test_a_server_that_is_stopped_in_mid_export_commits_nothing_and_the_next_try_succeeds(
    tmp_path: Path,
    make_postgres: Callable[..., PostgresServer],
    make_exporter: Callable[..., Exporter],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make_postgres()
    create_backup_role(server)
    server.run_sql("GRANT pg_read_all_data TO lifeboat")
    server.run_sql(LARGE)
    exporter = make_exporter(server=server, databases="postgres")
    with monkeypatch.context() as patch:
        midway(patch, lambda: server.stop("immediate"))
        with pytest.raises(BackupFailed, match=r"broke|terminat"):
            exporter.export()
    assert exporter.committed() == []
    server.start()
    assert exporter.export().manifest.sequence == 1


def test_an_export_that_is_cancelled_or_cut_off_leaves_no_object_and_no_session(
    exporter: Exporter, run_sql: RunSql, export_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(LARGE)
    told = threading.Event()

    def tick() -> None:
        if told.is_set():
            raise Cancelled("Stopped.")

    with monkeypatch.context() as patch:
        midway(patch, told.set)
        # Ticks come by the clock: a fast machine would have the first file whole, and rightly kept, before the next.
        patch.setattr(TableFile, "end", lambda _: tick())
        with pytest.raises(Cancelled):
            exporter.export(tick=tick)
    no_session_left(export_server)
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'lifeboat'"
    with monkeypatch.context() as patch:
        midway(patch, lambda: run_sql(end))
        with pytest.raises((BackupFailed, PostgresError), match=r"terminat|broke|lost|closed"):
            exporter.export()
    no_session_left(export_server)
    assert exporter.committed() == []
    assert objects(exporter) == []
    assert json_of(exporter, exporter.export("public.large"), "public.large")[0].keys() == {"n", "noise"}


def test_a_table_that_goes_or_comes_before_the_snapshot_is_no_harm_and_one_that_goes_later_waits(
    exporter: Exporter, run_sql: RunSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql("CREATE TABLE gone (n int); CREATE TABLE kept (n int); CREATE TABLE waits (n int)")
    run_sql("INSERT INTO waits VALUES (1)")
    lock, times = snapshot._lock, iter(range(10))

    def late(session: Sql, tables: Any) -> None:
        if next(times) == 0:
            run_sql("DROP TABLE gone; CREATE TABLE late (n int)")
        run_sql("INSERT INTO kept VALUES (1)")
        lock(session, tables)

    monkeypatch.setattr(snapshot, "_lock", late)
    dropper = threading.Thread(target=run_sql, args=("DROP TABLE waits",))
    end = TableFile.end

    def end_and_drop(file: TableFile) -> Any:
        if not dropper.ident:
            dropper.start()
            wait_until(
                lambda: bool(run_sql("SELECT FROM pg_locks WHERE NOT granted AND relation = 'waits'::regclass")),
                within=15,
                what="the drop waits",
            )
        return end(file)

    monkeypatch.setattr(TableFile, "end", end_and_drop)
    copy = exporter.export()
    dropper.join(15)
    assert not dropper.is_alive()
    rows = {record.path: record.rows for record in exporter.records(copy).values()}
    # The snapshot is younger than the locks: what was committed before them is in it.
    assert rows == {"public.kept": 2, "public.late": 0, "public.waits": 1}
    assert run_sql("SELECT to_regclass('waits')") == [(None,)]


def test_the_tables_of_an_export_stand_for_one_moment_while_others_write(
    exporter: Exporter, run_sql: RunSql, export_server: PostgresServer, database: str
) -> None:
    run_sql("CREATE TABLE a_debit (n int); CREATE TABLE z_credit (n int)")
    run_sql("INSERT INTO a_debit SELECT 10 FROM generate_series(1, 3000); INSERT INTO z_credit VALUES (0)")
    stop, moved = threading.Event(), threading.Event()

    def write() -> None:
        with export_server.connect(database=database) as session:
            while not stop.is_set():
                with session.transaction():
                    session.execute("INSERT INTO a_debit VALUES (-1)")
                    session.execute("INSERT INTO z_credit VALUES (1)")
                moved.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert moved.wait(30)
        copies = [exporter.export(), exporter.export()]
    finally:
        stop.set()
        writer.join()
    credits = []
    for copy in copies:
        assert copy.manifest.details["rows"] > 3001
        credits.append(sum(row["n"] for row in json_of(exporter, copy, "public.z_credit")))
        assert sum(row["n"] for row in json_of(exporter, copy, "public.a_debit")) + credits[-1] == 30_000
    assert 0 < credits[0] < credits[1]


def test_row_security_and_missing_rights_are_refused_by_preflight_and_by_the_export(
    exporter: Exporter, run_sql: RunSql
) -> None:
    run_sql("CREATE TABLE secret (n int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY")
    run_sql("CREATE MATERIALIZED VIEW totals AS SELECT 1 AS n")

    def findings() -> list[tuple[str, str, str]]:
        found = PostgresKind().preflight(exporter.repository, SOURCE, Tier.EXPORT, tick=no_tick)
        return [(one.severity, one.subject, one.remedy) for one in found]

    assert ("error", "row security", "ALTER ROLE lifeboat BYPASSRLS; or exclude them.") in findings()
    with pytest.raises(BackupFailed, match=r"row-level security.*BYPASSRLS"):
        exporter.export()
    run_sql("ALTER ROLE lifeboat BYPASSRLS; REVOKE pg_read_all_data FROM lifeboat")
    try:
        found = findings()
        assert ("error", "tables", "GRANT pg_read_all_data TO lifeboat; or exclude them.") in found
        with pytest.raises(BackupFailed, match="pg_read_all_data"):
            exporter.export()
    finally:
        run_sql("ALTER ROLE lifeboat NOBYPASSRLS; GRANT pg_read_all_data TO lifeboat")
    assert exporter.committed() == []
    # Neither the physical backups' rights nor their slot are asked for.
    assert {subject for severity, subject, _ in found if severity == "error"} == {"tables"}


def test_large_files_have_streams_of_their_own_and_single_tables_are_partial_exports(
    exporter: Exporter, run_sql: RunSql, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SMALL_BYTES", 3000)
    monkeypatch.setattr(packing, "PACK_BYTES", 4000)
    run_sql('CREATE TABLE "Large/é" AS SELECT n, md5(n::text) AS text FROM generate_series(1, 9000) AS n')
    for number in range(6):
        run_sql(f"CREATE TABLE small{number} AS SELECT n FROM generate_series(1, {number * 20}) AS n")
    copy = exporter.export()
    names = [stream.name for stream in copy.manifest.streams]
    assert names[:2] == ["00001-public.Large__.jsonl", "00002-public.Large__.csv"]
    assert names[-1] == "tables.jsonl"
    assert names[2:-1] == [f"tables-{number:04d}.tar" for number in range(1, len(names) - 2)]
    assert len(names) > 4
    assert exporter.verify(copy).rows == 2 * (9000 + 20 * 15)
    restore(exporter, copy, 'public."Large/é"', format_name="csv", database=database)
    assert content(run_sql, '"Large/é"') == content(run_sql, '"Large/é_restored"')
    part = exporter.export("public.small1", "public.small5")
    assert [record.path for record in exporter.records(part).values()] == ["public.small1", "public.small5"]
    assert part.manifest.details["partial"] is True
    assert part.manifest.tiers == ()
    assert copy.manifest.tiers == ("export",)
    assert "partial export: public.small1, public.small5" in part.manifest.findings[0]
    with pytest.raises(PolicyError, match="was asked for and is not there"):
        exporter.export("public.small9")
    with pytest.raises(PolicyError, match="takes the whole server"):
        PostgresKind().back_up(
            exporter.repository, SOURCE, Tier.DAILY, exporter.work("public.small1"),
            exporter.repository.journal("primary", run="test", actor="a test"),
            progress=lambda *_: None, tick=no_tick, retain_until=None,
        )  # fmt: skip


def test_the_tables_of_the_trigger_form_are_the_ones_that_are_exported(exporter: Exporter, run_sql: RunSql) -> None:
    run_sql("CREATE TABLE users (n int); CREATE TABLE other (n int)")
    run = SimpleNamespace(
        start_date=utc_now(),
        dag_id="demo_database_export",
        run_id="manual",
        run_type="manual",
        logical_date=None,
        run_after=utc_now(),
        triggering_user_name="ann",
    )
    context: Any = {
        "dag_run": run,
        "ti": SimpleNamespace(try_number=1, xcom_pull=lambda **_: None),
        "params": {"tables": ["public.users"], "note": "one table"},
    }
    work = work_of(context, exporter.repository, SOURCE, Tier.EXPORT, None)
    copy = exporter.export(work=work)
    assert [record.path for record in exporter.records(copy).values()] == ["public.users"]
    assert (copy.manifest.tiers, copy.manifest.details["only"]) == ((), ["public.users"])


def test_another_export_at_the_same_time_is_refused(
    exporter: Exporter, run_sql: RunSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(LARGE)
    refused: list[str] = []

    def again() -> None:
        try:
            exporter.export()
        except BackupFailed as error:
            refused.append(error.what)

    midway(monkeypatch, again)
    exporter.export()
    assert refused == ["Another export of demo database is under way."]


def test_an_export_waits_for_the_one_that_is_just_leaving(
    exporter: Exporter, run_sql: RunSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql("CREATE TABLE users AS SELECT generate_series(1, 5) AS n")
    leaving = exporter.server.connect(database="postgres")
    assert take_lock(leaving, f"lifeboat export {exporter.repository.system} {SOURCE}")
    waited: list[str] = []

    def wait_a_moment(_tick: object) -> None:
        waited.append("refused once")
        leaving.close()

    monkeypatch.setattr(advisory_lock, "_wait_a_moment", wait_a_moment)
    assert len(exporter.records(exporter.export())) == 1
    assert waited


def flip(exporter: Exporter, stream: str) -> None:
    (path,) = (exporter.directory / "primary").rglob(f"{stream}.0001.zst.enc")
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("stream", ["tables-0001.tar", "tables.jsonl"])
def test_a_flipped_byte_is_found_before_anything_is_restored(
    exporter: Exporter, run_sql: RunSql, database: str, stream: str, tmp_path: Path
) -> None:
    run_sql("CREATE TABLE users AS SELECT n, md5(n::text) AS text FROM generate_series(1, 500) AS n")
    copy = exporter.export()
    journal = exporter.repository.journal("primary", run="test", actor="a test")
    points = [Point.of(copy)]
    verify(exporter.repository, SOURCE, "primary", points, journal, deep=True, passed=lambda _: None, tick=no_tick)
    flip(exporter, stream)
    with pytest.raises(LifeboatError):
        exporter.verify(copy)
    with pytest.raises(LifeboatError):
        restore(exporter, copy, database=database)
    assert run_sql("SELECT to_regclass('users_restored')") == [(None,)]
    with pytest.raises(LifeboatError):
        files_into(exporter, copy, tmp_path / "files")
    assert not (tmp_path / "files").exists()


def files_into(
    exporter: Exporter, copy: Copy, into: Path, *only: str, tick: Callable[[], None] = no_tick
) -> list[Path]:
    origin = origin_of(exporter.repository, "primary", copy)
    files = files_of(chosen_tables(copy.manifest, origin, only), None)
    return write_files(copy.manifest, origin, into, files, tick=tick)


def test_a_record_that_contradicts_its_files_is_found(
    exporter: Exporter, run_sql: RunSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql("CREATE TABLE users AS SELECT n FROM generate_series(1, 5) AS n")
    write, rows = TableFile.write, iter(range(100))

    def lose_one(file: TableFile, row: memoryview, **more: Any) -> None:
        if next(rows) == 2:
            file.fingerprint.add(row[:-1])  # counted, and not stored
            return
        write(file, row, **more)

    monkeypatch.setattr(TableFile, "write", lose_one)
    copy = exporter.export()
    with pytest.raises(VerificationFailed, match=r"public\.users as json: The file has 4 rows"):
        exporter.verify(copy)


def test_plain_files_are_their_owners_alone_and_come_all_or_not_at_all(
    exporter: Exporter, run_sql: RunSql, database: str, tmp_path: Path
) -> None:
    run_sql('CREATE TABLE ".." AS SELECT 1 AS n; CREATE TABLE "a/../../b" AS SELECT 2 AS n')
    run_sql("CREATE TABLE users AS SELECT n FROM generate_series(1, 20000) AS n")
    copy = exporter.export()
    into = tmp_path / "files"
    with files_of_at_most(100_000), pytest.raises(NotEnoughDisk):
        files_into(exporter, copy, into)
    assert not into.exists()

    def stop() -> None:
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        files_into(exporter, copy, into, tick=stop)
    assert not into.exists()
    (into / UNFINISHED).mkdir(parents=True)  # what a restore that was killed leaves
    (into / UNFINISHED / "0").write_text("half")
    written = files_into(exporter, copy, into)
    assert sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file()) == sorted(
        f"{database}/public/{name}" for table in ("%2E%2E", "a%2F%2E%2E%2F%2E%2E%2Fb", "users")
        for name in (f"{table}.csv", f"{table}.jsonl")
    )  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in into.rglob("*") if path.is_dir()} == {0o700}
    users = into / database / "public" / "users.jsonl"
    assert [json.loads(line) for line in users.read_text().splitlines()][-1] == {"n": 20000}
    with pytest.raises(DestinationInUse):
        files_into(exporter, copy, into)
    assert sum(1 for _ in into.rglob("*.csv")) == 3


def test_tables_come_back_all_or_nothing_and_never_over_rows_that_are_there(
    exporter: Exporter, run_sql: RunSql, database: str
) -> None:
    run_sql("CREATE TYPE mood AS ENUM ('good', 'bad')")
    run_sql("CREATE TABLE feelings AS SELECT 'bad'::mood AS mood; CREATE TABLE a_users AS SELECT 1 AS n, 'x' AS t")
    copy = exporter.export()
    run_sql("CREATE TABLE a_users_restored AS SELECT 7 AS n, 'precious' AS t")
    with pytest.raises(DestinationInUse, match="not empty"):
        restore(exporter, copy, database=database)
    assert content(run_sql, "a_users_restored") == ["(7,precious)"]
    restore(exporter, copy, "public.a_users", database=database, replace=True)
    assert content(run_sql, "a_users_restored") == ["(1,x)"]
    run_sql("DROP TABLE a_users_restored; DROP TABLE feelings; DROP TYPE mood")
    with pytest.raises(RestoreError, match=r"mood.*make it first"):
        restore(exporter, copy, database=database)
    assert run_sql("SELECT to_regclass('a_users_restored')") == [(None,)]
    # What a table that is there makes of the rows must be what was exported.
    run_sql("CREATE TABLE a_users_restored (n int, t char(3))")
    with pytest.raises(RestoreError, match="not the 1 exported ones"):
        restore(exporter, copy, "public.a_users", database=database)
    run_sql("DROP TABLE a_users_restored; CREATE TABLE a_users_restored (n int)")
    with pytest.raises(RestoreError, match="lacks the columns t"):
        restore(exporter, copy, "public.a_users", database=database)
    run_sql("ALTER TABLE a_users_restored ADD t text")
    run_sql(
        "CREATE TRIGGER tell BEFORE INSERT ON a_users_restored EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    with pytest.raises(RestoreError, match="triggers that would run: tell"):
        restore(exporter, copy, "public.a_users", database=database)
    assert run_sql("SELECT count(*) FROM a_users_restored") == [(0,)]
    with pytest.raises(RestoreError, match=r"holds no table public\.nobody"):
        restore(exporter, copy, "public.nobody", database=database)
