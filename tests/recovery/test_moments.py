"""Every kind of moment that a restore can be asked for, and those that can't be had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import MomentUnreachable
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.moments import AtLsn, AtName, AtRecoveryPoint, AtTime, Latest
from lifeboat.repository.catalogue import Copy
from sandbox.accounts import remove_server_directory, server_directory
from sandbox.postgres import PostgresServer
from tests.recovery.line import Line, commit, ledger, prepare, system_in

ROWS = "SELECT n FROM ledger"


@dataclass
class Story:
    """Rows 0, 1 before the first full; 2, 3 before the first WAL run; 4 to 6 before the second; then a full, row 7 and
    a third run."""

    line: Line
    times: dict[int, datetime]
    exact: dict[int, datetime]
    ends: dict[int, Lsn]
    fulls: list[Copy]
    runs: list[Any]

    def rows_at(self, moment: Any, **more: Any) -> list[int]:
        return ledger(self.line.ask(self.line.restore(moment, **more), ROWS))


@pytest.fixture(scope="module")
def story(module_path: Path) -> Iterator[Story]:
    directory = module_path
    place = server_directory(directory / "place")
    server = PostgresServer(directory / "server", settings={"fsync": "off", "track_commit_timestamp": "on"})
    with server:
        prepare(server)
        line = Line(directory, place, server, system_in(directory))
        times: dict[int, datetime] = {}
        ends: dict[int, Lsn] = {}

        def write(*numbers: int) -> None:
            for number in numbers:
                times[number] = commit(server, number)[0]
                ends[number] = Lsn.parse(server.run_sql("SELECT pg_current_wal_insert_lsn()::text")[0][0])

        write(0, 1)
        fulls = [line.full()]
        write(2, 3)
        runs = [line.wal()]
        write(4)
        server.run_sql("SELECT pg_create_restore_point('before lunch')")
        write(5)
        server.run_sql("SELECT pg_create_restore_point('before lunch')")
        write(6)
        runs.append(line.wal())
        fulls.append(line.full())
        write(7)
        runs.append(line.wal())
        exact = {
            number: server.run_sql("SELECT pg_xact_commit_timestamp(xmin) FROM ledger WHERE n = %s", (number,))[0][0]
            for number in times
        }
        server.stop()
        yield Story(line, times, exact, ends, fulls, runs)
    remove_server_directory(directory / "place")


def test_the_latest_moment_brings_every_row_back(story: Story) -> None:
    restored = story.line.restore(Latest())
    assert not restored.to_the_end
    assert restored.recovered.last_commit == story.exact[7]
    assert ledger(story.line.ask(restored, ROWS)) == list(range(8))


def test_a_time_between_two_commits_brings_back_the_first_of_them_only(story: Story) -> None:
    between = story.exact[3] + (story.exact[4] - story.exact[3]) / 2
    assert story.rows_at(AtTime(between)) == [0, 1, 2, 3]


def test_a_time_exactly_at_a_commit_brings_that_commit_back(story: Story) -> None:
    assert story.rows_at(AtTime(story.exact[5])) == [0, 1, 2, 3, 4, 5]


def test_a_time_a_microsecond_before_a_commit_leaves_it_out(story: Story) -> None:
    assert story.rows_at(AtTime(story.exact[5] - timedelta(microseconds=1))) == [0, 1, 2, 3, 4]


def test_a_time_after_the_last_commit_but_inside_coverage_goes_to_the_end_and_says_so(story: Story) -> None:
    restored = story.line.restore(AtTime(story.runs[-1].covered_until))
    assert restored.to_the_end
    assert ledger(story.line.ask(restored, ROWS)) == list(range(8))


def test_a_time_before_the_first_full_can_not_be_reached_and_the_ranges_are_told(story: Story) -> None:
    with pytest.raises(MomentUnreachable) as raised:
        story.line.plan(AtTime(story.times[1]))
    first = story.fulls[0].manifest.moment.strftime("%Y-%m-%d %H:%M:%S.%f UTC")
    last = story.runs[-1].covered_until.strftime("%Y-%m-%d %H:%M:%S.%f UTC")
    assert f"Reachable: {first} to {last}." in raised.value.remedy


def test_a_time_after_coverage_can_not_be_reached(story: Story) -> None:
    with pytest.raises(MomentUnreachable, match="can't be reached"):
        story.line.plan(AtTime(story.runs[-1].covered_until + timedelta(microseconds=1)))


def test_the_moment_of_the_full_without_wal_can_not_be_told_by_its_time(story: Story) -> None:
    """What was committed between the backup's end and the reading of the clock is not in it."""
    offer = story.line.offer()
    alone = replace(offer, runs={})
    with pytest.raises(MomentUnreachable) as raised:
        alone.plan(AtTime(story.fulls[0].manifest.moment))
    assert story.fulls[0].manifest.recovery_point in raised.value.remedy
    assert alone.plan(Latest()).target == {"recovery_target": "immediate"}


