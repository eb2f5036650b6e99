"""Git repositories at the command line: backed up, listed, verified, brought back, and pushed to a new server."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lifeboat.cli.program import run
from tests.cli.conftest import Said
from tests.code.conftest import CODE, CodeSet, Origin, code, demo_system, git, ids, make_world, moto, own_rclone, rclone

__all__ = ["code", "demo_system", "make_world", "moto", "own_rclone", "rclone"]


class Desk:
    """A person at a command line."""

    def __init__(self, code: CodeSet, capsys: pytest.CaptureFixture[str]) -> None:
        self.code = code
        self._capsys = capsys

    def say(self, *words: str) -> Said:
        self._capsys.readouterr()
        status = run(["--policies", str(self.code.world.policy.parent), *words])
        return Said(status, *self._capsys.readouterr())


@pytest.fixture
def desk(code: CodeSet, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(code, capsys)


def test_repositories_are_backed_up_listed_verified_and_brought_back(desk: Desk, tmp_path: Path) -> None:
    two = Origin.make(desk.code.origins / "two.git")
    two.commit()
    first = desk.code.one.commit()
    desk.code.protect(desk.code.one.url, two.url)
    assert desk.say("preflight", "demo", CODE).code == 0
    told = desk.say("backup", "demo", CODE, "--tier", "daily")
    assert told.code == 0, told.err
    assert "2 repositories with 2 refs" in told.out + told.err
    desk.code.one.commit()
    assert desk.say("backup", "demo", CODE, "--tier", "daily").code == 0
    points = desk.say("list", "demo", CODE, "--json").json["sources"][0]["recovery_points"]
    assert all({copy["target"] for copy in point["copies"]} == {"primary", "offsite", "local"} for point in points)
    assert points[1]["needs"] == [points[0]["id"]]
    assert desk.say("verify", "demo", CODE, "--deep").code == 0
    into = desk.code.back / "now"
    told = desk.say("restore", "demo", CODE, "--into", str(into), "--yes", "--json")
    assert told.code == 0, told.err
    assert [one["name"] for one in told.json["restored"]] == ["erp", "two"]
    assert ids(into / "erp.git") == desk.code.one.ids()
    before = desk.code.back / "before"
    told = desk.say(
        "restore", "demo", CODE, "--into", str(before), "--recovery-point", points[0]["id"], "--only", "erp", "--yes",
        "--target", "offsite",
    )  # fmt: skip
    assert told.code == 0, told.err
    assert [path.name for path in before.iterdir()] == ["erp.git"]
    assert ids(before / "erp.git")["refs/heads/main"] == first
    # The next step that is printed works as it is written, but for the server's name.
    (step,) = [line for line in told.out.splitlines() if "push --mirror" in line]
    words = shlex.split(step)
    server = Origin.make(tmp_path / "new.git")
    assert words[0] == "git"
    git(*words[1:-1], server.url)
    assert server.ids() == ids(before / "erp.git")


def test_a_rewritten_history_fails_the_command_and_says_where_the_old_one_is(desk: Desk) -> None:
    root = desk.code.one.commit()
    desk.code.one.commit()
    assert desk.say("backup", "demo", CODE, "--tier", "daily").code == 0
    desk.code.one.commit("refs/heads/main", root)
    told = desk.say("backup", "demo", CODE, "--tier", "daily")
    assert told.code == 1
    assert "refs/heads/main was force-pushed" in told.err
    assert "is kept in" in told.err
    assert len(desk.say("list", "demo", CODE, "--json").json["sources"][0]["recovery_points"]) == 2


def test_a_plan_says_what_would_come_back_and_what_stands_in_the_way(desk: Desk) -> None:
    desk.code.one.commit()
    desk.say("backup", "demo", CODE, "--tier", "daily")
    told = desk.say("restore", "demo", CODE, "--into", str(desk.code.back / "new"), "--plan")
    assert (told.code, "erp" in told.out) == (0, True)
    assert not (desk.code.back / "new").exists()
    (desk.code.back / "used").mkdir()
    (desk.code.back / "used" / "file").touch()
    told = desk.say("restore", "demo", CODE, "--into", str(desk.code.back / "used"), "--plan", "--json")
    assert told.code == 1
    assert "not empty" in told.json["obstacles"][0]
    assert told.json["repositories"][0]["name"] == "erp"
    told = desk.say("restore", "demo", CODE, "--into", str(desk.code.back / "used"), "--yes")
    assert (told.code, "not empty" in told.err) == (1, True)
    told = desk.say("restore", "demo", CODE, "--into", str(desk.code.back / "new"), "--only", "none", "--yes")
    assert "There is no repository none in it" in told.err
    assert "where to" in desk.say("restore", "demo", CODE, "--yes").err
    assert "no database" in desk.say("restore", "demo", CODE, "--into", "/x", "--lsn", "0/1", "--yes").err


def test_preflight_names_every_origin_and_mirror_that_is_away(desk: Desk) -> None:
    desk.code.one.commit()
    desk.code.protect(desk.code.one.url, f"file://{desk.code.origins}/gone.git", mirror="file:///nowhere")
    told = desk.say("preflight", "demo", CODE)
    assert told.code == 0
    assert "gone can't be read" in told.out + told.err
    assert "The mirror of erp can't be reached" in told.out + told.err
    desk.code.protect(allowed_signers="/nowhere/signers")
    told = desk.say("preflight", "demo", CODE)
    assert (told.code, "/nowhere/signers can't be read" in told.out + told.err) == (1, True)
    desk.code.protect(f"file://{desk.code.origins}/gone.git")
    told = desk.say("preflight", "demo", CODE)
    assert told.code == 1


def test_what_changed_between_two_recovery_points_is_named_by_ref(desk: Desk) -> None:
    old = desk.code.one.commit()
    desk.say("backup", "demo", CODE, "--tier", "daily")
    new = desk.code.one.commit()
    git("--git-dir", desk.code.one.path, "tag", "v2", new)
    desk.say("backup", "demo", CODE, "--tier", "daily")
    points = [point["id"] for point in desk.say("list", "demo", CODE, "--json").json["sources"][0]["recovery_points"]]
    changes = desk.say("list", "demo", CODE, "--diff", *points, "--json").json["changes"]
    assert changes == [
        {
            "name": "erp refs/heads/main",
            "kind": "ref",
            "change": "changed",
            "what": [f"from {old[:12]}", f"to {new[:12]}"],
        },
        {"name": "erp refs/tags/v2", "kind": "ref", "change": "added", "what": []},
    ]
