"""Runs that stay with the server: many recovery points in one run, and nothing lost whatever ends it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import BackupFailed, LifeboatError, PostgresError, TargetUnavailable
from lifeboat.outside import utc_now
from lifeboat.postgres import wal_receiving
from lifeboat.postgres.deep_verification import verify_chain
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.moments import AtTime, Latest
from lifeboat.repository import committing
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointId
from sandbox.processes import wait_until
from tests.recovery.line import SOURCE, Line, commit, ledger
from tests.recovery.test_timelines import follow as caught_up
from tests.recovery.test_timelines import promote, standby_of
from tests.recovery.test_under_load import Writer
from tests.streams.keys_made import settled

ROWS = "SELECT n FROM ledger"
NEVER = timedelta(hours=1)
CLONE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """However a run ends, none of its streams stays behind: it would keep an upload open for ever."""
    others = threading.enumerate()
    yield
    assert settled(others)


def runs(line: Line) -> list[Copy]:
    return list(line.repository.catalogue("primary").wal(SOURCE).copies)


def restart_lsn(line: Line) -> str:
    [(lsn,)] = line.server.run_sql("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = %s", [line.slot])
    return str(Lsn.parse(lsn))


def position(line: Line) -> Any:
    return line.server.run_sql("SELECT pg_current_wal_insert_lsn()")[0][0]


class Enough:
    """Says so when it was asked for the n-th time, and does something at each time."""

    def __init__(self, times: int, meanwhile: Callable[[int], object] = lambda _number: None) -> None:
        self._times = times
        self._meanwhile = meanwhile
        self._asked = 0

    def __call__(self) -> bool:
        self._asked += 1
        self._meanwhile(self._asked)
        return self._asked >= self._times


class Thread(threading.Thread):
    """Follows beside the test, and keeps what came of it."""

    def __init__(self, line: Line, lasting: timedelta | None, **more: Any) -> None:
        super().__init__(name="follow", daemon=True)
        self.committed: list[Copy] = []
        self.failure: BaseException | None = None
        self._call = lambda: line.follow(lasting, committed=self.committed.append, **more)
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except BaseException as failure:
            self.failure = failure

    def wait_for(self, number: int) -> None:
        wait_until(lambda: len(self.committed) >= number or not self.is_alive(), within=180, what="recovery points")
        assert self.failure is None


def test_a_run_killed_in_the_middle_keeps_all_its_flushes_and_the_next_run_takes_over(
    make_line: Callable[..., Line],
) -> None:
    line = make_line(settings={"track_commit_timestamp": "on"})
    line.full()
    words = [line.system.policy, str(line.server.port), line.server.passwords["lifeboat"]]
    with Writer(line.server):
        worker = subprocess.Popen([sys.executable, "-m", "tests.recovery.following_worker", *words], cwd=CLONE)
        try:
            wait_until(lambda: len(runs(line)) >= 3, within=180, what="three recovery points of one run")
        finally:
            worker.kill()
            worker.wait()
        kept = runs(line)
    after = line.follow(timedelta(seconds=1))
    ids = [copy.manifest.recovery_point for copy in kept]
    assert ids == sorted(set(ids))
    assert {RecoveryPointId.parse(one).mark for one in ids} == {"0bad"}
    commits = dict(line.server.run_sql("SELECT n, pg_xact_commit_timestamp(xmin) FROM ledger"))
    assert verify_chain(line.repository, "primary", SOURCE) == []
    assert [copy.manifest.sequence for copy in runs(line)] == list(range(1, len(runs(line)) + 1))
    moment = kept[-1].manifest.moment
    reached = ledger(line.ask(line.restore(AtTime(moment)), ROWS))
    assert reached == sorted(number for number, committed in commits.items() if committed <= moment)
    assert after.covered_until > moment


def test_an_idle_server_is_not_switched_and_proven_covered_whatever_the_workers_clock_says(line: Line) -> None:
    line.full()
    commit(line.server, 1)
    outside = replace(line.repository.outside, clock=lambda: utc_now() + timedelta(minutes=4))
    line.repository.outside = outside
    before: list[Any] = []

    def housekeeping(number: int) -> None:
        if number == 3:
            before.append(position(line))
            line.server.run_sql("CHECKPOINT")
            line.server.run_sql("SELECT pg_log_standby_snapshot()")
            before.append(position(line))

    begun = line.server.run_sql("SELECT clock_timestamp()")[0][0]
    followed = line.follow(None, flush_every=timedelta(seconds=0.5), enough=Enough(9, housekeeping))
    ended = line.server.run_sql("SELECT clock_timestamp()")[0][0]
    empty, written = before
    assert empty < written == position(line)
    *_, proof = followed.copies
    assert proof.manifest.streams == ()
    assert len(followed.copies) <= 9  # a proof for each flush at most
    assert begun < proof.manifest.moment <= ended
    assert proof.manifest.begun > ended + timedelta(minutes=3)
    restored = line.restore(AtTime(proof.manifest.moment))
    assert restored.to_the_end
    assert ledger(line.ask(restored, ROWS)) == [1]
    # What comes after the housekeeping is stored with it.
    line.repository = line.new_repository()
    line.repository.outside = outside
    commit(line.server, 2)
    line.wal()
    assert verify_chain(line.repository, "primary", SOURCE) == []
    assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1, 2]


def test_a_target_slower_than_wal_sender_timeout_is_waited_for_and_one_that_goes_away_leaves_the_wal_on_the_server(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.full()
    monkeypatch.setitem(wal_receiving.SESSION_SETTINGS, "wal_sender_timeout", "1s")
    monkeypatch.setattr(wal_receiving, "STATUS_SECONDS", 0.2)
    commits: list[Any] = []
    moved: list[Any] = []
    real = committing.commit

    def slow_then_gone(*words: Any, **more: Any) -> Copy:
        moved.append(restart_lsn(line))
        if len(moved) == 2:
            threading.Event().wait(3)
        if len(moved) == 3:
            raise TargetUnavailable("The target went away.")
        commits.append(real(*words, **more))
        return commits[-1]

    monkeypatch.setattr(committing, "commit", slow_then_gone)
    numbers = iter(range(1, 100))
    with pytest.raises(TargetUnavailable, match="went away"):
        line.follow(None, enough=Enough(1000, lambda _number: commit(line.server, next(numbers))))
    assert len(commits) == 2
    end = commits[-1].manifest.details["end_lsn"]
    assert moved[2] == end
    wait_until(lambda: restart_lsn(line) == end, within=10, what="the slot stands where the committed WAL ends")
    monkeypatch.undo()
    rows = ledger(line.server.run_sql(ROWS))
    line.follow(timedelta())
    assert verify_chain(line.repository, "primary", SOURCE) == []
    assert ledger(line.ask(line.restore(Latest()), ROWS)) == rows


def test_a_server_lost_between_two_flushes_loses_what_came_after_the_last_one_and_no_more(line: Line) -> None:
    line.full()
    thread = Thread(line, None, flush_every=NEVER)
    thread.wait_for(1)
    commit(line.server, 1)
    line.server.run_sql("CREATE TABLE noise AS SELECT sha512(g::text::bytea) AS a FROM generate_series(1, 400000) g")
    sent = "SELECT bool_and(sent_lsn >= pg_current_wal_lsn()) FROM pg_stat_replication"
    wait_until(lambda: line.server.run_sql(sent) == [(True,)], within=30, what="several segments were sent")
    line.server.stop("immediate")
    thread.join(180)
    assert isinstance(thread.failure, BackupFailed)
    assert len(runs(line)) == len(thread.committed) == 1
    # It was not lost after all: the next run goes on.
    line.server.start()
    commit(line.server, 2)
    line.follow(timedelta())
    assert verify_chain(line.repository, "primary", SOURCE) == []
    assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1, 2]


def test_a_promotion_while_a_run_follows_ends_it_and_the_next_follows_the_new_primary(
    line: Line, tmp_path: Path
) -> None:
    old = line.server
    line.full()
    with standby_of(line, tmp_path / "standby") as new:
        thread = Thread(line, None, flush_every=NEVER)
        thread.wait_for(1)
        [before] = commit(old, 1)
        caught_up(old, new)
        old.stop("immediate")
        promote(new)
        thread.join(180)
        assert isinstance(thread.failure, BackupFailed)
        line.server = new
        [after] = commit(new, 2)
        followed = line.follow(timedelta(seconds=2), enough=Enough(6, lambda number: commit(new, 10 + number)))
        assert [copy.manifest.timeline for copy in followed.copies][:2] == [1, 2]
        assert len(followed.copies) >= 3
        assert line.events("timeline_ended")[0].details["timeline"] == 1
        assert verify_chain(line.repository, "primary", SOURCE) == []
        new.stop()
        assert ledger(line.ask(line.restore(AtTime(before)), ROWS)) == [1]
        assert ledger(line.ask(line.restore(AtTime(after)), ROWS)) == [1, 2]


def test_the_next_run_waits_for_the_slot_and_takes_over_without_a_gap(line: Line) -> None:
    line.full()
    with Writer(line.server):
        first = Thread(line, timedelta(seconds=2))
        first.wait_for(1)
        second = Thread(Line(line.directory, line.place, line.server, line.system), timedelta(seconds=4))
        first.join(180)
        second.join(180)
    assert first.failure is second.failure is None
    assert len(first.committed) >= 2
    assert len(second.committed) >= 2
    both = [copy.manifest.recovery_point for copy in (*first.committed, *second.committed)]
    assert [copy.manifest.recovery_point for copy in runs(line)] == both == sorted(both)
    assert verify_chain(line.repository, "primary", SOURCE) == []


def test_a_server_that_would_wait_for_our_flushes_with_its_commits_is_not_followed(
    make_line: Callable[..., Line],
) -> None:
    line = make_line(settings={"synchronous_standby_names": "*", "synchronous_commit": "local"})
    line.full()
    with pytest.raises(PostgresError, match="synchronous standbys"):
        line.follow(NEVER)
    assert len(runs(line)) == 1


def test_a_run_that_is_stopped_ends_at_once_and_keeps_what_it_committed(line: Line) -> None:
    line.full()
    stop = LifeboatError("Stopped.")
    begun: list[Thread] = []  # it ticks before its constructor has returned

    def tick() -> None:
        if begun and len(begun[0].committed) >= 2:
            raise stop

    with Writer(line.server):
        thread = Thread(line, None, tick=tick)
        begun.append(thread)
        thread.join(180)
    assert thread.failure is stop
    assert len(runs(line)) == len(thread.committed) == 2
    wait_until(
        lambda: line.server.run_sql("SELECT pid FROM pg_stat_replication") == [],
        within=20,
        what="the server has taken notice",
    )
