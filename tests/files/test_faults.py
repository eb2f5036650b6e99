"""Work on files that is cut off leaves nothing that looks whole, and can be done again; what is kept is restorable."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from lifeboat.errors import Cancelled, LifeboatError, RepositoryError, TargetError, TargetFull, TargetUnavailable
from lifeboat.files import packing
from lifeboat.files.kind import FilesKind
from lifeboat.files.packing import Packer
from lifeboat.files.snapshot import take_snapshot
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.naming import Tier
from lifeboat.repository.manifest import Run
from lifeboat.repository.retention.cleaning import Cleaned, Cleanup
from lifeboat.repository.retention.keeping import undo
from lifeboat.repository.retention.removing import remove_copy
from lifeboat.repository.system import Work
from lifeboat.targets.local import LocalTarget
from tests.files.conftest import FILES, FileSet
from tests.files.killed_work import restore_process, snapshot_process
from tests.files.test_snapshots import write


def shown(files: FileSet, target: str = "primary") -> list[str]:
    listing = files.world.repository().catalogue(target).recovery_points(FILES)
    assert listing.unreadable == ()
    return [copy.manifest.recovery_point for copy in listing.copies]


def test_a_snapshot_killed_with_9_at_any_step_commits_nothing_and_its_retry_has_the_same_id(
    files: FileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(files, f"{number}", os.urandom(50_000))
    for at in count(1):
        process = snapshot_process(files, "abcd", at)
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        points = shown(files)
        # The journal's last event is written after the commit: what is committed then is whole.
        if points:
            break
    assert at > 5
    [point] = shown(files)
    assert point.endswith("-full-abcd")
    [copy] = files.world.repository().catalogue("primary").recovery_points(FILES).copies
    files.verify(copy, deep=True)
    files.comes_back_as_it_was(copy)


@pytest.mark.parametrize("dies_after", [0, 100_000])
def test_a_restore_killed_with_9_leaves_nothing_in_the_place_and_can_be_run_again(
    files: FileSet, dies_after: int
) -> None:
    for number in range(5):
        write(files, f"{number}", os.urandom(50_000))
    copy = files.snapshot()
    process = restore_process(files, copy.manifest.recovery_point, files.back / "back", dies_after)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (files.back / "back").exists()
    files.comes_back_as_it_was(copy)


@pytest.mark.parametrize("failure", [TargetUnavailable("It is away."), TargetFull("It is full.")])
def test_a_target_that_fails_in_mid_snapshot_fails_it_and_commits_nothing(
    files: FileSet, failure: LifeboatError
) -> None:
    write(files, "a", os.urandom(3_000_000))
    repository = files.world.repository()
    target = repository.target("primary")
    put = target.put

    def failing(key: str, body: object, **more: object) -> int:
        if "pack" in key:
            body.read(100)  # type: ignore[attr-defined]
            raise failure
        return put(key, body, **more)  # type: ignore[arg-type]

    target.put = failing  # type: ignore[method-assign]
    with pytest.raises(type(failure)):
        files.take(Tier.DAILY, repository)
    assert shown(files) == []
    files.comes_back_as_it_was(files.snapshot())


@pytest.mark.parametrize("bytes_of_it", [100, 10_000_000])
def test_an_error_of_the_system_on_a_packs_way_is_no_fault_of_the_file_that_is_read(
    files: FileSet, bytes_of_it: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be named as unreadable, and a snapshot be committed whose index refers to a pack that is not there."""
    monkeypatch.setattr(packing, "PACK_BYTES", 1_000_000)
    for number in range(6):
        write(files, f"{number}", os.urandom(500_000))
    repository = files.world.repository()
    target = repository.target("primary")
    put = target.put

    def failing(key: str, body: object, **more: object) -> int:
        if "pack-00001" in key:
            body.read(bytes_of_it)  # type: ignore[attr-defined]
            raise OSError(5, "Input/output error")
        return put(key, body, **more)  # type: ignore[arg-type]

    target.put = failing  # type: ignore[method-assign]
    with pytest.raises(TargetError, match="pack-00001.tar could not be stored"):
        files.take(Tier.DAILY, repository)
    assert shown(files) == []
    files.comes_back_as_it_was(files.snapshot())


def test_a_snapshot_that_is_cancelled_ends_soon_and_commits_nothing(files: FileSet) -> None:
    write(files, "a", os.urandom(3_000_000))
    repository = files.world.repository()
    source = repository.policy.sources[FILES]
    assert isinstance(source, FilesSource)
    work = Work.new("full", begun=files.world.clock(), tiers=("daily",), run=Run(command="a test"), actor="a test")
    journal = repository.journal("primary", run="test", actor="a test")

    def told() -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        take_snapshot(repository, FILES, source, "full", work, journal, tick=told)
    assert shown(files) == []


