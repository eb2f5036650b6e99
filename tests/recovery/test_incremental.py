"""Incrementals on real servers: what each builds upon, when a full is taken instead, and what may happen meanwhile."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import BackupFailed, Cancelled, VerificationFailed
from lifeboat.operators.run import committed_before
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.base_backup import MANIFEST_STREAM
from lifeboat.postgres.deep_verification import verify_deep
from lifeboat.postgres.details import IncrementalDetails, base_details
from lifeboat.postgres.full import _Archives
from lifeboat.postgres.kind import PostgresKind
from lifeboat.postgres.moments import AtRecoveryPoint, Latest
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.comparison import against_journal
from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.sequence import sequence_findings
from sandbox.accounts import CLONE, remove, remove_server_directory, server_account, server_directory
from sandbox.postgres import ENVIRONMENT, PostgresServer
from sandbox.processes import run, wait_until
from tests.recovery.line import SOURCE, Line, commit, ledger, prepare, system_in
from tests.recovery.test_chains_under_load import flipped, hidden
from tests.recovery.test_full_faults import BACKING_UP, committed, midway, nothing_left

ROWS = "SELECT n FROM ledger"
SUMMARIZING = {"fsync": "off", "summarize_wal": "on"}


@pytest.fixture(scope="module")
def shared(module_path: Path) -> Iterator[Line]:
    """A server that summarizes its WAL; each test begins with a full of its own."""
    place = server_directory(module_path / "place")
    with PostgresServer(module_path / "server", settings=SUMMARIZING) as server:
        prepare(server)
        yield Line(module_path, place, server, system_in(module_path))
    remove(place)


@pytest.fixture
def based(shared: Line) -> Line:
    """The same with a verified full as its newest link."""
    shared.verify(shared.full())
    return shared


def folder_of(line: Line, copy: Copy, target: str = "primary") -> Path:
    return line.directory / target / copy.manifest.folder.path


def bent(line: Line, **tier: Any) -> PostgresSource:
    """The source with another incremental tier."""
    tiers = line.source.tiers
    other = tiers[Tier.INCREMENTAL].model_copy(update=tier)
    return line.source.model_copy(update={"tiers": {**tiers, Tier.INCREMENTAL: other}})


def forced(line: Line) -> list[str]:
    return [str(event.details["reason"]) for event in line.events("full_forced")]


def test_each_builds_upon_the_newest_verified_link_and_says_what_it_passed_over(based: Line) -> None:
    line = based
    full = line.offer().bases[-1]
    first = line.link()
    unverified = line.incremental().copy
    beside = line.incremental()
    assert not beside.reason
    for copy in (unverified, beside.copy):
        assert copy.manifest.parent == first.manifest.recovery_point
        assert copy.manifest.chain == full.manifest.recovery_point
    assert beside.copy.manifest.findings == (
        f"{unverified.manifest.recovery_point} was not built upon: it was never verified",
    )
    details = base_details(beside.copy.manifest)
    assert isinstance(details, IncrementalDetails)
    assert details.parent_manifest == first.sha256
    assert details.whole["base.tar"] > 15_000_000
    # Most of it is its own WAL segment: nothing was changed.
    assert beside.copy.manifest.stored_size * 10 < full.manifest.stored_size
    deep = verify_deep(line.repository, "primary", beside.copy)
    assert deep.files > 900
    assert deep.wal_records


def test_a_flipped_byte_in_an_incremental_is_found_by_both_kinds_of_verification(based: Line) -> None:
    line = based
    copy = line.incremental().copy
    manifest = copy.manifest
    volume = folder_of(line, copy) / manifest.attempt / manifest.stream("base.tar").volumes[0].file
    with flipped(volume):
        with pytest.raises(VerificationFailed):
            line.verify(copy)
        with pytest.raises(Exception, match=manifest.recovery_point):
            verify_deep(line.repository, "primary", copy)
    # It is whole again, but the journal's last word is that it is not.
    taken = line.incremental()
    assert taken.copy.manifest.parent != manifest.recovery_point
    assert "its last verification failed" in taken.copy.manifest.findings[0]


def test_a_missing_or_replayed_incremental_shows(based: Line) -> None:
    line = based
    row = [line.link() for _ in range(3)]
    points = line.repository.catalogue("primary").recovery_points(SOURCE)
    events = [
        event
        for event in read_journal(line.repository.target("primary"), "demo", line.repository.trusted)
        if isinstance(event, Event)
    ]
    with hidden(folder_of(line, row[1])):
        left = line.repository.catalogue("primary").recovery_points(SOURCE).of_kind("incremental")
        missing = f"1 missing between {row[0].manifest.recovery_point} and {row[2].manifest.recovery_point}."
        assert missing in sequence_findings(left)
        assert [str(one) for one in line.offer().broken] == [
            f"{row[2].manifest.recovery_point} can't be used: its parent {row[1].manifest.recovery_point} is not here."
        ]
    with hidden(folder_of(line, row[2])):
        newest = line.repository.catalogue("primary").recovery_points(SOURCE)
        found = against_journal(newest, events, source=SOURCE, target="primary")
        assert any(row[2].manifest.recovery_point in what and "not there any more" in what for what in found)
    # An older attempt's manifest, signed by us, put where the newest should be.
    other = replace(row[1], manifest=row[1].manifest.model_copy(update={"note": "another"}))
    replayed = [copy if copy.sha256 != row[1].sha256 else replace(other, document=other.manifest.to_json())
                for copy in points.of_kind("incremental")]  # fmt: skip
    assert any("was not made after" in what for what in sequence_findings(replayed))


def test_a_retry_finds_the_full_that_was_taken_instead(based: Line) -> None:
    line = based
    work = line.work("incremental", mark="beef")
    work = replace(work, run=work.run.model_copy(update={"dag_id": "demo_database_incremental", "run_id": "r"}))
    taken = line.incremental(work=work, source=bent(line, longest_chain=1))
    assert not taken.reason
    assert committed_before(line.repository, SOURCE, Tier.INCREMENTAL, work) is not None
    line.verify(taken.copy)
    work = replace(work, recovery_point=replace(work.recovery_point, mark="cafe"))
    taken = line.incremental(work=work, source=bent(line, longest_chain=1))
    assert "as many as the policy allows" in taken.reason
    assert taken.copy.manifest.kind == "full"
    assert taken.copy.manifest.tiers == work.tiers
    before = committed_before(line.repository, SOURCE, Tier.INCREMENTAL, work)
    assert before is not None
    assert before.sha256 == taken.copy.sha256


def test_without_summaries_a_full_is_taken_and_preflight_says_why(based: Line) -> None:
    line, kind = based, PostgresKind()
    line.server.write_settings(summarize_wal="off")
    line.server.reload()
    try:
        findings = kind.preflight(line.repository, SOURCE, Tier.INCREMENTAL, tick=lambda: None)
        [finding] = [finding for finding in findings if finding.subject == "summarize_wal"]
        assert finding.severity == "warning"
        assert "ALTER SYSTEM SET summarize_wal = on" in finding.remedy
        done = kind.back_up(
            line.repository,
            SOURCE,
            Tier.INCREMENTAL,
            line.work("incremental"),
            line.journal,
            progress=lambda *_: None,
            tick=lambda: None,
            retain_until=None,
        )
    finally:
        line.server.write_settings(summarize_wal="on")
        line.server.reload()
    [copy] = done.copies
    assert copy.manifest.kind == "full"
    assert copy.manifest.chain == copy.manifest.recovery_point
    assert "A full was taken instead of an incremental: summarize_wal is off" in done.message
    assert "Taken instead of an incremental: summarize_wal is off" in copy.manifest.findings[0]
    assert forced(line)[-1].startswith("summarize_wal is off")
    [finding] = [
        finding
        for finding in kind.preflight(line.repository, SOURCE, Tier.INCREMENTAL, tick=lambda: None)
        if finding.subject == "summarize_wal"
    ]
    assert finding.severity == "ok"


def lose_summaries(server: PostgresServer, parent: Copy) -> None:
    """Once there are some that an incremental would need."""
    commit(server, max(ledger(server.run_sql(ROWS)), default=0) + 1)
    server.run_sql("CHECKPOINT")
    start = str(base_details(parent.manifest).start_lsn)
    behind = "SELECT count(*) FROM pg_available_wal_summaries() WHERE end_lsn > %s"
    wait_until(lambda: bool(server.run_sql(behind, [start])[0][0]), within=60, what="WAL behind it is summarized")
    for summary in (server.data_directory / "pg_wal" / "summaries").glob("*.summary"):
        summary.unlink()


def test_summaries_that_do_not_reach_back_make_a_full(based: Line) -> None:
    line = based
    lose_summaries(line.server, line.link())
    assert "do not reach back" in line.incremental().reason


def test_the_servers_own_refusal_makes_a_full_where_the_role_may_not_look(based: Line) -> None:
    line, server = based, based.server
    function = "FUNCTION pg_catalog.pg_available_wal_summaries() {} PUBLIC"
    server.run_sql("REVOKE EXECUTE ON " + function.format("FROM"))
    try:
        copy = line.link()
        lose_summaries(server, copy)
        taken = line.incremental()
    finally:
        server.run_sql("GRANT EXECUTE ON " + function.format("TO"))
    assert f"nothing can be built upon {copy.manifest.recovery_point}: WAL summaries are required" in taken.reason
    assert taken.copy.manifest.kind == "full"
    assert nothing_left(server)


def test_a_parents_manifest_that_is_damaged_on_the_primary_target_makes_a_full(based: Line) -> None:
    line = based
    copy = line.link()
    volume = copy.manifest.stream(MANIFEST_STREAM).volumes[0].file
    with flipped(folder_of(line, copy) / copy.manifest.attempt / volume):
        taken = line.incremental()
    assert "its manifest can't be read on the primary target" in taken.reason


def test_data_checksums_that_were_switched_make_a_full(based: Line) -> None:
    line, server = based, based.server
    switch = server.binaries / "pg_checksums"
    for how, word in (("--disable", "off"), ("--enable", "on")):
        server.stop()
        run(switch, how, "--no-sync", "-D", server.data_directory, environment=ENVIRONMENT, account=server_account())
        server.start()
        taken = line.incremental()
        assert f"data checksums were switched {word} since" in taken.reason
        line.verify(taken.copy)


def test_a_server_that_was_put_back_to_an_older_state_gets_a_full(based: Line) -> None:
    """Its WAL has been at the parent's position before and after, so that no number tells."""
    line, server = based, based.server
    commit(server, 1000)
    server.stop()
    aside = server.data_directory.with_name("aside")
    run("cp", "-a", server.data_directory, aside, environment=ENVIRONMENT)
    server.start()
    parent = line.link()
    server.stop()
    shutil.rmtree(server.data_directory)
    aside.rename(server.data_directory)
    server.start()
    behind = "SELECT pg_current_wal_lsn() < %s"
    server.run_sql("CREATE TABLE filler (n int)")
    while server.run_sql(behind, [str(base_details(parent.manifest).stop_lsn)])[0][0]:
        server.run_sql("INSERT INTO filler VALUES (1)")
        server.run_sql("CHECKPOINT")
        server.run_sql("SELECT pg_switch_wal()")
    taken = line.incremental()
    assert "it has another history" in taken.reason
    assert taken.copy.manifest.kind == "full"


