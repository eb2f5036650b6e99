"""The restore test at the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lifeboat.recovery.evidence import Record
from lifeboat.recovery.keeping import read_evidence
from tests.cli.test_files import Desk
from tests.files.conftest import FILES, FileSet, demo_system, files, make_world, moto, own_rclone, rclone
from tests.files.test_snapshots import write

__all__ = ["demo_system", "files", "make_world", "moto", "own_rclone", "rclone"]


@pytest.fixture
def desk(files: FileSet, capsys: pytest.CaptureFixture[str]) -> Desk:
    """A person whose files are on every target."""
    write(files, "invoices/1.pdf", "first")
    desk = Desk(files, capsys)
    told = desk.say("backup", "demo", FILES, "--tier", "daily")
    assert told.code == 0, told.err
    return desk


def test_a_test_that_passes_says_so_and_what_was_looked_at(desk: Desk) -> None:
    told = desk.say("test", "demo", FILES, "--reason", "before the audit")
    assert told.code == 0, told.out + told.err
    assert "demo comes back: 1 recovery point restored and looked at." in told.out
    assert "1, each compared with its digest" in told.out
    told = desk.say("test", "demo", FILES, "--json")
    assert told.code == 0
    assert told.json["passed"] is True
    assert [proof["passed"] for proof in told.json["proofs"]] == [True]
    assert told.json["id"].endswith(told.json["mark"])
    assert [event["kind"] for event in desk.say("journal", "show", "demo", "--json").json["events"]].count(
        "evidence_recorded"
    ) == 2


def test_a_test_that_fails_says_so_first_and_ends_with_one(desk: Desk) -> None:
    for pack in desk.files.world.roots["primary"].rglob("pack-00001.tar*"):
        pack.chmod(0o600)
        pack.write_bytes(b"not what was written")
    told = desk.say("test", "demo", FILES, "--target", "primary")
    assert told.code == 1
    assert "The restore test of demo FAILED." in told.err
    assert "did not come back" in told.err
    assert desk.say("test", "demo", FILES, "--target", "offsite").code == 0


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["nothing"], "has no source 'nothing'"),
        (["--target", "moon"], "has no target 'moon'"),
        (["--checks", "/nowhere"], "/nowhere is no directory of checks"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_restored(desk: Desk, words: list[str], what: str) -> None:
    told = desk.say("test", "demo", *words)
    assert told.code == 1
    assert what in told.err


def test_a_check_of_a_source_that_is_not_there_is_refused(desk: Desk) -> None:
    folder = desk.files.back / "checks"
    folder.mkdir()
    (folder / "a.sql").write_text("-- source: moon\n-- database: erp\n-- expect: no rows\nSELECT 1")
    told = desk.say("test", "demo", "--checks", str(folder))
    assert told.code == 1
    assert "The check a.sql asks moon" in told.err


def test_a_restore_is_evidence_too_and_the_next_plan_says_how_long_it_took(desk: Desk) -> None:
    plan = desk.say("restore", "demo", FILES, "--into", str(desk.files.back / "one"), "--plan", "--json").json
    assert plan["estimated_seconds"] is None
    assert desk.say("restore", "demo", FILES, "--into", str(desk.files.back / "one"), "--yes").code == 0
    repository = desk.files.world.repository()
    for target in ("primary", "offsite", "local"):
        (found,) = read_evidence(
            repository.target(target), "demo", repository.trusted,
            since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC),
        )  # fmt: skip
        assert isinstance(found, Record)
        assert (found.kind, found.passed, found.proofs[0].chosen) == ("restore", True, "asked")
        assert found.proofs[0].size == len("first")
    told = desk.say("restore", "demo", FILES, "--into", str(desk.files.back / "two"), "--plan")
    assert "as the restore before" in told.out


def test_a_restore_that_failed_is_evidence_and_says_why(desk: Desk) -> None:
    for pack in desk.files.world.roots["primary"].rglob("pack-00001.tar*"):
        pack.chmod(0o600)
        pack.write_bytes(b"not what was written")
    into = str(desk.files.back / "one")
    assert desk.say("restore", "demo", FILES, "--into", into, "--target", "primary", "--yes").code == 1
    repository = desk.files.world.repository()
    (found,) = read_evidence(
        repository.target("primary"), "demo", repository.trusted,
        since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    assert isinstance(found, Record)
    assert not found.passed
    assert found.proofs[0].error
    assert found.proofs[0].remedy


def test_the_report_of_a_test_says_what_failed_and_what_is_to_be_done(desk: Desk) -> None:
    nothing = desk.say("report", "test", "demo")
    assert nothing.code == 1
    assert "Nothing was tested" in nothing.err
    good = desk.say("test", "demo", FILES, "--target", "offsite", "--json").json["id"]
    for pack in desk.files.world.roots["primary"].rglob("pack-00001.tar*"):
        pack.chmod(0o600)
        pack.write_bytes(b"not what was written")
    bad = desk.say("test", "demo", FILES, "--target", "primary", "--json").json["id"]
    told = desk.say("report", "test", "demo")
    assert told.code == 0
    assert "FAILED" in told.out.splitlines()[0]
    assert bad in told.out
    assert good in desk.say("report", "test", "demo", "--record", good).out
    assert "There is no record nobody" in desk.say("report", "test", "demo", "--record", "nobody").err


def test_the_report_is_written_as_markdown_and_as_a_page_and_nothing_is_overwritten(desk: Desk) -> None:
    record = desk.say("test", "demo", FILES, "--json").json["id"]
    into = desk.files.back / "reports"
    told = desk.say("report", "test", "demo", "--into", str(into), "--json")
    assert told.json["files"] == [str(into / f"{record}.md"), str(into / f"{record}.html")]
    assert (into / f"{record}.md").read_text().startswith("#")
    assert (into / f"{record}.html").read_text().startswith("<!DOCTYPE html>")
    again = desk.say("report", "test", "demo", "--into", str(into))
    assert again.code == 1
    assert "is there already" in again.err
