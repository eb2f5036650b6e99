"""What goes wrong while an archive is made or brought back: nothing is committed, nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat.backup.steps import back_up
from lifeboat.errors import BackupFailed, Cancelled, LifeboatError, ObjectDamaged, PostgresError, RestoreError
from lifeboat.kit.papers import PROJECT
from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.postgres import logical_dump, logical_filling
from lifeboat.postgres.client_programs import ProgramFailed, client_programs, run_program
from lifeboat.postgres.full import source_parameters
from lifeboat.postgres.logical_marks import UNPROVEN
from lifeboat.postgres.logical_preflight import preflight_logical
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.source import BackedUp, Tick
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.postgres_builds import binaries
from sandbox.processes import wait_until
from tests.logical.archives import SOURCE, Archives
from tests.recovery.line import system_in

MEGABYTES = 16


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory, module_server: Callable[..., PostgresServer]) -> Archives:
    """A server with more in one table than waits in memory anywhere."""
    server = module_server()
    server.run_sql("CREATE TABLE small (n int)")
    server.run_sql(
        f"CREATE TABLE big AS SELECT i, repeat(md5(i::text), 32) FROM generate_series(1, {MEGABYTES * 1000}) i"
    )
    return Archives(server, system_in(tmp_path_factory.mktemp("system")), policy="{lock_timeout: 1s}")


def children() -> list[psutil.Process]:
    """The client programs that run as our children."""
    return [child for child in psutil.Process().children(recursive=True) if name_of(child).startswith("pg_")]


def name_of(process: psutil.Process) -> str:
    """Its name; empty when it has ended, as processes of the server do all the time."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def sessions(server: PostgresServer) -> int:
    ((count,),) = server.run_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'lifeboat' OR application_name ~ '^pg_'"
    )
    return int(count)


@pytest.fixture(autouse=True)
def nothing_left(big: Archives) -> Iterator[None]:
    """After each fault: no child, no session, no half database."""
    before = len(big.committed())
    yield
    assert children() == []
    assert not [name for name in big.databases() if name.startswith(UNPROVEN)]
    wait_until(lambda: sessions(big.server) == 0, within=10, what="the server has no session of ours")
    assert len(big.committed()) >= before


