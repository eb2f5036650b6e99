"""What comes back is what was meant, lies where it was meant, and is whole or not there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lifeboat.errors import (
    DestinationInUse,
    ManifestInvalid,
    MomentUnreachable,
    ObjectDamaged,
    RecoveryPointMissing,
    RestoreError,
    VerificationFailed,
)
from lifeboat.files import restoring
from lifeboat.files.comparing import index_of
from lifeboat.files.entries import Entry, Place
from lifeboat.files.packing import Packer
from lifeboat.files.restoring import restore_files
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.snapshots import choose_snapshot, snapshots_of
from tests.files.conftest import FILES, FileSet, details
from tests.files.test_snapshots import write


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def nothing_is_left(files: FileSet) -> None:
    assert list(files.back.iterdir()) == []


def test_a_part_comes_back_with_the_folders_that_it_is_in(files: FileSet) -> None:
    for path in ("a/b/one.pdf", "a/b/two.txt", "a/c/three.pdf", "d/four.pdf"):
        write(files, path)
    (files.tree / "a").chmod(0o750)
    copy = files.snapshot()
    restored = files.restore(copy, "a/**/*.pdf")
    assert names(restored.into) == ["a/b/one.pdf", "a/c/three.pdf"]
    assert (restored.into / "a").stat().st_mode & 0o777 == 0o750
    assert restored.files == 2


def test_a_part_that_nothing_fits_is_an_error_and_leaves_nothing(files: FileSet) -> None:
    write(files, "a")
    copy = files.snapshot()
    with pytest.raises(RestoreError, match="Nothing in .* fits that"):
        files.restore(copy, "*.pdf")
    nothing_is_left(files)


def test_a_hard_link_comes_back_without_its_first_name(files: FileSet) -> None:
    first = write(files, "a/first", "the bytes")
    (files.tree / "b").mkdir()
    os.link(first, files.tree / "b" / "second")
    restored = files.restore(files.snapshot(), "b/")
    assert (restored.into / "b" / "second").read_text() == "the bytes"


def test_an_earlier_version_and_a_deleted_file_come_back_from_the_snapshot_that_has_them(files: FileSet) -> None:
    write(files, "report", "first")
    write(files, "gone", "was here")
    files.snapshot()
    write(files, "report", "second")
    (files.tree / "gone").unlink()
    files.snapshot(Tier.INCREMENTAL)
    listed = snapshots_of(files.world.repository().catalogue("primary"), FILES)
    chosen = choose_snapshot(listed, at=listed[0].manifest.moment, recovery_point=None, where="primary")
    restored = files.restore(chosen)
    assert [(restored.into / name).read_text() for name in ("report", "gone")] == ["first", "was here"]
    newest = files.restore(choose_snapshot(listed, at=None, recovery_point=None, where="primary"), name="new")
    assert names(newest.into) == ["report"]


def test_a_moment_before_the_first_snapshot_and_an_unknown_one_are_told(files: FileSet) -> None:
    write(files, "a")
    copy = files.snapshot()
    early = copy.manifest.moment.replace(year=2020)
    with pytest.raises(MomentUnreachable) as caught:
        choose_snapshot([copy], at=early, recovery_point=None, where="primary")
    assert copy.manifest.recovery_point in caught.value.remedy
    with pytest.raises(RecoveryPointMissing):
        choose_snapshot([copy], at=None, recovery_point="20200101T000000Z-full-0000", where="primary")
    with pytest.raises(MomentUnreachable, match="There is no snapshot on offsite"):
        choose_snapshot([], at=None, recovery_point=None, where="offsite")


def test_nothing_that_is_there_is_touched(files: FileSet) -> None:
    write(files, "a")
    copy = files.snapshot()
    (files.back / "back").mkdir()
    (files.back / "back" / "mine").write_text("mine")
    with pytest.raises(DestinationInUse, match="is not empty"):
        files.restore(copy)
    assert names(files.back) == ["back/mine"]
    (files.back / "file").write_text("a file")
    (files.back / "link").symlink_to(files.back / "back")
    for name in ("file", "link"):
        with pytest.raises(DestinationInUse, match="is no directory"):
            files.restore(copy, name=name)
    with pytest.raises(RestoreError, match="is not there"):
        files.restore(copy, name="no/such")


def test_an_empty_directory_is_filled(files: FileSet) -> None:
    write(files, "a")
    copy = files.snapshot()
    (files.back / "back").mkdir()
    files.comes_back_as_it_was(copy)


def forged(files: FileSet, copy: Copy, monkeypatch: pytest.MonkeyPatch, *others: Entry) -> None:
    """The snapshot as one whose index holds other entries: what no signature would let through."""
    from contextlib import contextmanager

    @contextmanager
    def index(*_: object, **__: object):  # type: ignore[no-untyped-def]
        root = Entry(".", "directory", 0o755, 0, 0, 0)
        yield iter([(entry, entry.to_line()) for entry in (root, *others)])

    monkeypatch.setattr(restoring, "entries_of", index)


@pytest.mark.parametrize("path", ["../out", "/etc/out", "a/../../out", "a//b", "./x", "", "a\0b"])
def test_a_path_that_leads_out_of_the_destination_is_no_path_of_an_index(path: str) -> None:
    line = Entry("x", "file", 0o644, 0, 0, 0).to_line().replace(b'"x"', __import__("json").dumps(path).encode())
    with pytest.raises(ValueError, match="relative path|leads out"):
        Entry.from_line(line)


def test_a_link_in_the_index_does_not_lead_a_file_out_of_the_destination(
    files: FileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(files, "a", "bytes")
    copy = files.snapshot()
    outside = files.back / "outside"
    outside.mkdir()
    whole = files.restore(copy, name="first")
    assert names(whole.into) == ["a"]
    pack, sha256 = "pack-00001.tar", "277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9"
    place = Place(pack, copy.manifest.recovery_point, "a")
    forged(
        files, copy, monkeypatch,
        Entry("door", "link", 0o777, 0, 0, 0, link=str(outside)),
        Entry("door/a", "file", 0o644, 0, 0, 0, size=5, sha256=sha256, place=place),
    )  # fmt: skip
    with pytest.raises(RestoreError):
        files.restore(copy)
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in files.back.iterdir()) == ["first", "outside"]


@pytest.mark.parametrize("size", [5, 300 * 1024], ids=["small", "large"])
@pytest.mark.parametrize("wrong", ["bytes", "member"])
def test_a_pack_that_holds_other_bytes_than_the_index_says_is_an_error_and_leaves_nothing(
    files: FileSet, monkeypatch: pytest.MonkeyPatch, size: int, wrong: str
) -> None:
    write(files, "a", "x" * size)
    write(files, "b", "y" * size)
    copy = files.snapshot()
    with index_of(files.world.repository(), copy) as found:
        told = {entry.path: entry for entry in found}
    a, b = told["a"], told["b"]
    assert b.place is not None
    b = replace(b, sha256=a.sha256) if wrong == "bytes" else replace(b, place=b.place._replace(member="elsewhere"))
    forged(files, copy, monkeypatch, a, b)
    with pytest.raises(ObjectDamaged, match="b is not in pack-00001.tar of .* as the index says"):
        files.restore(copy)
    nothing_is_left(files)


@pytest.mark.parametrize("sizes", [(5, 6), (5, 300 * 1024), (300 * 1024, 5)], ids=["small", "growing", "shrinking"])
@pytest.mark.parametrize("wanted", ["first", "second", "each"])
def test_of_two_members_of_one_name_each_path_gets_its_own_bytes(
    files: FileSet, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int], wanted: str
) -> None:
    """A file that changes while it is read stands in a pack twice."""
    put = Packer.put

    def under_one_name(packer: Packer, path: str, found: object, data: bytes) -> str:
        return put(packer, "busy", found, data)  # type: ignore[arg-type]

    monkeypatch.setattr(Packer, "put", under_one_name)
    first, second = "x" * sizes[0], "y" * sizes[1]
    write(files, "busy", first)
    write(files, "busy-again", second)
    copy = files.snapshot()
    monkeypatch.undo()
    with index_of(files.world.repository(), copy) as found:
        told = {entry.path: entry for entry in found}
    place = told["busy"].place
    assert place is not None
    entries = [told["busy"], replace(told["busy-again"], place=place._replace(member="busy"))]
    chosen = {"first": entries[:1], "second": entries[1:], "each": entries}[wanted]
    forged(files, copy, monkeypatch, *chosen)
    restored = files.restore(copy)
    expected = {"busy": first, "busy-again": second}
    assert {path.name: path.read_text() for path in restored.into.iterdir()} == {
        entry.path: expected[entry.path] for entry in chosen
    }
    assert (restored.files, restored.size) == (len(chosen), sum(entry.size for entry in chosen))


def objects(files: FileSet, copy: Copy, target: str = "primary") -> dict[str, Path]:
    folder = files.world.file(copy.manifest.folder.attempt(copy.manifest.attempt), target)
    return {path.name.split(".")[0]: path for path in folder.iterdir() if path.name.endswith(".enc")}


@pytest.mark.parametrize("what", ["pack-00001", "index"])
def test_a_flipped_byte_is_found_and_leaves_nothing(files: FileSet, what: str) -> None:
    write(files, "a", os.urandom(100_000))
    copy = files.snapshot()
    damaged = objects(files, copy)[what]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.chmod(0o600)
    damaged.write_bytes(data)
    with pytest.raises((ObjectDamaged, ManifestInvalid)):
        files.restore(copy)
    nothing_is_left(files)
    for deep in (False, True):
        with pytest.raises((ObjectDamaged, VerificationFailed)):
            files.verify(copy, deep=deep)


def test_a_pack_that_is_damaged_later_is_not_built_upon(files: FileSet) -> None:
    write(files, "a", os.urandom(10_000))
    first = files.snapshot()
    second = files.snapshot(Tier.INCREMENTAL)
    assert second.manifest.needs == (first.manifest.recovery_point,)
    objects(files, first)["pack-00001"].unlink()
    with pytest.raises(VerificationFailed):
        files.verify(first)
    third = files.snapshot(Tier.INCREMENTAL)
    assert third.manifest.needs == ()
    files.comes_back_as_it_was(third)


def test_another_target_gets_what_a_snapshot_refers_to_and_restores_it_alone(files: FileSet) -> None:
    write(files, "a", "first")
    first = files.snapshot()
    write(files, "b", "second")
    second = files.snapshot(Tier.INCREMENTAL)
    copies = files.copy(second)
    assert [copy.manifest.recovery_point for copy in copies][:2] == [
        first.manifest.recovery_point, second.manifest.recovery_point
    ]  # fmt: skip
    for path in sorted(files.world.roots["primary"].rglob("*.enc")):
        path.unlink()
    files.comes_back_as_it_was(replace(second, target="offsite"))
    files.verify(second, deep=True, target="offsite")


def test_the_index_is_what_the_manifest_says(files: FileSet) -> None:
    write(files, "a", "first")
    copy = files.snapshot()
    told = details(copy)
    lying = copy.manifest.model_copy(update={"details": told.model_dump(mode="json") | {"files": 2}})
    from lifeboat.files.verification import verify_snapshot

    with pytest.raises(VerificationFailed, match="has 1 files of 5 bytes, and its manifest says 2 of 5"):
        verify_snapshot(
            files.world.repository(), "primary", replace(copy, manifest=lying), passed=lambda _: None,
            tick=lambda: None,
        )  # fmt: skip


def test_a_restore_that_is_cancelled_leaves_nothing(files: FileSet) -> None:
    write(files, "a", os.urandom(100_000))
    copy = files.snapshot()

    class Enough(Exception):
        pass

    def stop(done: int, _total: int) -> None:
        if done:
            raise Enough

    with pytest.raises(Enough):
        restore_files(files.world.repository(), copy, files.back / "back", progress=stop)
    nothing_is_left(files)


def test_a_set_without_a_file_comes_back_as_a_directory_without_one(files: FileSet) -> None:
    copy = files.snapshot()
    restored = files.restore(copy)
    assert (restored.files, restored.folders) == (0, 0)
    assert list(restored.into.iterdir()) == []