def test_an_lsn_just_behind_a_commit_brings_that_commit_back(story: Story) -> None:
    assert story.rows_at(AtLsn(Lsn(story.ends[4] - 1)))[:5] == [0, 1, 2, 3, 4]


def test_an_lsn_inside_the_record_of_a_commit_stops_behind_the_record_that_follows(story: Story) -> None:
    rows = story.rows_at(AtLsn(Lsn(story.ends[3] - 8)))
    assert rows == [0, 1, 2, 3]


def test_an_lsn_at_the_end_of_the_wal_brings_all_of_it_back(story: Story) -> None:
    end = story.line.offer().reaches()[-1].end_lsn
    restored = story.line.restore(AtLsn(end))
    assert restored.to_the_end
    assert ledger(story.line.ask(restored, ROWS)) == list(range(8))


def test_an_lsn_behind_the_end_of_the_wal_or_before_the_first_full_can_not_be_reached(story: Story) -> None:
    end = story.line.offer().reaches()[-1].end_lsn
    for lsn in (Lsn(end + 1), Lsn(0x1000000)):
        with pytest.raises(MomentUnreachable):
            story.line.plan(AtLsn(lsn))


def test_a_named_restore_point_older_than_the_newest_full_is_found_and_of_two_the_newer_is_taken(story: Story) -> None:
    plan = story.line.plan(AtName("before lunch"))
    assert plan.base.manifest.recovery_point == story.fulls[0].manifest.recovery_point
    assert story.rows_at(plan) == [0, 1, 2, 3, 4, 5]


def test_a_restore_point_that_nobody_made_can_not_be_reached(story: Story) -> None:
    with pytest.raises(MomentUnreachable, match="after supper"):
        story.line.plan(AtName("after supper"))


def test_a_full_comes_back_as_it_is(story: Story) -> None:
    assert story.rows_at(AtRecoveryPoint(story.fulls[0].manifest.recovery_point)) == [0, 1]


def test_the_end_of_a_wal_run_comes_back_by_its_id(story: Story) -> None:
    run = story.runs[0].copies[0].manifest.recovery_point
    restored = story.line.restore(AtRecoveryPoint(run))
    assert not restored.to_the_end
    assert ledger(story.line.ask(restored, ROWS)) == [0, 1, 2, 3]


def test_a_recovery_point_that_does_not_exist_can_not_be_reached(story: Story) -> None:
    for unknown in ("20200101T000000Z-full-0000", "20200101T000000Z-wal-0000"):
        with pytest.raises(MomentUnreachable, match=unknown):
            story.line.plan(AtRecoveryPoint(unknown))


def test_an_older_full_leads_to_the_same_rows(story: Story) -> None:
    base = story.fulls[0].manifest.recovery_point
    plan = story.line.plan(Latest(), base_id=base)
    assert plan.base.manifest.recovery_point == base
    restored = story.line.restore(plan)
    assert ledger(story.line.ask(restored, ROWS)) == list(range(8))


def test_commit_timestamps_survive_a_restore(story: Story) -> None:
    rows = story.line.ask(story.line.restore(Latest()), "SELECT n, pg_xact_commit_timestamp(xmin) FROM ledger")
    assert dict(rows) == story.exact


def test_a_restored_directory_leaves_nothing_beside_it(story: Story) -> None:
    restored = story.line.restore(AtTime(story.exact[4]))
    beside = {path.name for path in restored.into.parent.iterdir() if path.name.startswith(restored.into.name)}
    assert beside == {restored.into.name}
