"""Promotions: the old timeline's end is kept, the new one is followed, and two servers' ways are told apart."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from lifeboat.errors import BackupFailed, MomentUnreachable, TimelineConflict, VerificationFailed
from lifeboat.postgres.deep_verification import verify_chain, verify_deep
from lifeboat.postgres.full import _Archives
from lifeboat.postgres.moments import AtRecoveryPoint, AtTime, Latest
from lifeboat.postgres.wal_writing import SegmentWriter
from sandbox.accounts import remove_server_directory, server_directory
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from tests.recovery.line import SOURCE, Line, commit, ledger

ROWS = "SELECT n FROM ledger"


@contextmanager
def standby_of(line: Line, directory: Path, *settings: tuple[str, str]) -> Iterator[PostgresServer]:
    """A standby that follows the line's server."""
    with follower_of(line.server, directory, *settings) as server:
        yield server


@contextmanager
def follower_of(primary: PostgresServer, directory: Path, *settings: tuple[str, str]) -> Iterator[PostgresServer]:
    """A standby that follows ``primary``."""
    data = directory.parent / f"{directory.name}-data"
    server_directory(data)
    primary.run_program(
        "pg_basebackup", "-D", data.resolve(), "-R", "-X", "stream", "-c", "fast", "--no-sync", "--no-manifest"
    )
    password = primary.passwords["postgres"]
    with (data / "postgresql.auto.conf").open("a") as auto:
        auto.write(f"primary_conninfo = 'host=127.0.0.1 port={primary.port} user=postgres password={password}'\n")
    server = PostgresServer.on_data(
        directory,
        data,
        passwords=primary.passwords,
        major=primary.major,
        settings={"fsync": "off", "wal_keep_size": "1GB", **dict(settings)},
    )
    with server:
        yield server
    remove_server_directory(directory)
    remove_server_directory(data)


