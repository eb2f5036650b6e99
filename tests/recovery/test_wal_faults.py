"""What may happen to the WAL on its way: a gap is named, and nothing on its far side is promised."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import LifeboatError, MomentUnreachable, PostgresError, TimelineConflict
from lifeboat.policy.objectives import Objectives
from lifeboat.postgres import slot as slots
from lifeboat.postgres.deep_verification import verify_chain, verify_deep
from lifeboat.postgres.moments import AtTime, Latest
from lifeboat.targets.target import Readable
from sandbox.postgres import ENVIRONMENT, PostgresServer
from sandbox.postgres_builds import binaries
from sandbox.processes import wait_until
from tests.recovery.line import SOURCE, Line, commit, ledger

ROWS = "SELECT n FROM ledger"


def restart_lsn(line: Line) -> Any:
    return line.server.run_sql("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = %s", [line.slot])


def folder_of(line: Line, copy: Any) -> Path:
    manifest = copy.manifest
    return line.directory / "primary" / manifest.folder.path


def objects_of(line: Line, copy: Any) -> list[Path]:
    files = (folder_of(line, copy) / copy.manifest.attempt).iterdir()
    return sorted(file for file in files if not file.name.startswith("manifest"))


def test_an_idle_server_is_covered_up_to_now_and_grows_nothing(line: Line) -> None:
    line.full()
    commit(line.server, 1)
    first = line.wal()
    position = line.server.run_sql("SELECT pg_current_wal_insert_lsn()")
    second, third = line.wal(), line.wal()
    assert first.covered_until < second.covered_until < third.covered_until
    assert [copy.manifest.streams for copy in (*second.copies, *third.copies)] == [(), ()]
    assert line.server.run_sql("SELECT pg_current_wal_insert_lsn()") == position
    restored = line.restore(AtTime(third.covered_until))
    assert restored.to_the_end
    assert ledger(line.ask(restored, ROWS)) == [1]


def test_the_slot_moves_only_once_the_wal_is_committed(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.full()
    line.wal()
    commit(line.server, 1)
    before = restart_lsn(line)

    def refuse(*_: object, **__: object) -> None:
        raise PostgresError("The target went away.")

    with monkeypatch.context() as patch:
        patch.setattr("lifeboat.repository.committing.commit", refuse)
        with pytest.raises(PostgresError, match="went away"):
            line.wal()
    assert restart_lsn(line) == before
    line.wal()
    assert restart_lsn(line) != before
    assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1]


class Slow:
    """A target whose first upload of a segment waits for longer than the server would."""

    def __init__(self, target: Any, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self.waited = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def put(self, key: str, body: Readable, **more: Any) -> Any:
        if not self.waited:
            self.waited = True
            threading.Event().wait(self._seconds)
        return self._target.put(key, body, **more)


def test_an_upload_slower_than_wal_sender_timeout_completes(make_line: Callable[..., Line]) -> None:
    line = make_line(settings={"wal_sender_timeout": "1s"})
    line.full()
    line.server.run_sql(
        "CREATE TABLE noise AS SELECT sha512((g || 'x')::bytea) AS a, sha512((g || 'y')::bytea) AS b,"
        " sha512((g || 'z')::bytea) AS c FROM generate_series(1, 500000) AS g"
    )
    slow = Slow(line.repository.target("primary"), 4)
    line.repository._targets["primary"] = slow  # type: ignore[assignment]
    assert line.wal().received > 100_000_000
    assert slow.waited


def lose_the_slot(line: Line) -> None:
    for _ in range(10):
        line.server.run_sql("CREATE TABLE IF NOT EXISTS filler (n int)")
        line.server.run_sql("INSERT INTO filler VALUES (1)")
        line.server.run_sql("SELECT pg_switch_wal()")
    line.server.run_sql("CHECKPOINT")
    status = line.server.run_sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", [line.slot])
    assert status == [("lost",)]


@pytest.mark.parametrize("first", ["wal", "full"])
def test_a_lost_slot_is_named_as_a_gap_and_a_new_full_covers_again(make_line: Callable[..., Line], first: str) -> None:
    line = make_line(settings={"max_slot_wal_keep_size": "48MB", "min_wal_size": "32MB", "max_wal_size": "64MB"})
    line.full()
    [before] = commit(line.server, 1)
    kept = line.wal()
    [lost] = commit(line.server, 2)
    lose_the_slot(line)
    if first == "wal":
        collected = line.wal()
        assert "lost" in collected.alarm
        line.full()
    else:
        line.full()
        commit(line.server, 3)
        assert "lost" in line.wal().alarm
    gaps = line.events("wal_gap")
    assert any(event.details.get("state") == "lost" and event.details.get("start") for event in gaps)
    [after] = commit(line.server, 4)
    assert not line.wal().alarm
    line.server.stop()
    assert any("is missing" in finding for finding in verify_chain(line.repository, "primary", SOURCE))
    assert ledger(line.ask(line.restore(AtTime(before)), ROWS)) == [1]
    assert line.plan(AtTime(kept.covered_until))
    with pytest.raises(MomentUnreachable, match="can't be reached"):
        line.plan(AtTime(lost))
    assert 4 in ledger(line.ask(line.restore(AtTime(after)), ROWS))


def test_a_slot_that_somebody_dropped_is_made_again_and_nothing_is_lost_while_the_wal_is_there(line: Line) -> None:
    line.full()
    line.wal()
    commit(line.server, 1)
    line.server.run_sql("SELECT pg_drop_replication_slot(%s)", [line.slot])
    assert not line.wal().alarm
    assert len(line.events("slot_created")) == 2
    [gap] = line.events("wal_gap")
    assert gap.details["state"] == "present"
    assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1]


def test_wal_that_came_later_than_the_objective_allows_is_written_down_as_late(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.full()
    line.wal()
    commit(line.server, 1)
    line.wal()
    assert line.events("wal_gap") == []
    monkeypatch.setattr(Objectives, "rpo_of", lambda *_: timedelta())
    assert not line.wal().alarm
    [gap] = line.events("wal_gap")
    assert gap.details["state"] == "late"
    assert "nothing is missing" in gap.details["what"]


def test_a_slot_that_another_session_holds_is_waited_for_and_then_named(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line.full()
    line.wal()
    environment = ENVIRONMENT | {"PGPASSWORD": line.server.passwords["postgres"]}
    (tmp_path / "received").mkdir()
    program = binaries() / "pg_receivewal"
    arguments = ["-h", "127.0.0.1", "-p", str(line.server.port), "-U", "postgres", "-S", line.slot, "-n"]
    holder = subprocess.Popen([program, *arguments, "-D", tmp_path / "received"], env=environment)
    held = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
    try:
        wait_until(lambda: line.server.run_sql(held, [line.slot]) == [(True,)], within=30, what="the slot is held")
        monkeypatch.setattr(slots, "BUSY_SECONDS", 0.5)
        with pytest.raises(PostgresError, match="still used by the server's process"):
            line.wal()
        # A run that follows waits for its own kind only as long as that.
        with pytest.raises(PostgresError, match="still used by the server's process"):
            line.follow(timedelta(hours=1))
    finally:
        holder.kill()
        holder.wait()
    monkeypatch.undo()
    assert not line.wal().alarm


def three_runs(line: Line) -> tuple[list[Any], list[Any]]:
    line.full()
    moments, runs = [], []
    for number in range(3):
        moments += commit(line.server, number)
        runs.append(line.wal())
    return moments, runs


def test_a_harmed_segment_in_the_middle_is_refused_by_verification_and_by_every_restore_that_needs_it(
    line: Line,
) -> None:
    moments, runs = three_runs(line)
    [copy] = runs[1].copies
    [segment, *_] = objects_of(line, copy)
    content = segment.read_bytes()
    middle = len(content) // 2
    harms = {
        "missing": None,
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "cut short": content[:-1],
        "longer": content + b"x",
    }
    for harm, harmed in harms.items():
        segment.unlink()
        if harmed is not None:
            segment.write_bytes(harmed)
        request = line.request()
        with pytest.raises(LifeboatError):
            verify_deep(line.repository, "primary", copy)
        with pytest.raises(LifeboatError):
            line.restore(Latest() if harm == "missing" else AtTime(moments[2]), request)
        assert not [path for path in line.place.iterdir() if path.name.startswith(request.into.name)], harm
        segment.write_bytes(content)
    segment.unlink()
    between = moments[0] + timedelta(microseconds=1)
    assert ledger(line.ask(line.restore(AtTime(between)), ROWS)) == [0]


def test_a_missing_manifest_in_the_middle_is_a_gap_that_a_later_full_ends(line: Line) -> None:
    moments, runs = three_runs(line)
    line.full()
    [later] = commit(line.server, 3)
    line.wal()
    (folder_of(line, runs[1].copies[0]) / "manifest.json").unlink()
    assert any("is missing" in finding for finding in verify_chain(line.repository, "primary", SOURCE))
    for moment in (moments[1], moments[2]):
        with pytest.raises(MomentUnreachable) as raised:
            line.plan(AtTime(moment))
        assert "Gap: WAL of timeline 1 from" in raised.value.remedy
    assert ledger(line.ask(line.restore(AtTime(moments[0])), ROWS)) == [0]
    assert ledger(line.ask(line.restore(AtTime(later)), ROWS)) == [0, 1, 2, 3]


def test_a_manifest_that_was_changed_is_not_believed_and_nothing_is_built_upon_it(line: Line) -> None:
    moments, runs = three_runs(line)
    manifest = folder_of(line, runs[2].copies[0]) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"findings": []', '"findings": ["all is well"]'))
    with pytest.raises(TimelineConflict, match="can't be believed"):
        line.wal()
    assert line.offer().unreadable
    with pytest.raises(MomentUnreachable):
        line.plan(AtTime(moments[2]))


def test_two_wal_runs_at_once_leave_one_row_without_gap_or_overlap(line: Line) -> None:
    line.full()
    commit(line.server, 1)
    outcomes: list[Any] = []

    def collect() -> None:
        try:
            outcomes.append(Line(line.directory, line.place, line.server, line.system).wal())
        except LifeboatError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=collect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(not isinstance(outcome, LifeboatError) for outcome in outcomes), outcomes
    commit(line.server, 2)
    line.wal()
    runs = line.repository.catalogue("primary").wal(SOURCE).copies
    assert [copy.manifest.sequence for copy in runs] == list(range(1, len(runs) + 1))
    assert verify_chain(line.repository, "primary", SOURCE) == []
    assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1, 2]


def test_a_server_brought_back_from_an_older_copy_of_itself_is_refused(
    line: Line, make_postgres: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    """A snapshot of the machine, started again: same cluster, same timeline, another life."""
    line.full()
    line.wal()
    server = line.server
    server.stop()
    copy = tmp_path / "older"
    subprocess.run(["cp", "-a", server.data_directory, copy], check=True)
    server.start()
    for number in range(3):
        commit(server, number)
        line.wal()
    server.stop()
    with PostgresServer.on_data(tmp_path / "again", copy, passwords=server.passwords) as older:
        line.server = older
        with pytest.raises(TimelineConflict, match="older state"):
            line.wal()
