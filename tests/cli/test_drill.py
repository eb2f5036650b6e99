"""The drill at the command line."""

from __future__ import annotations

import pytest

from tests.cli.test_files import Desk
from tests.files.conftest import FILES, FileSet, demo_system, files, make_world, moto, own_rclone, rclone
from tests.files.test_snapshots import write

__all__ = ["demo_system", "files", "make_world", "moto", "own_rclone", "rclone"]


@pytest.fixture
def desk(files: FileSet, capsys: pytest.CaptureFixture[str]) -> Desk:
    """A person whose system is a set of files, on every target."""
    text = files.world.policy.read_text()
    files.world.policy.write_text(text[: text.index("  database:\n")] + text[text.index("\nalerts:\n") :])
    write(files, "invoices/1.pdf", "first")
    desk = Desk(files, capsys)
    told = desk.say("backup", "demo", FILES, "--tier", "daily")
    assert told.code == 0, told.err
    return desk


def damage(desk: Desk, *targets: str) -> None:
    for target in targets:
        for pack in desk.files.world.roots[target].rglob("pack-00001.tar*"):
            pack.chmod(0o600)
            pack.write_bytes(b"not what was written")


def test_a_drill_that_passes_says_so_with_each_step_and_what_it_measured(desk: Desk) -> None:
    told = desk.say("drill", "demo", "--scenario", "total_loss", "--reason", "before the audit")
    assert told.code == 0, told.out + told.err
    assert "The drill of demo passed: total loss of the system." in told.out
    for word in ("provision", "not practised", "measured RTO", "lost (RPO)", "nothing after the incident"):
        assert word in told.out
    told = desk.say("drill", "demo", "--scenario", "primary_lost", "--json")
    assert told.code == 0
    assert (told.json["kind"], told.json["passed"], told.json["drill"]["scenario"]) == ("drill", True, "primary_lost")
    # What anybody reads of it later says the same.
    report = desk.say("report", "test", "demo")
    assert "# Passed: drill of demo (primary target lost)" in report.out
    assert "## The drill" in report.out
    assert "Measured RTO" in report.out


def test_a_drill_that_fails_says_so_first_ends_with_one_and_is_kept(desk: Desk) -> None:
    damage(desk, "primary", "offsite", "local")
    told = desk.say("drill", "demo", "--scenario", "total_loss")
    assert told.code == 1
    assert "The drill of demo FAILED: total loss of the system." in told.err
    assert "did not come back" in told.err
    report = desk.say("report", "test", "demo")
    assert report.out.startswith("# FAILED: drill of demo (total loss of the system)")
    assert "Tried before it, in vain" in report.out


def test_a_drill_that_fell_back_says_what_did_not_come_back(desk: Desk) -> None:
    damage(desk, "primary")
    told = desk.say("drill", "demo", "--scenario", "total_loss")
    assert told.code == 0, told.err
    assert "fallen back" in told.out
    report = desk.say("report", "test", "demo")
    assert report.out.startswith("# Passed, but not by its first choice: drill of demo")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--scenario", "flood"], "There is no scenario 'flood'"),
        (["--scenario", "key_lost"], "the private half of the break-glass key is not at hand"),
        (["--incident", "soon"], "'soon' is not read as a moment"),
        (["--incident", "2100-01-01 00:00:00"], "has not happened yet"),
        (["--checks", "/nowhere"], "/nowhere is no directory of checks"),
    ],
)
def test_what_can_not_be_practised_is_said_before_anything_begins(desk: Desk, words: list[str], what: str) -> None:
    told = desk.say("drill", "demo", *words)
    assert told.code == 1
    assert what in told.err
    kinds = [event["kind"] for event in desk.say("journal", "show", "demo", "--json").json["events"]]
    assert "drill_begun" not in kinds
