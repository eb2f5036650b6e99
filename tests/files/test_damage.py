"""What was damaged, exchanged or replayed is found, and nothing of it comes back; a wrong clock is named."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import AlreadyCommitted, LifeboatError, NotEnoughDisk, RepositoryError
from lifeboat.files import snapshot, writing
from lifeboat.policy.naming import Tier
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import Work
from lifeboat.streams.key_making import new_local_key, write_secret
from tests.files.conftest import FILES, FileSet, details
from tests.files.test_restoring import nothing_is_left
from tests.files.test_snapshots import write
from tests.object_damage import DAMAGES, Damage, rewrite


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_any_damage_to_any_object_is_found_and_nothing_is_restored(files: FileSet, damage: Damage) -> None:
    write(files, "a", os.urandom(100_000))
    copy = files.snapshot()
    folder = files.world.roots["primary"] / copy.manifest.folder.attempt(copy.manifest.attempt)
    objects = [volume.file for stream in copy.manifest.streams for volume in stream.volumes]
    assert len(objects) == 2
    for place, name in enumerate(objects):
        path, beside = folder / name, folder / objects[1 - place]
        good = path.read_bytes()
        damage(path, beside)
        for deep in (False, True):
            with pytest.raises(LifeboatError):
                files.verify(copy, deep=deep)
        with pytest.raises(LifeboatError):
            files.restore(copy)
        nothing_is_left(files)
        path.unlink(missing_ok=True)
        path.write_bytes(good)
    files.verify(copy, deep=True)
    files.comes_back_as_it_was(copy)


def test_another_key_opens_nothing(files: FileSet, tmp_path: Path) -> None:
    write(files, "a")
    copy = files.snapshot()
    key = next(Path(word) for word in files.world.policy.read_text().split() if word.endswith("local.key"))
    write_secret(tmp_path / "another.key", new_local_key())
    own, files.world = files.world, files.world.bent(str(key), str(tmp_path / "another.key"))
    with pytest.raises(LifeboatError):
        files.restore(copy)
    nothing_is_left(files)
    files.world = own
    files.comes_back_as_it_was(copy)


def test_an_older_manifest_in_a_newer_ones_place_shows_and_nothing_builds_upon_it(files: FileSet) -> None:
    write(files, "a")
    older, newer = files.snapshot(), files.snapshot()
    root = files.world.roots["primary"]
    rewrite(root / newer.manifest.folder.manifest, lambda _: (root / older.manifest.folder.manifest).read_bytes())
    catalogue = files.world.repository().catalogue("primary")
    with pytest.raises(LifeboatError, match="belongs to"):
        catalogue.read(newer.manifest.folder)
    assert [bad.folder for bad in catalogue.recovery_points(FILES).unreadable] == [newer.manifest.folder]
    (copy,) = files.take().copies
    assert details(copy).compared_with == older.manifest.recovery_point


def test_a_clock_that_is_far_behind_is_named(files: FileSet) -> None:
    write(files, "a")
    files.snapshot()
    files.world.clock.advance(days=-2)
    with pytest.raises(RepositoryError, match="Set the clock right"):
        files.take()


def test_of_two_tries_at_once_one_is_committed_whole(files: FileSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was thought dead, and its successor on another machine: no lock is between them."""
    write(files, "a", os.urandom(50_000))
    begun, run = files.world.clock(), Run(command="a test")
    late, successor = (
        Work.new("full", begun=begun, tiers=("daily",), run=run, actor="a test", mark="abcd", attempt=number)
        for number in (1, 2)
    )
    left = [successor]
    really = snapshot.gathering

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        if left:
            files.take(Tier.DAILY, work=left.pop())
        return really(*arguments, **named)

    monkeypatch.setattr(snapshot, "gathering", meanwhile)
    monkeypatch.setattr(snapshot, "alone_on_this_machine", lambda *_: nullcontext())
    with pytest.raises(AlreadyCommitted):
        files.take(Tier.DAILY, work=late)
    [copy] = files.world.repository().catalogue("primary").recovery_points(FILES).copies
    assert copy.manifest.attempt == successor.attempt
    files.verify(copy, deep=True)
    files.comes_back_as_it_was(copy)


@pytest.mark.parametrize("size", [1_000, 2 * writing.SMALL], ids=["written by a thread", "written by its reader"])
def test_a_restore_for_which_there_is_no_room_leaves_nothing(
    files: FileSet, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The disk's refusal is made up: a full one that an ordinary user may make is not everywhere to be had."""
    for number in range(40):
        write(files, f"{number}", os.urandom(1_000))
    write(files, "last", b"canary" + os.urandom(size))
    copy = files.snapshot()
    really = os.write

    def full(descriptor: int, data: Any) -> int:
        if bytes(data[:6]) == b"canary":
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotEnoughDisk, match="no room for the files"):
        files.restore(copy)
    nothing_is_left(files)
