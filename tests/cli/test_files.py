"""A set of files at the command line: backed up, listed, its history, and what comes back of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.cli.program import run
from tests.cli.conftest import Said
from tests.files.conftest import FILES, FileSet, demo_system, files, make_world, moto, own_rclone, rclone
from tests.files.far_sets import far_set
from tests.files.test_snapshots import write
from tests.repository.world import World
from tests.targets.conftest import openssh, s3_place, sftp_place

__all__ = ["demo_system", "files", "make_world", "moto", "openssh", "own_rclone", "rclone"]


class Desk:
    """A person at a command line."""

    def __init__(self, files: FileSet, capsys: pytest.CaptureFixture[str]) -> None:
        self.files = files
        self._capsys = capsys

    def say(self, *words: str) -> Said:
        self._capsys.readouterr()
        code = run(["--policies", str(self.files.world.policy.parent), *words])
        return Said(code, *self._capsys.readouterr())


@pytest.fixture
def desk(files: FileSet, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(files, capsys)


def test_a_set_of_files_is_backed_up_listed_verified_and_brought_back(desk: Desk) -> None:
    write(desk.files, "invoices/1.pdf", "first")
    write(desk.files, "invoices/2.pdf", "second")
    told = desk.say("backup", "demo", FILES, "--tier", "daily")
    assert told.code == 0, told.err
    assert "2 files" in told.out + told.err
    write(desk.files, "invoices/1.pdf", "changed")
    told = desk.say("backup", "demo", FILES, "--tier", "incremental")
    assert told.code == 0, told.err
    points = desk.say("list", "demo", FILES, "--json").json["sources"][0]["recovery_points"]
    assert [point["kind"] for point in points] == ["full", "incremental"]
    assert all({copy["target"] for copy in point["copies"]} == {"primary", "offsite", "local"} for point in points)
    assert points[1]["needs"] == [points[0]["id"]]
    assert desk.say("verify", "demo", FILES, "--deep").code == 0
    into = desk.files.back / "now"
    told = desk.say("restore", "demo", FILES, "--into", str(into), "--yes", "--json")
    assert told.code == 0, told.err
    assert told.json["restored"]["files"] == 2
    assert (into / "invoices" / "1.pdf").read_text() == "changed"
    before = desk.files.back / "before"
    told = desk.say(
        "restore", "demo", FILES, "--into", str(before), "--recovery-point", points[0]["id"], "--only", "**/1.pdf",
        "--yes", "--target", "offsite",
    )  # fmt: skip
    assert told.code == 0, told.err
    assert [path.read_text() for path in before.rglob("*.pdf")] == ["first"]


@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_set_in_a_far_place_makes_the_same_way_there_and_back(
    request: pytest.FixtureRequest, make_world: Callable[..., World], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str,
) -> None:  # fmt: skip
    place = (
        s3_place("s3", request.getfixturevalue("rclone"))
        if kind == "s3"
        else sftp_place("sftp", request.getfixturevalue("openssh"))
    )
    url = place.policy["url"]
    monkeypatch.setenv("AIRFLOW_CONN_FAR", place.environment["AIRFLOW_CONN_STORE"])
    desk = Desk(far_set(make_world(), tmp_path / "restored", url, {}), capsys)
    place.plant("invoices/1.pdf", b"first")
    place.plant("invoices/2.pdf", b"second")
    assert desk.say("preflight", "demo", FILES, "--tier", "daily").code == 0
    assert desk.say("backup", "demo", FILES, "--tier", "daily").code == 0
    place.plant("invoices/1.pdf", b"changed!")
    told = desk.say("backup", "demo", FILES, "--tier", "incremental")
    assert told.code == 0, told.err
    assert "2 files" in told.out + told.err
    assert "1 new" in told.out + told.err
    versions = desk.say("list", "demo", FILES, "--history", "invoices/1.pdf", "--json").json["versions"]
    assert [one["size"] for one in versions] == [5, 8]
    assert desk.say("verify", "demo", FILES, "--deep").code == 0
    into = desk.files.back / "now"
    told = desk.say("restore", "demo", FILES, "--into", str(into), "--yes", "--json")
    assert (told.code, told.json["restored"]["files"]) == (0, 2), told.err
    assert [(into / "invoices" / name).read_text() for name in ("1.pdf", "2.pdf")] == ["changed!", "second"]
    again = desk.say("restore", "demo", FILES, "--into", str(into), "--yes")
    assert again.code == 1
    secret = "rclone-secret" if kind == "s3" else "PRIVATE KEY"
    assert not any(secret in text for text in (told.out, told.err, again.err))


def test_the_history_of_a_path_names_each_version_and_the_snapshots_that_hold_it(desk: Desk) -> None:
    file = write(desk.files, "report", "one")
    for content in ("one", "two", None):
        if content is None:
            file.unlink()
        elif content == "two":
            file.write_text("two!")
        assert desk.say("backup", "demo", FILES, "--tier", "daily").code == 0
    versions = desk.say("list", "demo", FILES, "--history", "report", "--json").json["versions"]
    assert [(one["there"], one["size"]) for one in versions] == [(True, 3), (True, 4), (False, None)]
    assert "not there" in desk.say("list", "demo", FILES, "--history", "/report").out
    assert "No snapshot of demo uploads holds nothing" in desk.say("list", "demo", FILES, "--history", "nothing").out
    assert "is no set of files" in desk.say("list", "demo", "database", "--history", "x").err


def test_a_plan_says_what_would_come_back_and_what_stands_in_the_way(desk: Desk) -> None:
    write(desk.files, "a")
    desk.say("backup", "demo", FILES, "--tier", "daily")
    told = desk.say("restore", "demo", FILES, "--into", str(desk.files.back / "new"), "--plan")
    assert (told.code, "1 of" in told.out) == (0, True)
    (desk.files.back / "in use").mkdir()
    (desk.files.back / "in use" / "mine").touch()
    told = desk.say("restore", "demo", FILES, "--into", str(desk.files.back / "in use"), "--plan", "--json")
    assert told.code == 1
    assert "is not empty" in told.json["obstacles"][0]


def test_what_a_database_takes_is_refused_for_files(desk: Desk) -> None:
    told = desk.say("restore", "demo", FILES, "--into", str(desk.files.back / "x"), "--lsn", "0/1", "--yes")
    assert told.code == 1
    assert "takes --into" in " ".join(told.err.split())
    assert "It is not said where to" in desk.say("restore", "demo", FILES, "--yes").err


def test_a_file_that_can_not_be_read_fails_the_backup_though_it_is_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(desk.files, "open")
    write(desk.files, "closed")
    import os

    really = os.open

    def refusing(path: object, *arguments: object, **named: object) -> int:
        if path == "closed":
            raise PermissionError(13, "Permission denied")
        return really(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    told = desk.say("backup", "demo", FILES, "--tier", "daily")
    assert told.code == 1
    assert "1 paths could not be read" in " ".join(told.err.split())
    points = desk.say("list", "demo", FILES, "--json").json["sources"][0]["recovery_points"]
    assert len(points) == 1


def test_a_diff_of_two_snapshots_names_paths_and_what_of_them_changed(desk: Desk) -> None:
    for path in ("a/gone", "a/same", "b/changed", "b/mode", "c"):
        write(desk.files, path, "one")
    assert desk.say("backup", "demo", FILES, "--tier", "daily").code == 0
    (desk.files.tree / "a" / "gone").unlink()
    write(desk.files, "b/changed", "another")
    (desk.files.tree / "b" / "mode").chmod(0o600)
    (desk.files.tree / "c").unlink()
    (desk.files.tree / "c").symlink_to("a")
    write(desk.files, "d/new", "new")
    assert desk.say("backup", "demo", FILES, "--tier", "incremental").code == 0
    points = [one["id"] for one in desk.say("list", "demo", FILES, "--json").json["sources"][0]["recovery_points"]]
    told = desk.say("list", "demo", FILES, "--diff", *points, "--json")
    found = [(one["name"], one["kind"], one["change"], one["what"]) for one in told.json["changes"]]
    assert found == [
        ("a/gone", "file", "removed", []),
        ("b/changed", "file", "changed", ["content", "size"]),
        ("b/mode", "file", "changed", ["mode"]),
        ("c", "link", "changed", ["type", "content", "mode", "link"]),
        ("d", "directory", "added", []),
        ("d/new", "file", "added", []),
    ]
    assert "Nothing changed" in desk.say("list", "demo", FILES, "--diff", points[0], points[0]).out
