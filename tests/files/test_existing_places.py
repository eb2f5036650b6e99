"""Files come back into a directory that is in use: when all are proven, or nothing there is touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from lifeboat.errors import DestinationInUse, LifeboatError
from lifeboat.repository.building import building_place
from tests.files.conftest import FileSet, listed
from tests.files.killed_work import merging_process, restore_process
from tests.files.test_restoring import names, objects
from tests.files.test_snapshots import write


@pytest.fixture
def live(files: FileSet) -> Path:
    """A directory with the set as it was, changed since: one file other, one gone, one new."""
    for path in ("a/one", "a/two", "b/three", "four"):
        write(files, path, f"{path} as it was")
    (files.tree / "link").symlink_to("four")
    place = files.back / "live"
    shutil.copytree(files.tree, place, symlinks=True)
    (place / "a" / "one").write_text("spoilt")
    (place / "b" / "three").unlink()
    (place / "b" / "new").write_text("stays")
    return place


def below(live: Path) -> list[bytes]:
    """What is in it; its own time changes with the hidden folder that comes and goes."""
    return [line for line in listed(live) if not line.startswith(b"\t")]


def test_files_of_the_snapshot_take_the_place_of_those_there_and_the_others_stay(files: FileSet, live: Path) -> None:
    (files.tree / "a").chmod(0o750)
    copy = files.snapshot()
    files.restore(copy, name="live", replace_files=True)
    assert live.stat().st_mtime_ns == files.tree.stat().st_mtime_ns
    assert (live / "b" / "new").read_text() == "stays"
    (live / "b" / "new").unlink()
    # With the file that stayed the time of its folder is gone.
    os.utime(live / "b", ns=((files.tree / "b").stat().st_mtime_ns,) * 2)
    same = subprocess.run(["diff", "-r", "--no-dereference", files.tree, live], capture_output=True, check=False)
    assert (same.returncode, listed(live)) == (0, listed(files.tree))


def test_a_part_replaces_that_part_alone_and_leaves_folders_as_they_are(files: FileSet, live: Path) -> None:
    copy = files.snapshot()
    (live / "a").chmod(0o711)
    (live / "four").write_text("newer")
    files.restore(copy, "a/one", name="live", replace_files=True)
    assert (live / "a" / "one").read_text() == "a/one as it was"
    assert (live / "four").read_text() == "newer"
    assert (live / "a").stat().st_mode & 0o777 == 0o711
    assert not (live / "b" / "three").exists()


def test_a_directory_in_use_is_refused_unless_it_is_asked_for(files: FileSet, live: Path) -> None:
    copy = files.snapshot()
    before = below(live)
    with pytest.raises(DestinationInUse):
        files.restore(copy, name="live")
    assert below(live) == before


@pytest.mark.parametrize("what", ["a file for a folder", "a folder for a file", "a link for a folder"])
def test_what_does_not_fit_is_named_and_nothing_is_touched(files: FileSet, live: Path, what: str) -> None:
    copy = files.snapshot()
    outside = files.back / "outside"
    outside.mkdir()
    if what == "a folder for a file":
        (live / "four").unlink()
        (live / "four").mkdir()
    else:
        shutil.rmtree(live / "a")
        (live / "a").write_text("") if what == "a file for a folder" else (live / "a").symlink_to(outside)
    before = below(live)
    with pytest.raises(DestinationInUse, match=r"does not fit into .*: (a|four) is (no|a) folder there"):
        files.restore(copy, name="live", replace_files=True)
    assert below(live) == before
    assert list(outside.iterdir()) == []


def test_a_damaged_pack_touches_nothing(files: FileSet, live: Path) -> None:
    copy = files.snapshot()
    damaged = objects(files, copy)["pack-00001"]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.chmod(0o600)
    damaged.write_bytes(data)
    before = below(live)
    with pytest.raises(LifeboatError):
        files.restore(copy, name="live", replace_files=True)
    assert below(live) == before


@pytest.mark.parametrize("renames", [1, 2])
def test_one_killed_with_9_among_its_renames_leaves_whole_files_and_the_next_one_ends_it(
    files: FileSet, live: Path, renames: int
) -> None:
    copy = files.snapshot()
    process = merging_process(files, copy.manifest.recovery_point, live, renames)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (live / "a" / "one").read_text() in ("spoilt", "a/one as it was")
    files.restore(copy, name="live", replace_files=True)
    assert names(live) == ["a/one", "a/two", "b/new", "b/three", "four", "link"]
    assert (live / "a" / "one").read_text() == "a/one as it was"


def test_what_a_killed_restore_left_goes_with_the_next_one(files: FileSet) -> None:
    for number in range(5):
        write(files, f"closed/{number}", os.urandom(50_000))
    (files.tree / "closed").chmod(0o555)
    copy = files.snapshot()
    process = restore_process(files, copy.manifest.recovery_point, files.back / "back", 100_000)
    process.start()
    process.join()
    [remains] = files.back.iterdir()
    assert remains.name.startswith(".back.lifeboat-")
    files.restore(copy)
    assert [path.name for path in files.back.iterdir()] == ["back"]
    (files.tree / "closed").chmod(0o755)
    (files.back / "back" / "closed").chmod(0o755)


def test_a_restore_that_is_under_way_is_no_remains(files: FileSet) -> None:
    with building_place(files.back, "back") as one, building_place(files.back, "back") as other:
        assert one.is_dir()
        assert other.is_dir()
    assert list(files.back.iterdir()) == []
