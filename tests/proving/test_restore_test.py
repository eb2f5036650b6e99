"""The restore test of a database, on real servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat.errors import Cancelled, RestoreError, TargetUnavailable
from lifeboat.outside import utc_now
from lifeboat.postgres.moments import Latest
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.restore import restore
from lifeboat.postgres.unpacking import Owner
from lifeboat.recovery.database_checks import DatabaseChecks
from lifeboat.recovery.evidence import Proof, Record
from lifeboat.recovery.keeping import Unbelievable, read_evidence
from lifeboat.recovery.physical import PhysicalTest
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.recovery.restored import Stopwatch
from lifeboat.recovery.sql_checks import SqlCheck, parse_check
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from sandbox.accounts import remove_server_directory, server_directory
from sandbox.postgres import SUPERUSER, PostgresServer
from tests.proving.killed_test import PHASES, killed_test
from tests.recovery.line import SOURCE, Line, commit, prepare, system_in

PAPERS = """
sources:
  papers:
    kind: files
    url: file:///srv/papers
    queue: here
    tiers:
      daily: {schedule: "0 3 * * *", retention: 30d}
"""


@dataclass
class Story:
    """Row 1 before a full, 2 before an incremental, 3 before a run of WAL, on both targets; the server is stopped."""

    line: Line
    full: Copy
    link: Copy
    policy: str

    def test(self, tick: Callable[[], None] = lambda: None, later: timedelta = timedelta(), **more: Any) -> Record:
        """A test, by a clock that is ahead."""
        repository = self.line.new_repository()
        repository.outside = replace(repository.outside, clock=lambda: utc_now() + later)
        wish = Wish(**{"sources": (SOURCE,), "scratch": self.line.place} | more)
        run = Run(command="lifeboat test")
        return RestoreTest(repository, wish, run, "tester", tick=tick).carry_out()

    def records(self, target: str) -> list[Record | Unbelievable]:
        """What a target has of today's evidence."""
        repository = self.line.repository
        now = repository.outside.clock()
        since = now - timedelta(days=1)
        return list(read_evidence(repository.target(target), "demo", repository.trusted, since=since, until=now))


@pytest.fixture(scope="module")
def story(module_path: Path) -> Iterator[Story]:
    place = server_directory(module_path / "place")
    server = PostgresServer(module_path / "server", settings={"fsync": "off", "summarize_wal": "on"})
    with server:
        prepare(server)
        line = Line(module_path, place, server, system_in(module_path))
        commit(server, 1)
        full = line.verify(line.full())
        commit(server, 2)
        link = line.link()
        commit(server, 3)
        (wal,) = line.wal().copies
        for copy in (full, link, wal):
            line.carry(copy)
        server.stop()
        yield Story(line, full, link, line.system.policy.read_text())
    remove_server_directory(module_path / "place")


def rows(expect: str, query: str = "SELECT count(*) FROM ledger") -> SqlCheck:
    return parse_check("rows.sql", f"-- source: {SOURCE}\n-- database: postgres\n-- expect: {expect}\n{query}")


def outcomes(proof: Proof) -> dict[str, bool]:
    return {check.name: check.passed for check in proof.checks}


def what_of(proof: Proof, name: str) -> str:
    return next(check.what for check in proof.checks if check.name == name)


def left_in(place: Path) -> list[str]:
    return [path.name for path in place.iterdir()]


