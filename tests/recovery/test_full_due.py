"""When a full is due because of lost WAL: by property on made-up manifests, and on real servers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.postgres.details import LostWal, WalDetails, as_details, wal_details
from lifeboat.postgres.full_due import because_of, handed_on, lost_before, mark_of, stands_behind
from lifeboat.postgres.moments import AtTime, Latest
from lifeboat.postgres.reach import reach_of
from lifeboat.postgres.timelines import TimelineHistory, TimelineSwitch
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from tests.recovery.line import Line, commit, ledger
from tests.recovery.test_planning import at, full, offered, run

ROWS = "SELECT n FROM ledger"
HERE = TimelineHistory(1)


def lost(start: float, end: float, timeline: int = 1) -> LostWal:
    return LostWal(timeline=timeline, start=at(start), end=at(end))


def details(timeline: int, gone: LostWal | None) -> WalDetails:
    return wal_details(run(10, 11, 5, timeline=timeline).manifest).model_copy(update={"lost": gone})


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 30))
def test_a_full_stands_behind_lost_wal_when_it_reaches_what_came_after_it(first: int, length: int, place: int) -> None:
    gone = lost(first, first + length)
    before, after = run(0, first, 1), run(first + length, 40, 100, 2)
    [base], runs = offered(full(place, 50), before, after)
    reaches = reach_of(base, runs, {}).end_lsn >= at(40)
    assert stands_behind(base, gone, HERE) is reaches


def test_a_full_on_another_branch_does_not_stand_behind_it() -> None:
    [base], _ = offered(full(30, 50, timeline=2))
    promoted = TimelineHistory(2, (TimelineSwitch(1, at(12), ""),))
    elsewhere = TimelineHistory(3, (TimelineSwitch(1, at(12), ""),))
    assert stands_behind(base, lost(10, 11), promoted)
    assert not stands_behind(base, lost(10, 11), elsewhere)


def test_what_is_lost_is_handed_on_by_the_newest_run_of_the_servers_own_history() -> None:
    gone, other = lost(10, 12), lost(20, 21, 2)
    promoted = TimelineHistory(3, (TimelineSwitch(1, at(30), ""),))
    assert handed_on({}, HERE) is None
    assert handed_on({1: details(1, gone)}, HERE) == gone
    assert handed_on({1: details(1, None), 2: details(2, other)}, HERE) is None
    assert handed_on({1: details(1, gone), 2: details(2, other)}, promoted) == gone
    assert handed_on({1: details(1, gone), 3: details(3, None)}, promoted) is None


def test_wal_that_begins_behind_the_newest_full_was_lost_before_anybody_collected_it() -> None:
    bases, _ = offered(full(10, 5), full(20, 15, 2))
    assert lost_before(at(25), bases, HERE) == lost(21, 25)
    assert lost_before(at(21), bases, HERE) is None
    assert lost_before(at(3), bases, HERE) is None
    assert lost_before(at(25), [], HERE) is None


def test_a_loss_has_one_name_and_manifests_that_know_none_are_as_they_always_were() -> None:
    gone = lost(10, 12)
    assert mark_of(gone) == mark_of(lost(9, 12)) != mark_of(lost(9, 13))
    assert "from 0/00A00000 to 0/00C00000 is lost" in because_of(gone)
    assert "lost" not in as_details(details(1, None))
    written = run(12, 13, 20).manifest
    written = written.model_copy(update={"details": as_details(details(1, gone))})
    assert wal_details(written).lost == gone


def drop_slot_and_wal(line: Line) -> None:
    """Somebody drops the slot, and the server removes what it kept."""
    [(kept,)] = line.server.run_sql(
        "SELECT pg_walfile_name(restart_lsn + 1) FROM pg_replication_slots WHERE slot_name = %s", [line.slot]
    )
    line.server.run_sql("SELECT pg_drop_replication_slot(%s)", [line.slot])
    forget(line.server, f"SELECT NOT EXISTS (SELECT FROM pg_ls_waldir() WHERE name = '{kept}')")


def forget(server: PostgresServer, until: str) -> None:
    """Write, and let the server remove old WAL, until it answers with true: what it has not summarized yet it keeps."""
    server.run_sql("CREATE TABLE IF NOT EXISTS filler (n int)")

    def forgotten() -> bool:
        server.run_sql("INSERT INTO filler VALUES (1)")
        server.run_sql("SELECT pg_switch_wal()")
        server.run_sql("CHECKPOINT")
        return bool(server.run_sql(until)[0][0])

    wait_until(forgotten, within=60, what="the server has removed its old WAL", every=0.1)


@pytest.fixture
def gapped(make_line: Callable[..., Line]) -> Line:
    """A verified full and a WAL run, and behind them WAL that is lost and that nobody has noticed yet."""
    line = make_line(settings={"summarize_wal": "on", "min_wal_size": "32MB"})
    line.verify(line.full())
    line.wal()
    commit(line.server, 1)
    drop_slot_and_wal(line)
    return line


def test_a_full_stays_due_from_run_to_run_until_one_is_verified(gapped: Line) -> None:
    found = gapped.wal()
    assert "A new full is needed" in found.alarm
    assert found.due is not None
    [gap] = gapped.events("wal_gap")
    assert (gap.details["start"], gap.details["end"]) == (str(found.due.start), str(found.due.end))
    again = gapped.wal()
    assert (again.alarm, again.due) == ("", found.due)
    taken = gapped.full()
    assert gapped.wal().due == found.due
    gapped.verify(taken)
    [moment] = commit(gapped.server, 2)
    covered = gapped.wal()
    assert covered.due is None
    assert "lost" not in covered.copies[-1].manifest.details
    assert gapped.wal().due is None
    assert ledger(gapped.ask(gapped.restore(AtTime(moment)), ROWS)) == [1, 2]


def test_an_incremental_that_comes_first_takes_the_full_and_the_next_ones_build_upon_it(gapped: Line) -> None:
    due = gapped.wal().due
    taken = gapped.incremental()
    assert taken.copy.manifest.kind == "full"
    assert f"{due} is lost" in taken.reason
    assert any("Taken instead of an incremental" in finding for finding in taken.copy.manifest.findings)
    assert [event.details["reason"] for event in gapped.events("full_forced")] == [taken.reason]
    gapped.verify(taken.copy)
    commit(gapped.server, 2)
    # No WAL run has seen that full yet: it stands behind what is lost all the same.
    assert gapped.link().manifest.parent == taken.copy.manifest.recovery_point
    assert gapped.wal().due is None
    assert ledger(gapped.ask(gapped.restore(Latest()), ROWS)) == [1, 2]


def test_a_full_that_was_verified_before_the_loss_was_noticed_is_named_and_no_other_is_due(gapped: Line) -> None:
    taken = gapped.verify(gapped.full()).manifest.recovery_point
    found = gapped.wal()
    assert f"The full {taken} was taken after it" in found.alarm
    assert "needed" not in found.alarm
    assert found.due is None


def test_a_run_that_follows_ends_when_it_finds_a_loss_and_the_next_one_follows_again(gapped: Line) -> None:
    found = gapped.follow(None)  # for ever, otherwise
    assert found.alarm
    assert found.due is not None
    asked = []

    def enough() -> bool:
        asked.append(True)
        if len(asked) == 1:
            gapped.verify(gapped.full())
        return True

    followed = gapped.follow(timedelta(minutes=1), enough=enough)
    assert asked
    assert not followed.alarm
    assert followed.due is None
    assert wal_details(followed.copies[0].manifest).lost == found.due


def test_wal_that_was_lost_before_the_first_run_is_named_from_the_fulls_end(line: Line) -> None:
    line.full()
    commit(line.server, 1)
    drop_slot_and_wal(line)
    found = line.wal()
    assert found.due is not None
    [gap] = line.events("wal_gap")
    assert gap.details["state"] == "lost"
    assert str(found.due) in found.alarm


def test_an_incremental_that_finds_the_slot_lost_takes_a_full(gapped: Line) -> None:
    gapped.wal()
    gapped.verify(gapped.full())
    gapped.server.run_sql("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
    gapped.server.run_sql("SELECT pg_reload_conf()")
    forget(gapped.server, f"SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '{gapped.slot}'")
    taken = gapped.incremental()
    assert "has lost WAL" in taken.reason
    gapped.verify(taken.copy)
    assert taken.copy.manifest.recovery_point in gapped.wal().alarm