def follow(primary: PostgresServer, standby: PostgresServer) -> None:
    """Wait until the standby has replayed everything."""
    position = primary.run_sql("SELECT pg_current_wal_lsn()")[0][0]
    wait_until(
        lambda: bool(standby.run_sql("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position])[0][0]),
        within=120,
        what="the standby has caught up",
    )


def promote(standby: PostgresServer) -> None:
    """Make it a primary, and wait until it is one, however busy the machine."""
    assert standby.run_sql("SELECT pg_promote(wait_seconds => 240)") == [(True,)]


def test_a_promotion_between_two_runs_is_followed_and_moments_on_both_sides_come_back(
    line: Line, tmp_path: Path
) -> None:
    old = line.server
    line.full()
    commit(old, 1)
    line.wal()
    with standby_of(line, tmp_path / "standby") as new:
        [before] = commit(old, 2)
        follow(old, new)
        promote(new)
        # The old primary does not know, and goes on.
        [astray] = commit(old, 50)
        line.server = new
        [after] = commit(new, 3)
        [ended, begun] = line.wal().copies
        assert ended.manifest.details["ended"]
        assert [stream.name for stream in ended.manifest.streams][-1].endswith(".partial")
        assert begun.manifest.timeline == 2
        assert [stream.name for stream in begun.manifest.streams][-1] == "00000002.history"
        for copy in (ended, begun):
            verify_deep(line.repository, "primary", copy)
        assert verify_chain(line.repository, "primary", SOURCE) == []
        [event] = line.events("timeline_ended")
        assert event.details["timeline"] == 1
        # The new primary had no slot of ours; what was written before it had one was still there.
        assert len(line.events("slot_created")) == 2
        assert [gap.details["state"] for gap in line.events("wal_gap")] == ["present"]

        commit(new, 4)
        again = line.wal()
        assert [copy.manifest.timeline for copy in again.copies] == [2]
        assert not again.alarm

        # The connection leads back to the old primary: it is kept apart, and somebody is told.
        line.server = old
        commit(old, 51)
        split = line.wal()
        assert "two servers went different ways" in split.alarm
        assert [copy.manifest.timeline for copy in split.copies] == [1]

        line.server = new
        commit(new, 5)
        assert not line.wal().alarm
        new.run_sql("SELECT 1")

        def rows(moment: AtTime | Latest | AtRecoveryPoint, timeline: int | None = None) -> list[int]:
            restored = line.restore(moment, timeline=timeline)
            assert restored.recovered.timeline > 2
            return ledger(line.ask(restored, ROWS))

        assert rows(AtTime(before)) == [1, 2]
        assert rows(AtTime(after)) == [1, 2, 3]
        assert rows(Latest()) == [1, 2, 3, 4, 5]
        assert rows(Latest(), 1) == [1, 2, 50, 51]
        assert rows(AtTime(astray), 1) == [1, 2, 50]
        assert rows(AtRecoveryPoint(split.copies[0].manifest.recovery_point)) == [1, 2, 50, 51]
        assert rows(AtRecoveryPoint(begun.manifest.recovery_point)) == [1, 2, 3]


@pytest.mark.parametrize("streaming", ["wal", "full"])
def test_a_promotion_in_mid_stream_commits_nothing_and_the_next_run_follows_the_new_primary(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: str
) -> None:
    old = line.server
    line.full()
    commit(old, 1)
    line.wal()
    with standby_of(line, tmp_path / "standby") as new:
        [before] = commit(old, 2)
        follow(old, new)
        fail_over_in_mid_stream(monkeypatch, SegmentWriter if streaming == "wal" else _Archives, old, new)
        with pytest.raises(BackupFailed, match="connection to the server broke"):
            line.wal() if streaming == "wal" else line.full()
        assert len(line.events("backup_committed")) == 2
        line.server = new
        [after] = commit(new, 3)
        if streaming == "full":
            assert line.full().manifest.details["timeline"] == 2
        assert [copy.manifest.timeline for copy in line.wal().copies] == [1, 2]
        for moment, rows in ((AtTime(before), [1, 2]), (AtTime(after), [1, 2, 3]), (Latest(), [1, 2, 3])):
            assert ledger(line.ask(line.restore(moment), ROWS)) == rows


def fail_over_in_mid_stream(
    monkeypatch: pytest.MonkeyPatch, writer: type[SegmentWriter | _Archives], old: PostgresServer, new: PostgresServer
) -> None:
    """As soon as the first bytes have arrived the primary dies, and its standby is promoted.

    It dies as a machine does: a server that is told to stop may have a last word, or none, as it happens to be busy.
    """
    write = writer.write

    def write_and_fail_over(self: object, *words: object) -> None:
        write(self, *words)  # type: ignore[arg-type]
        if old.running:
            old.kill()
            promote(new)

    monkeypatch.setattr(writer, "write", write_and_fail_over)


def test_a_full_on_the_new_timeline_and_one_on_the_dead_branch_each_lead_their_own_way(
    line: Line, tmp_path: Path
) -> None:
    old = line.server
    line.full()
    line.wal()
    with standby_of(line, tmp_path / "standby") as new:
        follow(old, new)
        promote(new)
        commit(old, 50)
        stray = line.full()
        line.server = new
        commit(new, 3)
        line.wal()
        true = line.full()
        [after] = commit(new, 4)
        line.wal()
        plan = line.plan(AtTime(after))
        assert plan.base.manifest.recovery_point == true.manifest.recovery_point
        assert ledger(line.ask(line.restore(plan), ROWS)) == [3, 4]
        assert ledger(line.ask(line.restore(AtRecoveryPoint(stray.manifest.recovery_point)), ROWS)) == [50]
        with pytest.raises(MomentUnreachable, match="timeline 2"):
            line.plan(Latest(), base_id=stray.manifest.recovery_point, timeline=2)


def test_the_end_of_the_old_timeline_that_nobody_has_any_more_is_a_gap_and_collection_goes_on(
    line: Line, tmp_path: Path
) -> None:
    old = line.server
    line.full()
    [kept] = commit(old, 1)
    line.wal()
    small = {"wal_keep_size": "0", "max_wal_size": "32MB", "min_wal_size": "32MB"}.items()
    with standby_of(line, tmp_path / "standby", *small) as new:
        [lost] = commit(old, 2)
        follow(old, new)
        promote(new)
        line.server = new
        for number in range(10, 16):
            commit(new, number)
            new.run_sql("SELECT pg_switch_wal()")
        new.run_sql("CHECKPOINT")
        collected = line.wal()
        assert "timeline 1" in collected.alarm
        assert [copy.manifest.timeline for copy in collected.copies] == [2]
        line.full()
        [after] = commit(new, 20)
        assert not line.wal().alarm
        assert ledger(line.ask(line.restore(AtTime(kept)), ROWS)) == [1]
        with pytest.raises(MomentUnreachable):
            line.plan(AtTime(lost + timedelta(microseconds=1)))
        assert ledger(line.ask(line.restore(AtTime(after)), ROWS)) == [1, 2, *range(10, 16), 20]


def test_a_second_server_promoted_to_the_same_timeline_is_refused(line: Line, tmp_path: Path) -> None:
    old = line.server
    line.full()
    line.wal()
    with standby_of(line, tmp_path / "one") as one, standby_of(line, tmp_path / "two") as two:
        commit(old, 1)
        follow(old, one)
        promote(one)
        commit(old, 2)
        follow(old, two)
        promote(two)
        line.server = one
        commit(one, 10)
        line.wal()
        line.server = two
        commit(two, 20)
        with pytest.raises(TimelineConflict, match="begins at"):
            line.wal()


def test_a_restored_server_that_takes_over_is_followed_on_its_new_timeline(line: Line, tmp_path: Path) -> None:
    line.full()
    [first, _] = commit(line.server, 1, 2)
    line.wal()
    restored = line.restore(AtTime(first))
    line.server.stop()
    settings = {"fsync": "off"}
    with PostgresServer.on_data(
        tmp_path / "successor", restored.into, passwords=line.server.passwords, settings=settings
    ) as successor:
        line.server = successor
        commit(successor, 3)
        assert [copy.manifest.timeline for copy in line.wal().copies] == [2]
        assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1, 3]
        assert ledger(line.ask(line.restore(Latest(), timeline=1), ROWS)) == [1, 2]


def test_wal_of_a_server_that_was_put_back_to_a_snapshot_does_not_verify_behind_the_lost_wal(
    line: Line, tmp_path: Path
) -> None:
    server = line.server
    line.full()
    commit(server, 1)
    line.wal()
    server.stop()
    data, snapshot = server.data_directory, server.data_directory.parent / "snapshot"
    copy_tree(data, snapshot)
    server.start()
    commit(server, *range(10, 50))
    line.wal()
    server.stop()
    shutil.rmtree(data)
    copy_tree(snapshot, data)
    server.start()
    commit(server, 2)
    server.run_sql("SELECT pg_switch_wal()")
    commit(server, 3)
    (copy,) = line.wal().copies
    with pytest.raises(VerificationFailed, match=r"names \S+ as the one before it, which is at"):
        verify_deep(line.repository, "primary", copy)


def copy_tree(origin: Path, to: Path) -> None:
    """A directory with its owner and modes."""
    subprocess.run(["cp", "-a", origin, to], check=True)
