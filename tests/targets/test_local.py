"""What only a directory as a target promises."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lifeboat.errors import ObjectExists, ObjectMissing, TargetError, TargetFull, TargetUnavailable
from lifeboat.targets.local import LocalTarget
from lifeboat.targets.local_places import Place, Tree
from lifeboat.targets.target import Readable
from tests.targets.bodies import MIB, Body


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_files_and_folders_are_for_their_owner_alone(root: Path) -> None:
    old = os.umask(0)
    try:
        LocalTarget("local", root).put("a/b/c", Body(10))
    finally:
        os.umask(old)
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in names(root)}
    assert modes == {"a": 0o700, "a/b": 0o700, "a/b/c": 0o600}


def test_an_upload_in_progress_is_in_the_folder_of_the_object_under_a_name_that_says_so(root: Path) -> None:
    target = LocalTarget("local", root)
    seen: list[str] = []

    def look() -> None:
        seen.extend(names(root))
        assert list(target.list("")) == []
        assert target.stat("a/object") is None

    target.put("a/object", Body(3 * MIB, at=2 * MIB, then=look))
    assert seen[0] == "a"
    assert seen[1].startswith("a/.lifeboat-upload-")
    assert seen[1].endswith("-object")
    assert names(root) == ["a", "a/object"]


def test_an_upload_that_is_still_written_to_is_not_abandoned(root: Path) -> None:
    target = LocalTarget("local", root)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)

    def clean() -> None:
        assert target.abandon_uploads("", older_than=hour_ago) == []

    assert target.put("a/object", Body(3 * MIB, at=2 * MIB, then=clean)) == 3 * MIB


def test_an_upload_whose_file_was_cleaned_away_fails_and_shows_nothing(root: Path) -> None:
    target = LocalTarget("local", root)

    def clean() -> None:
        assert target.abandon_uploads("", older_than=datetime.now(UTC) + timedelta(hours=1)) == ["a/object"]

    with pytest.raises(TargetError, match="writing a/object failed"):
        target.put("a/object", Body(3 * MIB, at=2 * MIB, then=clean))
    assert names(root) == []


# The marker


def test_a_path_without_its_marker_is_never_written_to_or_listed(root: Path) -> None:
    target = LocalTarget("local", root, marker="offsite-7")
    for use in (
        lambda: target.put("a", Body(1)),
        lambda: target.put_new("a", b"1"),
        lambda: target.read("a"),
        lambda: target.stat("a"),
        lambda: list(target.list("")),
        lambda: target.list_folders(""),
        lambda: target.delete("a"),
        lambda: target.conditional_writes,
        lambda: target.abandon_uploads("", older_than=datetime.now(UTC)),
    ):
        with pytest.raises(TargetUnavailable, match="nothing is mounted there") as caught:
            use()
        assert "lifeboat target mark" in caught.value.remedy
        assert f"echo offsite-7 > {root}/.lifeboat-target" in caught.value.remedy
    findings = target.check()
    assert [finding.severity for finding in findings] == ["error"]
    assert names(root) == []


def test_another_disk_at_the_path_is_not_written_to(root: Path) -> None:
    LocalTarget("local", root).mark("offsite-8")
    target = LocalTarget("local", root, marker="offsite-7")
    with pytest.raises(TargetUnavailable, match="'offsite-8', but the policy expects 'offsite-7'"):
        target.put("a", Body(1))


def test_a_disk_that_goes_away_between_two_objects_is_noticed(root: Path) -> None:
    LocalTarget("local", root).mark("offsite-7")
    target = LocalTarget("local", root, marker="offsite-7")
    target.put("a", Body(1))
    root.rename(root.parent / "unmounted")
    root.mkdir()
    with pytest.raises(TargetUnavailable):
        target.put("b", Body(1))


def test_a_marked_target_works_and_does_not_show_its_marker(root: Path) -> None:
    target = LocalTarget("local", root, marker="offsite-7")
    target.mark("offsite-7")
    target.put_new("a", b"1")
    assert [found.key for found in target.list("")] == ["a"]
    assert [finding.severity for finding in target.check()] == ["ok", "ok"]


def test_a_mark_is_made_once(root: Path) -> None:
    target = LocalTarget("local", root)
    target.mark("one")
    with pytest.raises(ObjectExists):
        target.mark("two")
    assert (root / ".lifeboat-target").read_text() == "one\n"
    with pytest.raises(TargetError, match="not one line"):
        LocalTarget("local", root).mark("a\nb")


# No room


def test_a_disk_that_fills_up_is_said_to_be_full_and_keeps_nothing_half_done(small_disk: Path) -> None:
    target = LocalTarget("local", small_disk)
    target.put("a/kept", Body(MIB))
    with pytest.raises(TargetFull, match="No space left on device") as caught:
        target.put("a/new/object", Body(50 * MIB))
    assert "Make room" in caught.value.remedy
    assert names(small_disk) == ["a", "a/kept"]
    assert any("are free" in finding.what for finding in target.check())


def test_a_limit_on_file_sizes_is_no_room_either(root: Path) -> None:
    script = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        from lifeboat.errors import TargetFull
        from lifeboat.targets.local import LocalTarget
        from tests.targets.bodies import MIB, Body

        resource.setrlimit(resource.RLIMIT_FSIZE, (4 * MIB, 4 * MIB))
        try:
            LocalTarget("local", Path(sys.argv[1])).put("a/object", Body(50 * MIB))
        except TargetFull as error:
            print(error)
        """
    )
    clone = Path(__file__).parent.parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{clone}:{clone / 'plugins'}"}
    ended = subprocess.run(
        [sys.executable, "-c", script, root], env=environment, capture_output=True, text=True, check=True
    )
    assert "File too large" in ended.stdout
    assert names(root) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4 * MIB


