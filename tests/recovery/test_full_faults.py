"""What may happen to a full backup while it is made: nothing half-done is taken for a backup."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifeboat.backup.steps import back_up
from lifeboat.errors import BackupFailed, Cancelled, LifeboatError, TimelineConflict, VerificationFailed
from lifeboat.policy.naming import Tier
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.deep_verification import verify_deep
from lifeboat.postgres.full import BASE_BACKUP_SLOT, _Archives
from lifeboat.postgres.kind import PostgresKind
from lifeboat.postgres.moments import AtRecoveryPoint, Latest
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.targets.target import Readable
from sandbox.accounts import CLONE
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from tests.damaged_page import make_rotten
from tests.recovery.line import SOURCE, Line, commit, ledger
from tests.recovery.silent_proxy import SilentProxy

ROWS = "SELECT n FROM ledger"


def midway(monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> None:
    """Do something when the first bytes of the main archive have come, once: the server has far more to send than
    sockets hold."""
    write = _Archives.write
    calls = itertools.count()

    def write_and_act(archives: _Archives, data: memoryview) -> None:
        write(archives, data)
        if next(calls) == 1:
            action()

    monkeypatch.setattr(_Archives, "write", write_and_act)


def nothing_left(server: PostgresServer) -> bool:
    sessions = server.run_sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'lifeboat'")[0][0]
    slots = server.run_sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", [BASE_BACKUP_SLOT])[0][0]
    return bool(sessions == slots == 0)


def committed(line: Line) -> list[str]:
    return [
        copy.manifest.recovery_point for copy in line.repository.catalogue("primary").recovery_points(SOURCE).copies
    ]


def test_a_server_that_is_stopped_in_mid_backup_commits_nothing_and_the_next_try_succeeds(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        midway(patch, lambda: line.server.stop("immediate"))
        with pytest.raises(BackupFailed):
            line.full()
    assert committed(line) == []
    line.server.start()
    assert line.full().manifest.sequence == 1


def test_a_backend_that_is_terminated_in_mid_backup_commits_nothing(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_replication"
    midway(monkeypatch, lambda: line.server.run_sql(end))
    with pytest.raises(BackupFailed, match="terminat|broke|closed|ended"):
        line.full()
    assert committed(line) == []
    assert nothing_left(line.server)


def test_a_damaged_page_makes_a_damaged_backup_that_is_never_a_base(line: Line) -> None:
    server = line.server
    good = line.full()
    make_rotten(server)
    backed = PostgresKind().back_up(
        line.repository,
        SOURCE,
        Tier.DAILY,
        line.work("full"),
        line.journal,
        progress=lambda *_: None,
        tick=lambda: None,
        retain_until=None,
    )
    [copy] = backed.copies
    assert copy.manifest.state == "damaged"
    assert "damaged pages" in backed.alarm
    assert copy.manifest.findings
    assert [event.recovery_point for event in line.events("backup_damaged")] == [copy.manifest.recovery_point]
    with pytest.raises(VerificationFailed, match="damaged on the server"):
        verify_deep(line.repository, "primary", copy)
    line.wal()
    assert [base.manifest.recovery_point for base in line.offer().bases] == [good.manifest.recovery_point]
    assert line.plan(Latest()).base.manifest.recovery_point == good.manifest.recovery_point


def test_two_base_backups_at_once_are_one_backup_and_one_clear_refusal(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(BackupFailed) as raised:
            Line(line.directory, line.place, line.server, line.system).full()
        refused.append(str(raised.value))

    midway(monkeypatch, second)
    copy = line.full()
    assert committed(line) == [copy.manifest.recovery_point]
    assert "Another base backup of this server is under way" in refused[0]


def test_wal_collected_while_a_full_runs_does_not_take_the_fulls_own_wal_away(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.full()
    line.wal()

    def meanwhile() -> None:
        commit(line.server, 1)
        for _ in range(3):
            line.wal()
            line.server.run_sql("CREATE TABLE IF NOT EXISTS filler (n int)")
            line.server.run_sql("INSERT INTO filler VALUES (1)")
            line.server.run_sql("CHECKPOINT")

    midway(monkeypatch, meanwhile)
    copy = line.full()
    restored = line.restore(AtRecoveryPoint(copy.manifest.recovery_point))
    assert ledger(line.ask(restored, ROWS)) == [1]


class Blocked:
    """A target whose uploads of archives wait until they are let go."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.waiting = threading.Event()
        self.let_go = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def put(self, key: str, body: Readable, **more: Any) -> Any:
        if "base.tar" in key:
            self.waiting.set()
            self.let_go.wait(60)
        return self._target.put(key, body, **more)