class AtHalf:
    """Does something once, in the middle of the stream: ``progress`` and ``tick`` of a backup."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self.done = False

    def progress(self, done: int, _total: int) -> None:
        if done > MEGABYTES * 500_000 and not self.done:
            self.done = True
            self._act()


def back_up_with(big: Archives, act: Callable[[], None], *, tick: Tick = lambda: None) -> None:
    half = AtHalf(act)
    before = big.committed()
    try:
        big.back_up(progress=half.progress, tick=tick)
    finally:
        assert half.done
        assert [copy.manifest for copy in big.committed()] == [copy.manifest for copy in before]


def test_a_pg_dump_that_is_killed_in_mid_stream_fails_the_archive(big: Archives) -> None:
    def kill() -> None:
        for child in children():
            child.kill()

    with pytest.raises(BackupFailed, match=r"database postgres failed, and nothing of it is committed.*SIGKILL"):
        back_up_with(big, kill)


def test_a_server_that_stops_in_mid_stream_fails_the_archive(big: Archives) -> None:
    try:
        with pytest.raises(PostgresError):
            back_up_with(big, lambda: big.server.stop("immediate"))
    finally:
        big.server.start()


def test_a_cancelled_archive_ends_its_children(big: Archives) -> None:
    stopped: list[bool] = []

    def tick() -> None:
        if stopped:
            raise Cancelled("by a test")

    with pytest.raises(Cancelled):
        back_up_with(big, lambda: stopped.append(True), tick=tick)


def test_no_secret_shows_in_a_child_and_it_stays_in_our_process_group(
    big: Archives, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def look() -> None:
        for child in children():
            seen.append(" ".join(child.cmdline()) + str(child.environ()))
            assert os.getpgid(child.pid) == os.getpgrp()

    copy: list[Copy] = []
    half = AtHalf(look)
    copy.append(big.back_up(progress=half.progress))
    assert len(seen) == 1
    for place in (*seen, copy[0].document.decode(), caplog.text):
        assert big.server.passwords["lifeboat"] not in place
    assert copy[0].manifest.findings == ()


def test_a_table_that_somebody_has_locked_is_waited_for_and_then_named(big: Archives) -> None:
    with big.server.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE small IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(PostgresError, match="lock") as caught:
            big.back_up()
        other.execute("ROLLBACK")
    assert "small" in str(caught.value)
    assert "quieter time" in caught.value.remedy


def test_a_table_dropped_under_an_archive_fails_it(big: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    big.server.run_sql("CREATE TABLE IF NOT EXISTS fleeting (n int)")
    begin = logical_dump._side_by_side

    def after_the_snapshot(*arguments: Any) -> Any:
        big.server.run_sql("DROP TABLE fleeting")
        return begin(*arguments)

    monkeypatch.setattr(logical_dump, "_side_by_side", after_the_snapshot)
    with pytest.raises(PostgresError, match="fleeting") as caught:
        big.back_up()
    assert "un it again" in caught.value.remedy


def test_what_the_role_may_not_read_fails_the_archive_with_the_statement_to_run(big: Archives) -> None:
    big.server.run_sql("REVOKE pg_read_all_data FROM lifeboat")
    try:
        with pytest.raises(PostgresError, match="permission denied") as caught:
            big.back_up()
    finally:
        big.server.run_sql("GRANT pg_read_all_data TO lifeboat")
    assert "GRANT pg_read_all_data" in caught.value.remedy


def test_row_security_never_hides_rows_from_an_archive(big: Archives) -> None:
    big.server.run_sql("ALTER TABLE small ENABLE ROW LEVEL SECURITY; ALTER ROLE lifeboat NOBYPASSRLS")
    try:
        with pytest.raises(PostgresError, match="row-level security") as caught:
            big.back_up()
    finally:
        big.server.run_sql("ALTER TABLE small DISABLE ROW LEVEL SECURITY; ALTER ROLE lifeboat BYPASSRLS")
    assert "BYPASSRLS" in caught.value.remedy


def test_preflight_names_all_of_that_beforehand(big: Archives) -> None:
    def errors() -> list[str]:
        found = preflight_logical(big.repository, big.source, parameters, tick=lambda: None)
        return [f"{finding.what} {finding.remedy}" for finding in found if finding.severity == "error"]

    parameters = source_parameters(big.repository, big.source, what="preflight")
    assert errors() == []
    big.server.run_sql("ALTER TABLE small ENABLE ROW LEVEL SECURITY; ALTER ROLE lifeboat NOBYPASSRLS")
    big.server.run_sql("SELECT lo_create(78); ALTER ROLE lifeboat RESET lo_compat_privileges")
    try:
        rows, objects = errors()
    finally:
        big.server.run_sql("ALTER TABLE small DISABLE ROW LEVEL SECURITY; ALTER ROLE lifeboat BYPASSRLS")
        big.server.run_sql("SELECT lo_unlink(78); ALTER ROLE lifeboat SET lo_compat_privileges = on")
    assert "public.small" in rows
    assert "ALTER ROLE lifeboat BYPASSRLS;" in rows
    assert "1 of 1 large objects" in objects


def test_two_archives_of_one_day_are_one(big: Archives) -> None:
    due = date(2026, 11, 1)
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(big.back_up, big.work(*tiers, due=due))
            for tiers in (("weekly", "monthly"), ("monthly", "weekly"))
        ]
        made = {job.result().manifest.recovery_point for job in jobs}
    assert len(made) == 1
    assert big.back_up(big.work("yearly", due=due)).manifest.recovery_point not in made


@pytest.fixture(scope="module")
def archive(big: Archives) -> Copy:
    return big.back_up()


def flip(big: Archives, copy: Copy, stream: str) -> Callable[[], None]:
    """Change one byte in the middle of a stored stream; returns what puts it back."""
    volume = copy.manifest.stream(stream).volumes[0]
    file = (
        big.system.policies.parents[1] / "primary" / copy.manifest.folder.attempt(copy.manifest.attempt) / volume.file
    )
    before = file.read_bytes()
    half = len(before) // 2
    file.chmod(0o600)
    file.write_bytes(before[:half] + bytes([before[half] ^ 1]) + before[half + 1 :])
    return lambda: _put_back(file, before)


def _put_back(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def test_a_flipped_byte_is_found_by_a_deep_verification_and_stops_a_restore(big: Archives, archive: Copy) -> None:
    stream = big.details(archive).databases[0].archives[0].stream
    plan = big.plan(archive, name="never")
    mend = flip(big, archive, stream)
    try:
        with pytest.raises(ObjectDamaged):
            big.verify(archive)
        with pytest.raises(ObjectDamaged):
            big.restore(plan)
    finally:
        mend()
    assert "never" not in big.databases()
    assert big.verify(archive)["rows"] == MEGABYTES * 1000


def test_rows_that_did_not_come_back_drop_the_database(
    big: Archives, archive: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = logical_filling.Filler.fill

    def fill_and_lose(self: Any, database: Any, name: str) -> None:
        fill(self, database, name)
        big.home.run_sql("DELETE FROM big WHERE i = 7", database=name)

    monkeypatch.setattr(logical_filling.Filler, "fill", fill_and_lose)
    with pytest.raises(RestoreError, match=rf"public\.big has {MEGABYTES * 1000 - 1} rows instead of"):
        big.restore(big.plan(archive, name="never"))
    assert "never" not in big.databases()


def test_a_changed_row_that_keeps_the_count_is_noticed(
    big: Archives, archive: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = logical_filling.Filler.fill

    def fill_and_change(self: Any, database: Any, name: str) -> None:
        fill(self, database, name)
        big.home.run_sql("UPDATE big SET i = -7 WHERE i = 7", database=name)

    monkeypatch.setattr(logical_filling.Filler, "fill", fill_and_change)
    with pytest.raises(RestoreError, match="and others than it had"):
        big.restore(big.plan(archive, name="never"))


def test_a_cancelled_restore_leaves_no_database(big: Archives, archive: Copy) -> None:
    turns = iter(range(10_000))

    def tick() -> None:
        if children() and next(turns) > 2:
            raise Cancelled("by a test")

    with pytest.raises(Cancelled):
        big.restore(big.plan(archive, name="never"), tick=tick)
    assert "never" not in big.databases()


def test_a_database_that_is_there_is_never_touched(big: Archives, archive: Copy) -> None:
    plan = big.plan(archive, name="postgres")
    assert ["postgres" in str(obstacle) for obstacle in plan.obstacles] == [True]
    with pytest.raises(LifeboatError):
        big.restore(plan)
    assert big.home.run_sql("SELECT count(*) FROM big") == [(MEGABYTES * 1000,)]


def test_what_a_cut_short_restore_left_is_named_by_the_next_plan(big: Archives, archive: Copy) -> None:
    big.home.run_sql(f"CREATE DATABASE {UNPROVEN}left")
    try:
        assert [f"{UNPROVEN}left" in remark for remark in big.plan(archive, name="x").remarks] == [True]
    finally:
        big.home.run_sql(f"DROP DATABASE {UNPROVEN}left")


def test_programs_that_are_missing_or_too_old_are_named(tmp_path: Path) -> None:
    with pytest.raises(PostgresError, match="can't be run") as caught:
        client_programs(tmp_path, at_least=18, why="read the server")
    assert "`binaries`" in caught.value.remedy
    with pytest.raises(PostgresError, match="too old"):
        client_programs(binaries(), at_least=99, why="read the server")


def test_a_program_that_ends_badly_is_quoted() -> None:
    with pytest.raises(ProgramFailed, match="code 3: it's over"):
        run_program(["/bin/sh", "-c", 'echo "it\'s over" >&2; exit 3'])
    with pytest.raises(ProgramFailed, match=signal.SIGTERM.name):
        run_program(["/bin/sh", "-c", "kill -TERM $$"])
    with pytest.raises(ProgramFailed, match="ended well, and yet said"):
        run_program(["/bin/sh", "-c", "echo 'pg_dump: error: of no consequence' >&2"])


def test_the_first_run_of_a_day_makes_the_archive_for_all_its_tiers_and_the_next_finds_it(big: Archives) -> None:
    text = big.system.policy.read_text(encoding="utf-8")
    monthly = '      monthly: {schedule: "0 1 * * 0#1", retention: 12 months}\n'
    if monthly not in text:
        big.system.policy.write_text(text.replace("\nalerts:", monthly + "\nalerts:"), encoding="utf-8")
    repository = SystemRepository(load_policy(big.system.policy), big.repository.outside)
    due = date(2026, 12, 6)

    def run(tier: Tier, *, tick: Tick = lambda: None) -> BackedUp:
        work = big.work(tier.value, due=due)
        return back_up(repository, SOURCE, tier, work, big.journal, progress=lambda *_: None, tick=tick)

    def stop() -> None:
        raise Cancelled("by a test")

    # The longer tier's run fails: the shorter one's makes the archive for both.
    with pytest.raises(Cancelled):
        run(Tier.MONTHLY, tick=stop)
    made = run(Tier.WEEKLY)
    (copy,) = made.copies
    assert set(copy.manifest.tiers) == {"weekly", "monthly"}
    assert "carries weekly, monthly" in made.message
    found = run(Tier.MONTHLY)
    assert [one.manifest.recovery_point for one in found.copies] == [copy.manifest.recovery_point]
    assert "carries the tier monthly of this day, too" in found.message
    # A run that a person starts is made for itself.
    by_hand = back_up(
        repository, SOURCE, Tier.WEEKLY, big.work("weekly"), big.journal, progress=lambda *_: None, tick=lambda: None
    )
    assert by_hand.copies[0].manifest.tiers == ("weekly",)


def test_large_objects_that_the_policy_leaves_out_are_refused_aloud(big: Archives) -> None:
    without = Archives(big.server, big.system)
    text = without.system.policy.read_text(encoding="utf-8")
    policy = big.system.policies.parent / "without" / "demo.yaml"
    policy.parent.mkdir()
    policy.write_text(text.replace("{lock_timeout: 1s}", "{large_objects: false}"), encoding="utf-8")
    without.repository = SystemRepository(load_policy(policy), big.repository.outside)
    big.server.run_sql("SELECT lo_create(77)")
    try:
        with pytest.raises(BackupFailed, match="1 large objects, and the policy leaves them out"):
            without.back_up()
    finally:
        big.server.run_sql("SELECT lo_unlink(77)")


def test_the_page_and_the_reader_bring_an_archive_back_without_lifeboat(
    big: Archives, archive: Copy, tmp_path: Path
) -> None:
    page = (PROJECT / "docs" / "restore-archive-by-hand.md").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    (tmp_path / "mirror").symlink_to(big.system.policies.parents[1] / "primary")
    public = big.repository.policy.signing.trusted[0].public_key
    program = f'"{sys.executable}" "{PROJECT}/include/reader/lifeboat_reader.py"'
    reader = f'read_stream() {{ {program} "$KEY" "$1" "$2" "{public}"; }}'
    variables = {
        "PATH": os.environ["PATH"],
        "KEY": str(big.system.break_glass),
        "SYSTEM": "demo",
        "SOURCE": SOURCE,
        "PGBIN": str(binaries()),
        "DATABASE": str(big.details(archive).databases[0].oid),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(big.home.port),
        "PGUSER": SUPERUSER,
        "PGDATABASE": "postgres",
        "PGPASSWORD": big.home.passwords[SUPERUSER],
    }
    ended = subprocess.run(
        ["/bin/sh", "-eu", "-c", f"{reader}\n{commands}"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:] + ended.stdout[-2000:]
    assert big.home.run_sql("SELECT count(*) FROM big", database="brought_back") == [(MEGABYTES * 1000,)]


def test_a_worker_killed_with_9_commits_nothing_and_leaves_no_process(big: Archives, tmp_path: Path) -> None:
    before = [copy.manifest.recovery_point for copy in big.committed()]
    connections = tmp_path / "connections.json"
    connections.touch(mode=0o600)
    connections.write_text(json.dumps({"demo_database": json.loads(big.server.airflow_connection("lifeboat"))}))
    options = ["--policies", str(big.system.policies), "--connections", str(connections)]
    worker = psutil.Popen(
        [sys.executable, "-m", "lifeboat.cli", *options, "backup", "demo", "database", "--tier", "weekly", "--no-copy"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "plugins")},
    )
    dumps: list[psutil.Process] = []

    def dumping() -> bool:
        dumps.extend(child for child in worker.children() if name_of(child).startswith("pg_dump"))
        return bool(dumps)

    wait_until(dumping, within=90, what="the worker has started pg_dump")
    worker.kill()
    worker.wait()
    wait_until(lambda: not any(one.is_running() for one in dumps), within=30, what="pg_dump has ended")
    assert [copy.manifest.recovery_point for copy in big.committed()] == before
    # And it can be run again.
    assert big.back_up().manifest.state == "good"