def servers_in(place: Path) -> list[int]:
    """The processes that hold a file below a directory: a server that somebody forgot."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        told = " ".join([process.info["cwd"] or "", *(process.info["cmdline"] or ())])
        if str(place) in told and process.pid != os.getpid():
            found.append(process.pid)
    return found


def test_the_newest_and_one_at_random_come_back_and_are_looked_at(story: Story) -> None:
    record = story.test(checks=(rows("1 to 3"),), seed=1)
    bad = [f"{check.name}: {check.what}" for proof in record.proofs for check in proof.checks if not check.passed]
    assert record.passed, bad
    newest, drawn = record.proofs
    assert [newest.chosen, newest.recovery_point] == ["newest", story.link.manifest.recovery_point]
    assert [drawn.chosen, drawn.recovery_point] == ["random", story.full.manifest.recovery_point]
    looked_at = [
        "every file and WAL record",
        "pg_verifybackup",
        "pg_amcheck",
        "rows.sql",
        "data checksums",
        "recovery time",
    ]
    assert list(outcomes(newest)) == [*looked_at, "recovery point"]
    assert list(outcomes(drawn)) == looked_at
    assert what_of(newest, "rows.sql").startswith("3 ")
    assert what_of(drawn, "rows.sql").startswith("1 ")
    assert {newest.target, drawn.target} == {"primary", "offsite"}
    assert set(newest.milliseconds) == {"fetch", "combine", "stage", "replay", "check"}
    assert left_in(story.line.place) == []
    assert servers_in(story.line.place) == []


def test_the_record_is_on_every_target_and_in_the_journal(story: Story) -> None:
    record = story.test()
    for target in ("primary", "offsite", "local"):
        assert record in story.records(target)
    announced = [event.details["sha256"] for event in story.line.events("evidence_recorded")]
    assert record.sha256 in announced
    begun = [event.details for event in story.line.events("restore_test_begun")]
    assert {"sources": [SOURCE], "seed": record.seed} in begun


def test_the_newest_comes_from_another_target_each_time(story: Story) -> None:
    targets = [story.test().proofs[0].target for _ in range(3)]
    assert targets[0] == targets[2] != targets[1]


def test_the_same_seed_draws_the_same_recovery_point(story: Story) -> None:
    drawn = {story.test(seed=5, target="primary").proofs[1].recovery_point for _ in range(2)}
    assert drawn == {story.full.manifest.recovery_point}


def test_one_target_alone_is_tested_when_it_is_named(story: Story) -> None:
    record = story.test(target="offsite")
    assert [proof.target for proof in record.proofs] == ["offsite", "offsite"]


def test_a_check_of_the_system_that_fails_fails_the_test_and_shows_none_of_its_rows(story: Story) -> None:
    wrong = rows("no rows", "SELECT 'a secret of ' || n FROM ledger")
    record = story.test(checks=(wrong,))
    assert not record.passed
    newest = record.proofs[0]
    assert [name for name, passed in outcomes(newest).items() if not passed] == ["rows.sql"]
    assert what_of(newest, "rows.sql") == "3 rows where none should be"
    assert "a secret" not in record.model_dump_json()


def test_a_check_can_change_nothing(story: Story) -> None:
    record = story.test(checks=(rows("no rows", "DELETE FROM ledger RETURNING n"),))
    assert what_of(record.proofs[0], "rows.sql") == "it can't be asked: ReadOnlySqlTransaction"


def test_a_database_that_loses_more_than_it_may_fails_the_test(story: Story) -> None:
    record = story.test(later=timedelta(hours=1))
    assert [name for name, passed in outcomes(record.proofs[0]).items() if not passed] == ["recovery point"]
    assert what_of(record.proofs[0], "recovery point").startswith("the last 1 h ")


def test_a_damaged_object_fails_the_test_of_its_target_and_not_of_the_other(story: Story) -> None:
    folder = story.line.directory / "offsite" / story.line.repository.system / SOURCE
    (volume,) = folder.glob(f"{story.full.manifest.recovery_point}/*/base.tar.*")
    good = volume.read_bytes()
    volume.chmod(0o600)
    volume.write_bytes(good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :])
    try:
        offsite, primary = (story.test(target=target) for target in ("offsite", "primary"))
    finally:
        volume.write_bytes(good)
    assert primary.passed
    assert not offsite.passed
    assert all(story.full.manifest.recovery_point in proof.error for proof in offsite.proofs)
    assert all(proof.remedy for proof in offsite.proofs)
    assert left_in(story.line.place) == []


def test_a_source_without_a_recovery_point_is_lacking_and_the_others_are_tested(story: Story) -> None:
    story.line.system.policy.write_text(story.policy.replace("\nsources:\n", PAPERS))
    try:
        record = story.test(sources=())
    finally:
        story.line.system.policy.write_text(story.policy)
    assert not record.passed
    assert [proof.passed for proof in record.proofs] == [True, True]
    assert list(record.lacking) == ["papers"]
    assert record.lacking["papers"] == "There is nothing to bring back on primary, offsite, local."


def test_a_source_that_is_not_backed_up_can_not_be_tested(story: Story) -> None:
    with pytest.raises(RestoreError, match="Of demo, papers can be brought back by no restore test"):
        story.test(sources=("papers",))


def test_no_target_within_reach_is_said(story: Story) -> None:
    marker = story.line.directory / "offsite"
    marker.rename(marker.with_name("away"))
    try:
        with pytest.raises(TargetUnavailable, match="No target of demo can be read"):
            story.test(target="offsite")
        record = story.test()
        offsite, *others = record.proofs
        assert not record.passed
        assert (offsite.target, offsite.recovery_point) == ("offsite", "")
        assert "offsite" in offsite.error
        assert [proof.passed for proof in others] == [True, True]  # from the other one
    finally:
        marker.with_name("away").rename(marker)


def test_a_scratch_directory_that_is_not_there_is_said_and_recorded(story: Story) -> None:
    record = story.test(scratch=story.line.place / "missing")
    assert {proof.error for proof in record.proofs} == {
        f"The scratch directory {story.line.place / 'missing'} is not there."
    }


def test_a_test_that_is_stopped_leaves_nothing_and_records_nothing(story: Story) -> None:
    before = story.records("primary")

    def stop_when_the_server_runs() -> None:
        if servers_in(story.line.place):
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        story.test(tick=stop_when_the_server_runs)
    assert left_in(story.line.place) == []
    assert servers_in(story.line.place) == []
    assert story.records("primary") == before


@pytest.mark.parametrize("phase", PHASES)
def test_a_test_that_is_killed_leaves_no_server_and_the_next_removes_what_it_left(story: Story, phase: str) -> None:
    child = killed_test(story.line.system.policy, SOURCE, story.line.place, phase)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    for pid in servers_in(story.line.place):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait()
    assert left_in(story.line.place) != []
    assert story.test().passed
    assert left_in(story.line.place) == []


def test_an_index_that_is_out_of_order_is_found(line: Line) -> None:
    line.server.run_sql(
        "CREATE FUNCTION turned(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($1, $2)'"
    )
    line.server.run_sql(
        "CREATE OPERATOR CLASS turning FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,"
        " OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 turned(int, int)"
    )
    line.server.run_sql("CREATE INDEX ledger_turning ON ledger (n turning)")
    commit(line.server, 1, 2, 3)
    line.server.run_sql(
        "CREATE OR REPLACE FUNCTION turned(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($2, $1)'"
    )
    line.verify(line.full())
    wish = Wish(sources=(SOURCE,), scratch=line.place)
    record = RestoreTest(line.repository, wish, Run(command="lifeboat test"), "tester").carry_out()
    assert not record.passed
    (proof,) = record.proofs
    assert [name for name, passed in outcomes(proof).items() if not passed] == ["pg_amcheck"]
    assert "ledger_turning" in what_of(proof, "pg_amcheck")


def refuse_at(line: Line, *events: str) -> None:
    """Event triggers that refuse what pg_amcheck does."""
    line.server.run_sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN"
        " IF current_setting('application_name') LIKE 'pg_amcheck%' THEN RAISE EXCEPTION 'refused'; END IF; END$$"
    )
    for event in events:
        line.server.run_sql(f"CREATE EVENT TRIGGER at_{event} ON {event} EXECUTE FUNCTION refuse()")


def test_what_the_lost_system_does_at_a_login_or_a_change_of_tables_is_not_done(line: Line) -> None:
    """Event triggers that refuse, and a setting of the superuser's that would end every look at once."""
    refuse_at(line, "ddl_command_end", "login")
    line.server.run_sql(f"ALTER ROLE {SUPERUSER} SET statement_timeout = '1ms'")
    line.verify(line.full())
    wish = Wish(sources=(SOURCE,), scratch=line.place)
    record = RestoreTest(line.repository, wish, Run(command="lifeboat test"), "tester").carry_out()
    (proof,) = record.proofs
    assert [f"{check.name}: {check.what}" for check in proof.checks if not check.passed] == []
    assert record.passed, proof.error