def test_after_a_promotion_at_a_recovery_target_a_full_is_taken_and_comes_back(
    make_line: Callable[..., Line],
) -> None:
    """The server before and the one after share their positions up to the target, and not what follows."""
    line = make_line(settings=SUMMARIZING)
    commit(line.server, 1)
    line.verify(line.full())
    commit(line.server, 2)
    target = line.link()
    commit(line.server, 3)
    line.link()
    restored = line.restore(AtRecoveryPoint(target.manifest.recovery_point))
    old = line.server
    old.stop()
    directory = line.directory / "promoted"
    new = PostgresServer.on_data(directory, restored.into, passwords=old.passwords, settings=SUMMARIZING)
    with new:
        line.server = new
        commit(new, 4)
        taken = line.incremental()
        assert "on timeline 2" in taken.reason
        assert taken.copy.manifest.kind == "full"
        line.verify(taken.copy)
        commit(new, 5)
        assert line.link().manifest.chain == taken.copy.manifest.recovery_point
        commit(new, 6)
        line.wal()
        new.stop()
        assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1, 2, 4, 5, 6]
    remove_server_directory(directory)


def test_before_postgresql_17_the_tier_is_refused_or_takes_fulls_as_the_policy_says(
    make_line: Callable[..., Line],
) -> None:
    line, kind = make_line(major=16), PostgresKind()
    findings = kind.preflight(line.repository, SOURCE, Tier.INCREMENTAL, tick=lambda: None)
    [finding] = [finding for finding in findings if finding.subject == "incremental"]
    assert finding.severity == "error"
    with pytest.raises(BackupFailed, match="PostgreSQL 16 makes no incremental backups") as raised:
        line.incremental()
    assert "instead: full" in raised.value.remedy
    assert committed(line) == []
    taken = line.incremental(source=bent(line, instead="full"))
    assert taken.copy.manifest.kind == "full"
    assert "PostgreSQL 16" in taken.reason
    assert committed(line) == [taken.copy.manifest.recovery_point]


