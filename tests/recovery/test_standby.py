"""Backups read from a hot standby: whole, honest about what they cover, and led on through its promotion.

One primary with one standby serves the module; a standby that a test promotes is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import BackupFailed, LifeboatError, TimelineConflict
from lifeboat.policy.naming import Tier
from lifeboat.postgres import standby as standby_module
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.deep_verification import verify_chain, verify_deep
from lifeboat.postgres.full import _Archives
from lifeboat.postgres.kind import PostgresKind
from lifeboat.postgres.moments import AtRecoveryPoint, AtTime, Latest, Moment
from lifeboat.postgres.preflight import preflight
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.wal_collected import Collected
from lifeboat.postgres.wal_writing import SegmentWriter
from lifeboat.repository.catalogue import Copy
from lifeboat.targets.target import Finding
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR
from sandbox.postgres_role import let_read_everything
from sandbox.postgres_template import Template
from sandbox.processes import wait_until
from tests.postgres.test_preflight import parameters_of
from tests.recovery.line import SOURCE, Line, commit, ledger, prepare, system_in
from tests.recovery.test_following import Enough, Thread
from tests.recovery.test_following import runs as runs_of
from tests.recovery.test_timelines import ROWS, follow, follower_of
from tests.recovery.test_under_load import Writer

COMMITS = "SELECT n, pg_xact_commit_timestamp(xmin) FROM ledger"
_numbers = count(10_000)


@dataclass
class Pair:
    """A primary, and a standby that follows it."""

    primary: PostgresServer
    standby: PostgresServer

    def commit(self) -> datetime:
        """One row more, replayed on the standby; returns the moment just after its commit."""
        [moment] = commit(self.primary, next(_numbers))
        follow(self.primary, self.standby)
        assert isinstance(moment, datetime)
        return moment

    def checkpoint(self) -> None:
        """A checkpoint that the standby can begin a backup at."""
        self.primary.run_sql("CHECKPOINT")
        follow(self.primary, self.standby)

    def expected(self, moment: datetime) -> list[int]:
        """What was committed by then."""
        return sorted(number for number, committed in self.primary.run_sql(COMMITS) if committed <= moment)


@pytest.fixture(scope="module")
def pair(module_path: Path, postgres_template: Callable[[int], Template]) -> Iterator[Pair]:
    settings = {"fsync": "off", "autovacuum": "off", "track_commit_timestamp": "on", "summarize_wal": "on"}
    primary = PostgresServer(module_path / "primary", settings=settings, template=postgres_template(WHEEL_MAJOR))
    with primary:
        prepare(primary)
        let_read_everything(primary)
        primary.run_sql("CREATE UNLOGGED TABLE scratch AS SELECT 1 AS n")
        with follower_of(primary, module_path / "standby", *settings.items()) as standby:
            yield Pair(primary, standby)


DAILY = '      daily:\n        schedule: "0 2 * * *"\n        retention: 30d\n'
EXPORT = '      export:\n        schedule: "0 3 * * *"\n        retention: 30d\n'
POLICY = {
    DAILY: DAILY + EXPORT,
    "    tiers:\n": "    standby: true\n    export:\n      exclude: [public.scratch]\n    tiers:\n",
}


def standby_line(directory: Path, place: Path, server: PostgresServer) -> Line:
    """A system whose policy says that a standby is read."""
    system = system_in(directory)
    text = system.policy.read_text()
    for old, new in POLICY.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    system.policy.write_text(text)
    return Line(directory, place, server, system)


@pytest.fixture
def line(pair: Pair, tmp_path: Path, server_place: Path) -> Iterator[Line]:
    """A system whose connection leads to the standby."""
    pair.primary.run_sql("TRUNCATE ledger")
    follow(pair.primary, pair.standby)
    made = standby_line(tmp_path, server_place, pair.standby)
    yield made
    if pair.standby.run_sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", [made.slot]):
        pair.standby.run_sql("SELECT pg_drop_replication_slot(%s)", [made.slot])


@contextmanager
def own_standby(pair: Pair, line: Line, directory: Path) -> Iterator[PostgresServer]:
    """One more standby, to be promoted; the line leads to it."""
    with follower_of(pair.primary, directory, ("track_commit_timestamp", "on")) as server:
        line.server = server
        follow(pair.primary, server)
        yield server
    line.server = pair.standby


def rows(line: Line, moment: Moment, **more: Any) -> list[int]:
    return ledger(line.ask(line.restore(moment, **more), ROWS))


def deep(line: Line, *copies: Copy) -> None:
    for copy in copies:
        verify_deep(line.repository, "primary", copy)
    assert verify_chain(line.repository, "primary", SOURCE) == []


def names(collected: Collected) -> list[str]:
    return [stream.name for copy in collected.copies for stream in copy.manifest.streams]


def test_fulls_incrementals_and_wal_taken_under_load_come_back_exactly(pair: Pair, line: Line) -> None:
    with Writer(pair.primary):
        full = line.verify(line.full())
        runs = [line.wal(), line.wal()]
        pair.primary.run_sql("SELECT pg_switch_wal()")
        pair.checkpoint()
        increment = line.link()
        runs += [line.wal(), line.wal()]
    follow(pair.primary, pair.standby)
    runs.append(line.wal())
    assert full.manifest.details["standby"]
    assert increment.manifest.kind == "incremental"
    deep(line, full, increment, *(copy for run in runs for copy in run.copies))
    assert any(name.endswith(".partial") for name in names(runs[0]))
    assert [run.covered_until for run in runs] == sorted({run.covered_until for run in runs})
    alone = rows(line, AtRecoveryPoint(full.manifest.recovery_point))
    surely, at_most = full.manifest.moment, datetime.fromisoformat(full.manifest.details["stopped"])
    assert set(pair.expected(surely)) <= set(alone) <= set(pair.expected(at_most))
    for run in (runs[1], runs[3]):
        base = full if run is runs[1] else increment
        found = rows(line, AtTime(run.covered_until), base_id=base.manifest.recovery_point)
        assert found == pair.expected(run.covered_until)
    assert rows(line, Latest()) == pair.expected(runs[-1].covered_until) == ledger(pair.primary.run_sql(ROWS))


def test_an_idle_standby_is_read_once_and_its_clock_proves_nothing(pair: Pair, line: Line) -> None:
    pair.commit()
    line.verify(line.full())
    # No checkpoint has come since it began: there is nothing that an incremental could begin at.
    assert "nothing can be built upon" in line.incremental().reason
    first = line.wal()
    again = line.wal()
    assert names(again) == []
    assert again.covered_until == first.covered_until
    assert first.covered_until < pair.primary.run_sql("SELECT clock_timestamp()")[0][0]
    deep(line, *first.copies, *again.copies)
    later = pair.commit()
    third = line.wal()
    assert first.covered_until < third.covered_until < later
    deep(line, *third.copies)
    assert not line.events("wal_gap")
    assert rows(line, Latest()) == pair.expected(later)


def test_what_a_standby_has_received_and_not_replayed_is_not_claimed(pair: Pair, line: Line) -> None:
    before = pair.commit()
    pair.standby.run_sql("SELECT pg_wal_replay_pause()")
    try:
        wait_until(
            lambda: pair.standby.run_sql("SELECT pg_get_wal_replay_pause_state()") == [("paused",)],
            within=30,
            what="replay is paused",
        )
        commit(pair.primary, next(_numbers))
        position = pair.primary.run_sql("SELECT pg_current_wal_lsn()")[0][0]
        wait_until(
            lambda: pair.standby.run_sql("SELECT pg_last_wal_receive_lsn() >= %s::pg_lsn", [position]) == [(True,)],
            within=30,
            what="the standby has received it",
        )
        full = line.full()
        run = line.wal()
        assert full.manifest.moment < before
        assert run.covered_until < before
        found = {finding.subject: finding for finding in look(line)}
        assert found["replay"].severity == "warning"
    finally:
        pair.standby.run_sql("SELECT pg_wal_replay_resume()")
    assert rows(line, Latest()) == pair.expected(before)
    deep(line, full, *run.copies)


def test_a_standby_behind_the_repository_is_waited_for_and_then_named(
    pair: Pair, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_module, "CATCH_UP_SECONDS", 0.5)
    line.full()
    line.wal()
    pair.standby.run_sql("SELECT pg_wal_replay_pause()")
    try:
        line.server = pair.primary
        commit(pair.primary, next(_numbers))
        assert line.wal().promoted
        line.server = pair.standby
        with pytest.raises(BackupFailed, match="the repository has the WAL up to"):
            line.wal()
    finally:
        line.server = pair.standby
        pair.standby.run_sql("SELECT pg_wal_replay_resume()")
        pair.primary.run_sql("SELECT pg_drop_replication_slot(%s)", [line.slot])
    pair.commit()
    deep(line, *line.wal().copies)


def test_a_run_that_follows_a_standby_commits_what_is_new_and_leaves_an_idle_one_alone(pair: Pair, line: Line) -> None:
    line.full()
    with Writer(pair.primary):
        busy = line.follow(timedelta(seconds=3), flush_every=timedelta(seconds=0.7))
    assert len(busy.copies) >= 3
    moments = [copy.manifest.moment for copy in busy.copies]
    assert moments == sorted(set(moments))
    follow(pair.primary, pair.standby)
    idle = line.follow(None, flush_every=timedelta(seconds=0.3), enough=Enough(9))
    assert len(idle.copies) <= 2
    deep(line, *busy.copies, *idle.copies)
    assert rows(line, AtTime(moments[1])) == pair.expected(moments[1])


def test_the_next_run_waits_for_the_one_that_follows_a_standby(pair: Pair, line: Line) -> None:
    line.full()
    with Writer(pair.primary):
        first = Thread(line, timedelta(seconds=1.5), flush_every=timedelta(seconds=0.2))
        first.wait_for(1)
        second = Thread(Line(line.directory, line.place, line.server, line.system), timedelta(seconds=0.5))
        first.join(60)
        second.join(60)
    assert first.failure is second.failure is None
    both = [copy.manifest.recovery_point for copy in (*first.committed, *second.committed)]
    assert len(first.committed) >= 2
    assert [copy.manifest.recovery_point for copy in runs_of(line)] == both == sorted(both)
    deep(line)


def test_archives_and_exports_of_a_standby_say_what_it_does_not_have(pair: Pair, line: Line) -> None:
    before = pair.commit()
    kind = PostgresKind()

    def take(tier: Tier, what: str) -> Copy:
        made = kind.back_up(
            line.repository,
            SOURCE,
            tier,
            line.work(what),
            line.journal,
            progress=lambda *_: None,
            tick=lambda: None,
            retain_until=None,
        )
        return made.copies[0]

    archive = take(Tier.WEEKLY, "logical")
    export = take(Tier.EXPORT, "export")
    for copy in (archive, export):
        assert copy.manifest.details["standby"]
        assert copy.manifest.moment < before
        verified, figures = kind.verify_deep(line.repository, "primary", copy, passed=lambda _: None, tick=lambda: None)
        assert verified.objects
        assert figures["rows"] >= len(pair.expected(before))
    assert any("public.scratch" in finding for finding in archive.manifest.findings)
    line.source.export.__dict__["exclude"] = ()
    with pytest.raises(BackupFailed, match="unlogged") as refused:
        take(Tier.EXPORT, "export")
    assert "SET LOGGED" in refused.value.remedy


def look(line: Line) -> list[Finding]:
    parameters = parameters_of(line.server)
    with connect_sql(parameters) as sql:
        return preflight(
            sql,
            lambda: ReplicationConnection(parameters),
            parameters=parameters,
            slot_name=line.slot,
            standby=line.source.standby,
        )


def test_preflight_knows_a_standby_that_may_be_read(pair: Pair, line: Line) -> None:
    found = {finding.subject: finding for finding in look(line)}
    assert [finding for finding in found.values() if finding.severity == "error"] == []
    assert found["server role"].severity == "ok"
    assert "has replayed up to" in found["server role"].what
    assert "wal receiver" not in found
    line.server = pair.primary
    [role] = [finding for finding in look(line) if finding.subject == "server role"]
    assert (role.severity, "it was promoted" in role.what) == ("warning", True)
    line.server = pair.standby
    for tier in (Tier.WEEKLY, Tier.EXPORT):
        conflicts = [
            finding
            for finding in PostgresKind().preflight(line.repository, SOURCE, tier, tick=lambda: None)
            if finding.subject == "recovery conflicts"
        ]
        assert [finding.severity for finding in conflicts] == ["warning"]


def test_a_primary_without_full_page_writes_fails_a_full_of_its_standby(pair: Pair, line: Line) -> None:
    def switch(value: str) -> None:
        pair.primary.run_sql(f"ALTER SYSTEM SET full_page_writes = {value}")
        pair.primary.run_sql("SELECT pg_reload_conf()")
        wait_until(
            lambda: pair.primary.run_sql("SELECT current_setting('full_page_writes')") == [(value,)],
            within=30,
            what="the setting holds",
        )
        pair.commit()
        pair.checkpoint()

    try:
        switch("off")
        with pytest.raises(LifeboatError, match="full_page_writes"):
            line.full()
        assert line.repository.catalogue("primary").recovery_points(SOURCE).copies == ()
        assert [finding.subject for finding in look(line) if finding.severity == "error"] == ["full_page_writes"]
    finally:
        switch("on")
    pair.standby.run_sql("CHECKPOINT")
    deep(line, line.full())


def test_a_standby_promoted_between_two_runs_goes_on_as_a_primary_and_says_so(
    pair: Pair, line: Line, tmp_path: Path
) -> None:
    with own_standby(pair, line, tmp_path / "own") as new:
        line.full()
        line.wal()
        before = commit(pair.primary, next(_numbers))[0]
        follow(pair.primary, new)
        known = ledger(new.run_sql(ROWS))
        new.run_sql("SELECT pg_promote()")
        number = next(_numbers)
        commit(new, number)
        run = line.wal()
        assert "promoted" in run.alarm
        assert [copy.manifest.timeline for copy in run.copies] == [1, 2]
        more = next(_numbers)
        commit(new, more)
        again = line.wal()
        assert not again.alarm
        for copy in (again.copies[-1], line.full()):
            assert not copy.manifest.details["standby"]
            assert any("promoted" in finding for finding in copy.manifest.findings)
            assert copy.manifest.details["timeline"] == 2
        deep(line, *run.copies, *again.copies)
        assert rows(line, AtTime(before)) == known
        assert rows(line, Latest()) == sorted([*known, number, more])


@pytest.mark.parametrize("streaming", ["wal", "full"])
def test_a_standby_promoted_in_mid_run_leaves_nothing_half_done(
    pair: Pair, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: str
) -> None:
    with own_standby(pair, line, tmp_path / "own") as new:
        line.full()
        line.wal()
        commit(pair.primary, next(_numbers))
        follow(pair.primary, new)
        known = ledger(new.run_sql(ROWS))
        promote_in_mid_stream(monkeypatch, SegmentWriter if streaming == "wal" else _Archives, new)
        if streaming == "full":
            with pytest.raises(BackupFailed, match="promoted"):
                line.full()
            assert len(line.events("backup_committed")) == 2
            monkeypatch.undo()
            assert line.full().manifest.details["timeline"] == 2
        else:
            # Its end was fixed while it was a standby, and lies before the promotion.
            assert [copy.manifest.timeline for copy in line.wal().copies] == [1]
            monkeypatch.undo()
        number = next(_numbers)
        [after] = commit(new, number)
        run = line.wal()
        assert run.copies[-1].manifest.timeline == 2
        deep(line, *run.copies)
        assert rows(line, AtTime(after)) == sorted([*known, number])


def promote_in_mid_stream(
    monkeypatch: pytest.MonkeyPatch, writer: type[SegmentWriter | _Archives], server: PostgresServer
) -> None:
    """As soon as the first bytes have arrived the standby is promoted."""
    write = writer.write
    done: list[object] = []

    def write_and_promote(self: object, *words: object) -> None:
        write(self, *words)  # type: ignore[arg-type]
        if not done:
            done.append(server.run_sql("SELECT pg_promote()"))

    monkeypatch.setattr(writer, "write", write_and_promote)


def test_a_standby_promoted_while_it_is_followed_ends_the_run_and_the_next_goes_on(
    pair: Pair, line: Line, tmp_path: Path
) -> None:
    with own_standby(pair, line, tmp_path / "own") as new:
        line.full()

        def promote(number: int) -> None:
            if number == 3:
                new.run_sql("SELECT pg_promote()")

        with pytest.raises(TimelineConflict, match="promoted while it was followed"):
            line.follow(None, flush_every=timedelta(seconds=0.5), enough=Enough(100, promote))
        number = next(_numbers)
        commit(new, number)
        followed = line.follow(timedelta(seconds=1))
        assert followed.copies[-1].manifest.timeline == 2
        deep(line, *followed.copies)
        assert rows(line, Latest())[-1] == number


def test_a_standby_that_the_policy_does_not_name_is_refused_by_every_tier(pair: Pair, line: Line) -> None:
    line.source.__dict__["standby"] = False
    for tier in (Tier.DAILY, Tier.WAL, Tier.INCREMENTAL, Tier.WEEKLY, Tier.EXPORT):
        errors = [
            finding
            for finding in PostgresKind().preflight(line.repository, SOURCE, tier, tick=lambda: None)
            if finding.severity == "error"
        ]
        assert any("standby: true" in finding.remedy for finding in errors), tier
        with pytest.raises(BackupFailed, match="standby") as refused:
            PostgresKind().back_up(
                line.repository,
                SOURCE,
                tier,
                line.work("full"),
                line.journal,
                progress=lambda *_: None,
                tick=lambda: None,
                retain_until=None,
            )
        assert "standby: true" in refused.value.remedy
    assert line.repository.catalogue("primary").recovery_points(SOURCE).copies == ()
