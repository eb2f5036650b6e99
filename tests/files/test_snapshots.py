"""A snapshot is whole, stores only what is new, and says what it could not read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lifeboat.errors import SourceUnreadable
from lifeboat.files import reading as file_reading
from lifeboat.files.comparing import index_of
from lifeboat.files.entries import Entry
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from tests.files.conftest import FileSet, details

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="takes root")


def write(files: FileSet, path: str, content: bytes | str = b"some bytes") -> Path:
    file = files.tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def entries(files: FileSet, copy: Copy) -> dict[str, Entry]:
    with index_of(files.world.repository(), copy) as found:
        return {entry.path: entry for entry in found}


def test_a_tree_comes_back_as_it_was(files: FileSet) -> None:
    write(files, "invoices/2026/1.pdf", b"%PDF" * 5000)
    write(files, "invoices/2026/2.pdf", b"other")
    write(files, "empty", b"")
    (files.tree / "nothing in it").mkdir()
    write(files, "secret").chmod(0o600)
    write(files, "run me").chmod(0o6755)
    (files.tree / "invoices").chmod(0o1750)
    os.utime(files.tree / "invoices", ns=(1_700_000_000_123_456_789, 1_600_000_000_987_654_321))
    copy = files.snapshot()
    assert (details(copy).files, details(copy).folders) == (5, 4)
    files.comes_back_as_it_was(copy)
    files.verify(copy, deep=True)


def test_a_tree_of_hostile_names_and_types_comes_back_as_it_was(files: FileSet) -> None:
    names = [
        b"a\nnew line", b"tab\there", b" space ", b"-rf", b"*", b"a'b\"c", b"\xff\xfe not utf-8", "ünï\u202e".encode(),
        b".hidden", b"x" * 255, b"a\\b", b"#comment", b"!bang", b"[glob]?",
    ]  # fmt: skip
    for number, name in enumerate(map(os.fsdecode, names)):
        (files.tree / name).write_bytes(b"content %d" % number)
        folder = files.tree / f"folder {name[:240]}"
        folder.mkdir()
        (folder / name).write_bytes(os.fsencode(name))
    write(files, f"{'/'.join(['d' * 100] * 30)}/bottom")
    (files.tree / "dangling").symlink_to(os.fsdecode(b"\xff nowhere"))
    (files.tree / "absolute").symlink_to("/etc/passwd")
    (files.tree / "up").symlink_to("../../..")
    (files.tree / "to a folder").symlink_to("folder -rf")
    os.mkfifo(files.tree / "fifo", 0o640)
    first = write(files, "linked/first")
    os.link(first, files.tree / "linked" / "second")
    os.link(first, files.tree / "a third name")
    with (files.tree / "sparse").open("wb") as file:
        file.seek(300 * 1024 * 1024)
        file.write(b"end")
    for name in ("a", "a.b", "a-", "a0"):
        write(files, f"{name}/x", name)
    copy = files.snapshot()
    files.comes_back_as_it_was(copy)
    assert (files.back / "back" / "sparse").stat().st_blocks < 10_000
    same = {(files.back / "back" / name).stat().st_ino for name in ("linked/first", "linked/second", "a third name")}
    assert len(same) == 1
    files.verify(copy, deep=True)


@ROOT_ONLY
def test_owners_and_devices_come_back(files: FileSet) -> None:
    os.chown(write(files, "theirs"), 12345, 54321)
    os.chown(files.tree / "theirs", 12345, 54321)
    (files.tree / "theirs").chmod(0o4755)
    os.mknod(files.tree / "null", 0o020666, os.makedev(1, 3))
    files.comes_back_as_it_was(files.snapshot())


def test_extended_attributes_come_back(files: FileSet) -> None:
    file = write(files, "tagged")
    try:
        os.setxattr(file, "user.origin", b"\x00\xffscan")
    except OSError:
        pytest.fail("The test's directory lies on a file system without extended attributes.")
    restored = files.restore(files.snapshot())
    assert os.getxattr(restored.into / "tagged", "user.origin") == b"\x00\xffscan"


def test_a_socket_is_left_out_and_that_is_said(files: FileSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.tree)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a socket")
        copy = files.snapshot()
    assert list(entries(files, copy)) == ["."]
    assert "1 sockets are not in it" in copy.manifest.findings[0]


def test_what_did_not_change_is_not_read_again(files: FileSet, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write(files, f"{number}", f"content {number}")
    full = files.snapshot()
    opened: list[str] = []
    really = os.open

    def watched(path: object, *arguments: object, **named: object) -> int:
        if named.get("dir_fd") is not None and arguments and arguments[0] == file_reading._FLAGS:
            opened.append(str(path))
        return really(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", watched)
    write(files, "7", "changed")
    write(files, "new")
    incremental = files.snapshot(Tier.INCREMENTAL)
    assert sorted(name for name in opened if name.isdigit() or name == "new") == ["7", "new"]
    assert details(incremental).compared_with == full.manifest.recovery_point
    assert incremental.manifest.needs == (full.manifest.recovery_point,)
    assert (details(incremental).new_files, details(incremental).read_size) == (2, 17)
    files.comes_back_as_it_was(incremental)
    files.verify(incremental, deep=True)


def test_what_did_not_change_keeps_its_links_and_attributes(files: FileSet) -> None:
    first = write(files, "a", "the bytes")
    os.link(first, files.tree / "b")
    (files.tree / "link").symlink_to("a")
    write(files, "mine").chmod(0o604)
    files.snapshot()
    files.comes_back_as_it_was(files.snapshot(Tier.INCREMENTAL))
    (files.tree / "mine").chmod(0o640)
    files.comes_back_as_it_was(files.snapshot(Tier.INCREMENTAL), "again")


def test_a_full_reads_everything_and_finds_what_changed_behind_its_times(files: FileSet) -> None:
    file = write(files, "quietly", "before")
    write(files, "other", "stays")
    files.snapshot()
    times = file.stat()
    # An incremental trusts size, times and inode; a change that leaves all of them is a full's to find. The index can
    # be made to say that nothing changed by a change of ctime alone, which nobody can undo: so the full is shown to
    # read what the incremental passes over.
    full = files.snapshot(Tier.DAILY)
    assert details(full).read_size == 11
    assert details(full).new_files == 0
    assert details(files.snapshot(Tier.INCREMENTAL)).read_size == 0
    file.write_text("behind")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = files.snapshot(Tier.DAILY)
    assert details(found).new_files == 1
    files.comes_back_as_it_was(found)


def test_a_moved_or_doubled_file_is_not_stored_twice(files: FileSet) -> None:
    write(files, "a/report", b"r" * 10_000)
    large = os.urandom(6 * 1024 * 1024)
    write(files, "large", large)
    files.snapshot()
    (files.tree / "a" / "report").rename(files.tree / "0 moved")
    write(files, "z/double", b"r" * 10_000)
    write(files, "large too", large)
    moved = files.snapshot(Tier.INCREMENTAL)
    assert details(moved).new_files == 0
    assert moved.manifest.stored_size < 10_000
    files.comes_back_as_it_was(moved)
    files.verify(moved, deep=True)
    again = files.snapshot(Tier.DAILY)
    assert details(again).new_files == 0
    files.comes_back_as_it_was(again, "again")


def test_twins_within_one_snapshot_are_stored_once(files: FileSet) -> None:
    content = os.urandom(50_000)
    for name in ("one", "two", "three"):
        write(files, name, content)
    copy = files.snapshot()
    assert details(copy).new_files == 1
    files.comes_back_as_it_was(copy)


def test_a_snapshot_builds_on_one_that_was_verified_alone(files: FileSet) -> None:
    write(files, "a", "first")
    good = files.snapshot()
    write(files, "b", "second")
    files.snapshot(Tier.INCREMENTAL, verified=False)
    write(files, "c", "third")
    third = files.snapshot(Tier.INCREMENTAL)
    assert details(third).compared_with == good.manifest.recovery_point
    assert details(third).new_files == 2
    files.comes_back_as_it_was(third)


def test_where_nothing_is_verified_everything_is_stored_anew(files: FileSet) -> None:
    write(files, "a", "first")
    files.snapshot(verified=False)
    second = files.snapshot(Tier.INCREMENTAL)
    assert details(second).compared_with == ""
    assert second.manifest.needs == ()
    assert details(second).generation == second.manifest.recovery_point


def test_a_full_begins_a_new_generation_once_a_month(files: FileSet) -> None:
    write(files, "a", "first")
    first = files.snapshot()
    files.world.clock.advance(days=29)
    same = files.snapshot()
    assert details(same).generation == first.manifest.recovery_point
    assert same.manifest.needs == (first.manifest.recovery_point,)
    files.world.clock.advance(days=2)
    incremental = files.snapshot(Tier.INCREMENTAL)
    assert details(incremental).generation == first.manifest.recovery_point
    anew = files.snapshot()
    assert anew.manifest.needs == ()
    assert details(anew).new_files == 1


def test_a_file_that_may_not_be_read_is_told_fails_the_run_and_is_not_taken_for_stored(
    files: FileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything: the refusal of the kernel is made up."""
    write(files, "open", "yes")
    write(files, "closed", "no")
    really = os.open

    def refusing(path: object, *arguments: object, **named: object) -> int:
        if path == "closed":
            raise PermissionError(13, "Permission denied")
        return really(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    done = files.take()
    assert "1 paths could not be read" in done.alarm
    assert "closed can't be read: Permission denied" in done.alarm
    (copy,) = done.copies
    assert details(copy).partial
    assert entries(files, copy)["closed"].missing
    monkeypatch.undo()
    files.verify(copy, deep=True)
    restored = files.restore(copy)
    assert restored.missing == ["closed"]
    assert sorted(path.name for path in restored.into.iterdir()) == ["open"]
    assert not details(files.snapshot(Tier.INCREMENTAL)).partial


def test_a_file_that_changes_while_it_is_read_is_read_again(files: FileSet, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(files, "busy", b"x" * 100)
    really = os.read
    times = iter([1])

    def meddling(descriptor: int, size: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "busy" and next(times, None):
            file.write_bytes(b"y" * 150)
        return really(descriptor, size)

    monkeypatch.setattr(os, "read", meddling)
    copy = files.snapshot()
    monkeypatch.undo()
    assert copy.manifest.findings == ()
    files.comes_back_as_it_was(copy)


@pytest.mark.parametrize("size", [100, 6 * 1024 * 1024], ids=["small", "large"])
@pytest.mark.parametrize("growth", [5, -5])
def test_a_file_that_never_stops_changing_is_stored_and_told_and_read_again_by_the_next_snapshot(
    files: FileSet, monkeypatch: pytest.MonkeyPatch, size: int, growth: int
) -> None:
    file = write(files, "busy", b"x" * size)
    write(files, "calm", "as ever")
    really = os.read

    def meddling(descriptor: int, wanted: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == "busy":
            os.truncate(file, file.stat().st_size + growth)
        return really(descriptor, wanted)

    monkeypatch.setattr(os, "read", meddling)
    copy = files.snapshot()
    monkeypatch.undo()
    assert "Changed while they were read, at both tries: busy." in copy.manifest.findings[0]
    files.verify(copy, deep=True)
    restored = files.restore(copy)
    assert (restored.into / "busy").stat().st_size == entries(files, copy)["busy"].size
    after = files.snapshot(Tier.INCREMENTAL)
    assert details(after).read_size == file.stat().st_size
    files.comes_back_as_it_was(after, "after")


def test_a_file_that_vanishes_before_it_is_read_is_counted(files: FileSet, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(files, "brief")
    write(files, "lasting")
    really = os.open

    def vanishing(path: object, *arguments: object, **named: object) -> int:
        if path == "brief":
            file.unlink(missing_ok=True)
        return really(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", vanishing)
    copy = files.snapshot()
    assert details(copy).vanished == 1
    assert "1 paths were gone before they could be read" in copy.manifest.findings[0]
    assert list(entries(files, copy)) == [".", "lasting"]


def test_a_link_that_takes_a_folders_place_is_not_followed(files: FileSet, monkeypatch: pytest.MonkeyPatch) -> None:
    write(files, "folder/file")
    outside = files.back / "outside"
    outside.mkdir()
    (outside / "file").write_text("not ours")
    really = os.open

    def swapping(path: object, *arguments: object, **named: object) -> int:
        if path == "folder" and (files.tree / "folder").is_dir() and not (files.tree / "folder").is_symlink():
            (files.tree / "folder").rename(files.back / "away")
            (files.tree / "folder").symlink_to(outside)
        return really(path, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swapping)
    copy = files.snapshot()
    assert list(entries(files, copy)) == [".", "folder"]


def test_a_directory_that_is_not_there_is_an_error_with_a_way_out(files: FileSet) -> None:
    files.tree.rmdir()
    with pytest.raises(SourceUnreadable, match="can't be read") as caught:
        files.take()
    assert "mounted" in caught.value.remedy


@pytest.mark.parametrize(("left", "told"), [(0, True), (9, True), (10, False)])
def test_a_set_of_which_most_is_gone_is_kept_and_told(files: FileSet, left: int, told: bool) -> None:
    made = [write(files, f"{number:02d}", f"{number}") for number in range(20)]
    files.snapshot()
    for file in made[left:]:
        file.unlink()
    done = files.take(Tier.INCREMENTAL)
    assert (f"The set has {left} files, and had 20" in done.alarm) is told
    assert len(done.copies) == 1


def test_patterns_choose_what_belongs_to_the_set(files: FileSet) -> None:
    for path in ("a/keep.txt", "a/drop.tmp", "cache/x", "b/deep/cache/y", "b/keep.txt"):
        write(files, path)
    files.world = files.world.bent("    queue: here\n", '    queue: here\n    exclude: ["*.tmp", "cache/"]\n')
    copy = files.snapshot()
    assert list(entries(files, copy)) == [".", "a", "a/keep.txt", "b", "b/deep", "b/keep.txt"]


def test_many_packs_are_filled_and_a_file_comes_back_from_the_one_that_has_it(
    files: FileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifeboat.files.packing.PACK_BYTES", 200_000)
    for number in range(40):
        write(files, f"{number:02d}", os.urandom(30_000))
    copy = files.snapshot()
    assert len(copy.manifest.streams) == 7
    files.comes_back_as_it_was(copy)
    restored = files.restore(copy, "3?", name="some")
    assert sorted(path.name for path in restored.into.iterdir()) == [f"3{number}" for number in range(10)]


def test_a_hundred_thousand_files_in_one_directory(files: FileSet) -> None:
    for number in range(100_000):
        os.close(os.open(files.tree / f"{number:06d}", os.O_CREAT | os.O_WRONLY))
    copy = files.snapshot()
    assert details(copy).files == 100_000
    assert details(files.snapshot(Tier.INCREMENTAL)).files == 100_000