def test_an_incremental_that_is_cancelled_leaves_nothing_and_the_next_one_builds_upon_the_same_link(
    based: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = based
    before = committed(line)
    stopped = itertools.count()

    def tick() -> None:
        if len(begun) and next(stopped) == 0:
            raise Cancelled("A person stopped it.")

    begun: list[None] = []
    with monkeypatch.context() as patch:
        midway(patch, lambda: begun.append(None))
        write = _Archives.write

        def slowly(archives: _Archives, data: memoryview) -> None:
            write(archives, data)
            if begun:
                tick()

        patch.setattr(_Archives, "write", slowly)
        with pytest.raises(Cancelled):
            line.incremental()
    assert committed(line) == before
    wait_until(lambda: nothing_left(line.server), within=15, what="the server holds nothing of ours")
    assert line.link().manifest.parent == before[-1]


def test_an_incremental_killed_with_9_leaves_nothing_and_its_retry_succeeds_under_the_same_id(
    based: Line, tmp_path: Path
) -> None:
    line, server = based, based.server
    before = committed(line)
    work = line.work("incremental", mark="abcd")
    script = BACKING_UP.replace("full import", "incremental import").replace("back_up_full", "back_up_incremental")
    arguments = [CLONE / "plugins", CLONE, line.system.policy, str(server.port), str(work.recovery_point)]
    child = subprocess.Popen(
        [sys.executable, "-c", script.replace('"full"', '"incremental"'), *arguments, tmp_path / "reached"],
        stdin=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    child.stdin.write(server.passwords["lifeboat"] + "\n")
    child.stdin.flush()
    wait_until((tmp_path / "reached").exists, within=60, what="the backup is in its middle")
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    assert committed(line) == before
    wait_until(lambda: nothing_left(server), within=30, what="the server has noticed the death")
    retry = replace(line.work("incremental", attempt=2), recovery_point=work.recovery_point)
    taken = line.incremental(work=retry)
    assert not taken.reason
    # Both were moved behind the parent's id where they began in the same second.
    assert taken.copy.manifest.recovery_point.endswith("-incremental-abcd")
    folder = RecoveryPointFolder("demo", SOURCE, taken.copy.manifest.recovery_point)
    assert len(line.repository.target("primary").list_folders(folder.path)) == 2