def test_a_snapshot_whose_base_is_removed_while_it_is_taken_is_not_committed(
    files: FileSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(files, "a", "one")
    first = files.snapshot()
    write(files, "b", "two")
    finish = Packer.finish

    def meanwhile(packer: Packer) -> object:
        repository = files.world.repository()
        remove_copy(repository.catalogue("primary"), FILES, first.manifest.recovery_point, [""], lambda: None)
        return finish(packer)

    monkeypatch.setattr(Packer, "finish", meanwhile)
    with pytest.raises(RepositoryError, match=f"not on primary any more: {first.manifest.recovery_point}"):
        files.take(Tier.INCREMENTAL)
    assert shown(files) == []
    monkeypatch.undo()
    files.comes_back_as_it_was(files.snapshot(Tier.INCREMENTAL))


def test_a_snapshot_is_locked_with_all_that_is_its_own(files: FileSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is a directory, which locks nothing: what it is asked for is watched."""
    until = datetime(2027, 1, 1, tzinfo=UTC)
    asked: dict[str, object] = {}
    for name in ("put", "put_new"):
        really = getattr(LocalTarget, name)

        def watched(target: object, key: str, body: object, *, really: Any = really, **more: object) -> object:
            asked[key.rsplit("/", 1)[-1]] = more.get("retain_until")
            return really(target, key, body, **more)

        monkeypatch.setattr(LocalTarget, name, watched)
    write(files, "a", "one")
    repository = files.world.repository()
    source = repository.policy.sources[FILES]
    assert isinstance(source, FilesSource)
    work = Work.new("full", begun=files.world.clock(), tiers=("daily",), run=Run(command="a test"), actor="a test")
    journal = repository.journal("primary", run="test", actor="a test")
    take_snapshot(repository, FILES, source, "full", work, journal, retain_until=until)
    locked = {name for name, end in asked.items() if end == until}
    assert {name.split(".", 1)[0] for name in locked} == {"pack-00001", "index", "manifest"}
    assert {"manifest.json", "manifest.json.sig"} <= locked


def can_be_taken_back(files: FileSet) -> None:
    """For a week, on the primary target, although it is a directory."""
    marker = "    marker: demo-local\n"
    files.world = files.world.bent(f"{marker}  offsite", f"{marker}    undelete: 7d\n  offsite")


def clean(files: FileSet, target: str = "primary") -> Cleaned:
    repository = files.world.repository()
    return Cleanup(repository, FILES, FilesKind().roles(), target, "test", "a test").all()


def test_retention_keeps_what_a_kept_snapshot_refers_to_and_lets_the_rest_go(files: FileSet) -> None:
    files.world = files.world.bent(
        "    marker: demo-local\n  offsite", "    marker: demo-local\n    undelete: 7d\n  offsite"
    )
    write(files, "old", "stays for ever")
    write(files, "brief", "first")
    first = files.snapshot()
    write(files, "brief", "second, longer")
    second = files.snapshot(Tier.INCREMENTAL)
    write(files, "brief", "the third one")
    files.world.clock.advance(days=28)
    third = files.snapshot(Tier.INCREMENTAL)
    files.world.clock.advance(days=3)
    assert set(third.manifest.needs) == {first.manifest.recovery_point}
    # Both are past their thirty days; the third, which is not, refers to the first.
    done = clean(files)
    assert done.deleted.gone == (second.manifest.recovery_point,)
    files.comes_back_as_it_was(third)
    files.world.clock.advance(days=8)
    assert [one.recovery_point for one in clean(files).removed] == [second.manifest.recovery_point]
    files.verify(third, deep=True)


def test_a_held_snapshot_keeps_what_it_refers_to_and_a_deleted_one_comes_back_whole(files: FileSet) -> None:
    files.world = files.world.bent(
        "    marker: demo-local\n  offsite", "    marker: demo-local\n    undelete: 7d\n  offsite"
    )
    write(files, "a", "one")
    first = files.snapshot()
    write(files, "b", "two")
    second = files.snapshot(Tier.INCREMENTAL)
    files.world.clock.advance(days=31)
    newest = files.snapshot(Tier.DAILY)
    assert newest.manifest.needs == ()
    incremental = files.snapshot(Tier.INCREMENTAL)
    done = clean(files)
    assert sorted(done.deleted.gone) == sorted(copy.manifest.recovery_point for copy in (first, second))
    back = undo(files.world.repository(), FILES, [second.manifest.recovery_point], ["primary"], "needed", "a person")
    assert back
    files.world.clock.advance(hours=1)
    # What the second refers to comes back with it.
    clean(files)
    assert sorted(shown(files)) == sorted(copy.manifest.recovery_point for copy in (first, second, newest, incremental))
    files.world.clock.advance(days=8)
    clean(files)
    files.verify(second, deep=True)
    restored = files.restore(second)
    assert sorted(path.name for path in restored.into.iterdir()) == ["a", "b"]