def block(line: Line) -> Blocked:
    blocked = Blocked(line.repository.target("primary"))
    line.repository._targets["primary"] = blocked  # type: ignore[assignment]
    return blocked


def test_a_cancellation_gets_through_while_the_server_is_silent(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    with SilentProxy(line.server.port) as proxy:
        line.port = proxy.port
        began: list[float] = []

        def tick() -> None:
            if proxy._silent.is_set():
                began.append(time.monotonic())
                raise Cancelled("A person stopped it.")

        midway(monkeypatch, proxy.fall_silent)
        with pytest.raises(Cancelled):
            line.full(tick=tick)
        took = time.monotonic() - began[0]
        wait_until(lambda: nothing_left(line.server), within=15, what="the server holds nothing of ours")
    # A stopped task is killed five seconds after it was told.
    assert took < 3
    assert committed(line) == []


def test_a_cancellation_gets_through_while_the_target_is_blocked(line: Line) -> None:
    blocked = block(line)

    def tick() -> None:
        if blocked.waiting.is_set():
            began.append(time.monotonic())
            raise Cancelled("A person stopped it.")

    began: list[float] = []
    # Incompressible, and more than all buffers on the way hold.
    line.server.run_sql(
        "CREATE TABLE noise AS SELECT sha512((g || 'x')::bytea) AS a, sha512((g || 'y')::bytea) AS b,"
        " sha512((g || 'z')::bytea) AS c FROM generate_series(1, 300000) AS g"
    )
    with pytest.raises(Cancelled):
        line.full(tick=tick)
    took = time.monotonic() - began[0]
    blocked.let_go.set()
    assert took < 4.5
    wait_until(lambda: nothing_left(line.server), within=15, what="the server holds nothing of ours")


def test_a_cancellation_gets_through_while_data_keeps_flowing(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that always has more to send must not keep us from looking around."""
    write = _Archives.write
    written: list[int] = []

    def slowly(archives: _Archives, data: memoryview) -> None:
        written.append(len(data))
        write(archives, data)
        # So that the next message has always arrived already.
        time.sleep(0.01)

    def tick() -> None:
        if len(written) > 20:
            raise Cancelled("A person stopped it.")

    monkeypatch.setattr(_Archives, "write", slowly)
    with pytest.raises(Cancelled):
        line.full(tick=tick)
    assert len(written) < 100
    assert committed(line) == []


BACKING_UP = """
import sys, time
from pathlib import Path
from datetime import datetime, timedelta
sys.path.insert(0, sys.argv[1]); sys.path.insert(0, sys.argv[2])
from lifeboat.outside import Connection, Outside
from lifeboat.policy.loading import load_policy
from lifeboat.postgres.full import back_up_full
from lifeboat.repository.layout import RecoveryPointId
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
policy, port, point, reached = sys.argv[3:7]
password = sys.stdin.readline().strip()
outside = Outside(lambda i: Connection(i, "postgres", "127.0.0.1", int(port), "lifeboat", password), None)
repository = SystemRepository(load_policy(Path(policy)), outside)
known = RecoveryPointId.parse(point)
work = Work.new("full", begun=known.begun, tiers=("daily",), run=Run(command="t"), actor="t", mark=known.mark)
def progress(done, total):
    if done > 10_000_000:
        Path(reached).touch()
        time.sleep(600)
back_up_full(repository, "database", repository.policy.sources["database"], work,
             repository.journal("primary", run="t", actor="t"), progress=progress)
"""


def test_a_backup_killed_with_9_leaves_nothing_and_its_retry_succeeds_under_the_same_id(
    line: Line, tmp_path: Path
) -> None:
    work = line.work("full", mark="abcd")
    reached = tmp_path / "reached"
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            BACKING_UP,
            CLONE / "plugins",
            CLONE,
            line.system.policy,
            str(line.server.port),
            str(work.recovery_point),
            reached,
        ],
        stdin=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(line.server.passwords["lifeboat"] + "\n")
    child.stdin.flush()
    wait_until(reached.exists, within=60, what="the backup is in its middle")
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    assert committed(line) == []
    wait_until(lambda: nothing_left(line.server), within=30, what="the server has noticed the death")
    retry = line.work("full", mark="abcd", attempt=2)
    retry = type(retry)(work.recovery_point, retry.attempt, retry.tiers, retry.run, retry.actor)
    copy = line.full(work=retry)
    assert copy.manifest.recovery_point == str(work.recovery_point)
    folder = RecoveryPointFolder("demo", SOURCE, copy.manifest.recovery_point)
    attempts = line.repository.target("primary").list_folders(folder.path)
    assert retry.attempt in attempts
    commit(line.server, 1)
    line.wal()
    assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1]


def test_another_cluster_under_the_same_connection_is_refused(
    line: Line, make_postgres: Callable[..., PostgresServer]
) -> None:
    from tests.recovery.line import prepare

    line.full()
    line.wal()
    other = make_postgres(own_identity=True)
    prepare(other)
    line.server = other
    for backup in (line.full, line.wal):
        with pytest.raises(TimelineConflict, match="cluster"):
            backup()
    assert len(committed(line)) == 1


def test_a_standby_is_refused(line: Line, tmp_path: Path) -> None:
    from tests.recovery.test_timelines import standby_of

    with standby_of(line, tmp_path / "standby") as standby:
        line.server = standby
        with pytest.raises(LifeboatError, match="standby"):
            line.full()
        with pytest.raises(LifeboatError, match="standby"):
            line.wal()


def test_what_is_committed_while_the_last_bytes_are_stored_is_after_the_fulls_moment(line: Line) -> None:
    """What is committed after the server has sent everything, however long the upload then takes, is not in the full,
    and the full does not claim it: its moment is read when the last byte arrives, a blink after the data's own."""
    blocked = block(line)
    during: list[Any] = []

    def meanwhile() -> None:
        blocked.waiting.wait(60)
        wait_until(
            lambda: not line.server.run_sql("SELECT 1 FROM pg_stat_progress_basebackup"),
            within=60,
            what="the server has sent everything",
        )
        during.extend(commit(line.server, 1))
        blocked.let_go.set()

    writer = threading.Thread(target=meanwhile)
    writer.start()
    copy = line.full()
    writer.join()
    assert copy.manifest.moment - during[0] < timedelta(seconds=1)
    restored = line.restore(AtRecoveryPoint(copy.manifest.recovery_point))
    assert ledger(line.ask(restored, ROWS)) == []


@pytest.mark.parametrize("tier", [Tier.DAILY, Tier.WAL])
def test_a_key_that_is_optional_and_out_of_reach_is_an_alarm_and_the_backup_opens_without_it(
    line: Line, tier: Tier
) -> None:
    policy = line.system.policy
    far = "    - {name: far-away, kind: local, file: /nowhere/far.key, optional: true}\n"
    policy.write_text(policy.read_text().replace("encryption:\n  keys:\n", f"encryption:\n  keys:\n{far}", 1))
    line.repository = line.new_repository()
    done = back_up(
        line.repository,
        SOURCE,
        tier,
        line.work("wal" if tier is Tier.WAL else "full"),
        line.journal,
        progress=lambda _done, _total: None,
        tick=no_tick,
    )
    assert not done.damaged
    assert "out of reach" in done.alarm
    assert "far-away" in done.alarm
    [event] = line.events("backup_degraded")
    assert event.recovery_point == done.copies[0].manifest.recovery_point
    if tier is Tier.DAILY:
        line.restore(AtRecoveryPoint(done.copies[0].manifest.recovery_point))