# Disposal


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 5, 40 * MIB + 1])
def test_what_is_disposed_of_is_overwritten_before_it_goes(root: Path, size: int) -> None:
    target = LocalTarget("local", root)
    target.put("a/object", Body(size))
    # Whoever has the file open still sees its blocks.
    with (root / "a/object").open("rb") as still:
        target.dispose("a/object")
        assert still.read() == bytes(size)
    assert names(root) == []


def test_a_file_with_a_second_name_is_somebody_elses_too_and_loses_only_this_one(root: Path, tmp_path: Path) -> None:
    target = LocalTarget("local", root)
    target.put("a/object", Body(1000))
    os.link(root / "a/object", tmp_path / "theirs")
    target.dispose("a/object")
    assert (tmp_path / "theirs").read_bytes() == Body(1000).read()
    assert names(root) == []


def test_a_disposal_that_is_cut_off_leaves_no_object_that_is_half_zeros(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = LocalTarget("local", root)
    target.put("a/object", Body(3 * MIB))
    write = os.write
    written = 0

    def dies(descriptor: int, data: bytes) -> int:
        nonlocal written
        written += write(descriptor, data)
        if written > MIB:
            raise KeyboardInterrupt
        return len(data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            target.dispose("a/object")
    assert target.stat("a/object") is None
    assert list(target.list("")) == []
    assert target.abandon_uploads("", older_than=datetime.now(UTC) + timedelta(hours=1)) == ["a/object"]
    assert names(root) == []


def test_a_link_in_place_of_an_object_is_not_disposed_of(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x")
    (root / "a").mkdir()
    (root / "a/link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TargetError, match="not an object"):
        LocalTarget("local", root).dispose("a/link")
    assert (tmp_path / "elsewhere").read_text() == "x"
    assert names(root) == ["a", "a/link"]


# What others put there


def test_links_on_the_way_are_refused_and_lead_nowhere(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (root / "erp").symlink_to(outside)
    target = LocalTarget("local", root)
    for use in (
        lambda: target.put("erp/new", Body(1)),
        lambda: target.put_new("erp/new", b"1"),
        lambda: target.read("erp/secret"),
        lambda: target.stat("erp/secret"),
        lambda: target.delete("erp/secret"),
        lambda: list(target.list("erp/")),
    ):
        with pytest.raises(TargetError, match="symbolic link"):
            use()
    assert names(outside) == ["secret"]
    assert list(target.list("")) == []
    assert target.list_folders("") == []


def test_a_link_in_place_of_an_object_is_never_listed_read_or_replaced(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x")
    (root / "a").mkdir()
    (root / "a/link").symlink_to(tmp_path / "elsewhere")
    (root / "a/dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / "a/pipe")
    target = LocalTarget("local", root)
    assert list(target.list("")) == []
    for key in ("a/link", "a/dangling", "a/pipe"):
        for use in (target.read, target.stat, target.delete, lambda key: target.put(key, Body(1))):
            with pytest.raises(TargetError, match="not an object"):
                use(key)
        with pytest.raises(ObjectExists):
            target.put_new(key, b"1")
    assert (tmp_path / "elsewhere").read_text() == "x"
    assert names(root) == ["a", "a/dangling", "a/link", "a/pipe"]


def test_a_file_where_a_folder_should_be_is_an_error(root: Path) -> None:
    (root / "erp").write_text("x")
    target = LocalTarget("local", root)
    with pytest.raises(TargetError, match="or a file, not a folder"):
        target.put("erp/object", Body(1))


def test_foreign_files_are_listed_like_objects_but_never_with_impossible_names(root: Path) -> None:
    (root / "README").write_text("x")
    (root / "bad\nname").write_text("x")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_text("x")
    (root / "lost+found").mkdir()
    (root / "lost+found/1").write_text("x")
    target = LocalTarget("local", root)
    assert [found.key for found in target.list("")] == ["README"]
    assert target.list_folders("") == []


def test_the_root_may_be_a_link_but_not_a_file(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    LocalTarget("local", tmp_path / "link").put_new("a", b"1")
    assert names(root) == ["a"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(TargetUnavailable):
        LocalTarget("local", tmp_path / "file").put_new("a", b"1")
    with pytest.raises(TargetError, match="not an absolute path"):
        LocalTarget("local", Path("relative"))


def test_the_root_stays_when_the_last_object_goes(root: Path) -> None:
    target = LocalTarget("local", root)
    target.put_new("a", b"1")
    target.delete("a")
    assert root.is_dir()


def test_two_writers_and_a_cleaner_of_one_folder_do_not_disturb_each_other(root: Path) -> None:
    target = LocalTarget("local", root)

    class Racing:
        """Deletes the neighbour, and with it the folder, while the object is being written."""

        def __init__(self) -> None:
            self._done = False

        def read(self, size: int = -1, /) -> bytes:
            if self._done:
                return b""
            self._done = True
            target.delete("a/b/neighbour")
            return b"whole"

    racing: Readable = Racing()
    target.put_new("a/b/neighbour", b"1")
    target.put("a/b/object", racing)
    assert [found.key for found in target.list("")] == ["a/b/object"]


def test_an_object_that_goes_between_the_look_and_its_opening_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = LocalTarget("local", root)
    target.put("a", Body(10))
    really = Tree.is_object

    def looked(tree: Tree, place: Place, key: str) -> bool:
        found = really(tree, place, key)
        (root / "a").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Tree, "is_object", looked)
    with pytest.raises(ObjectMissing):
        target.read("a")