def test_before_version_17_the_lost_system_s_event_triggers_are_disabled_one_by_one(
    make_line: Callable[..., Line], tmp_path: Path
) -> None:
    """The build of this version that is tested has no pg_amcheck: what comes before it is looked at."""
    line = make_line(major=16)
    refuse_at(line, "ddl_command_end")
    line.verify(line.full())
    enabled: list[tuple[Any, ...]] = []

    def look(opened: OpenServer) -> None:
        DatabaseChecks(tmp_path, [], Stopwatch(utc_now), lambda: None).look(opened)
        with opened.session("postgres") as session:
            enabled.extend(session.execute("SELECT evtname, evtenabled FROM pg_event_trigger").fetchall())

    restore(line.repository, line.plan(Latest()), line.request(), examine=look)
    assert enabled == [("at_ddl_command_end", "D")]


def test_postgresql_s_own_program_compares_a_full_with_tablespaces_before_a_server_begins_in_it(
    line: Line, tmp_path: Path
) -> None:
    space = server_directory(tmp_path / "space")
    try:
        line.server.run_sql(f"CREATE TABLESPACE far LOCATION '{space}'")
        line.server.run_sql("CREATE TABLE distant (n int) TABLESPACE far")
        line.server.run_sql("INSERT INTO distant SELECT generate_series(1, 1000)")
        line.verify(line.full())
        wish = Wish(sources=(SOURCE,), scratch=line.place)
        record = RestoreTest(line.repository, wish, Run(command="lifeboat test"), "tester").carry_out()
        (proof,) = record.proofs
        assert what_of(proof, "pg_verifybackup") == "PostgreSQL finds every file as its manifest has it"
        assert record.passed, proof
        assert "examine" not in proof.milliseconds
    finally:
        line.server.destroy()
        remove_server_directory(tmp_path / "space")


def test_a_file_that_is_not_as_the_manifest_has_it_is_found_by_postgresql_s_own_program(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours compares on the way to the disk: what befalls a file there is seen by nobody else."""
    line.verify(line.full())
    verified = PhysicalTest._verified

    def befall(self: PhysicalTest, programs: Path, data: Path, owner: Owner | None) -> tuple[bool, str]:
        (data / "postgresql.conf").write_text("# changed on the disk\n")
        return verified(self, programs, data, owner)

    monkeypatch.setattr(PhysicalTest, "_verified", befall)
    wish = Wish(sources=(SOURCE,), scratch=line.place)
    record = RestoreTest(line.repository, wish, Run(command="lifeboat test"), "tester").carry_out()
    (proof,) = record.proofs
    assert [name for name, passed in outcomes(proof).items() if not passed] == ["pg_verifybackup"]
    assert "postgresql.conf" in what_of(proof, "pg_verifybackup")
