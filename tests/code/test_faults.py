"""Work that is cut off leaves nothing that looks whole, no process and no directory, and can be done again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat.code import snapshot
from lifeboat.code.kind import CodeKind
from lifeboat.code.scratch import scratch_directory
from lifeboat.errors import (
    AlreadyCommitted,
    Cancelled,
    LifeboatError,
    NotEnoughDisk,
    RepositoryError,
    TargetFull,
    TargetUnavailable,
)
from lifeboat.repository.manifest import Run
from lifeboat.repository.retention.cleaning import Cleaned, Cleanup
from lifeboat.repository.retention.keeping import hold, undo
from lifeboat.repository.retention.removing import remove_copy
from lifeboat.repository.system import Work
from lifeboat.streams.key_making import new_local_key, write_secret
from tests.code.conftest import CODE, CodeSet, ids
from tests.code.killed_work import restore_process, snapshot_process
from tests.code.servers import GitDaemon
from tests.object_damage import DAMAGES, rewrite


def noise(code: CodeSet, size: int = 3_000_000) -> None:
    code.one.commit(files={"noise": os.urandom(size)})


def test_a_run_killed_with_9_at_any_step_commits_nothing_and_its_retry_has_the_same_id(code: CodeSet) -> None:
    code.one.commit()
    for at in count(1):
        process = snapshot_process(code.world, "abcd", at)
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        # The journal's last event is written after the commit: what is committed then is whole.
        if code.shown():
            break
    assert at > 4
    [point] = code.shown()
    assert point.endswith("-full-abcd")
    [copy] = code.world.repository().catalogue("primary").recovery_points(CODE).copies
    code.verify(copy, deep=True)
    assert ids(code.restore(copy)["erp"].path) == code.one.ids()
    # What the killed ones left behind goes with the next one on this machine.
    with scratch_directory(code.scratch):
        assert len(list(code.scratch.iterdir())) == 1


def test_a_scratch_directory_in_which_somebody_works_is_left_alone(code: CodeSet) -> None:
    with scratch_directory(code.scratch) as one, scratch_directory(code.scratch) as two:
        assert one.path.stat().st_mode & 0o777 == 0o700
        assert one.path.exists()
        assert two.path.exists()
    forgotten = code.scratch / f".lifeboat-code-{os.getuid()}-abc"
    forgotten.mkdir()
    os.utime(forgotten, (0, 0))
    with scratch_directory(code.scratch):
        assert not forgotten.exists()
    with pytest.raises(NotEnoughDisk, match="Name one on a disk with room"), scratch_directory(Path("/proc/none")):
        pass


def test_a_restore_killed_with_9_leaves_nothing_in_the_place_and_can_be_run_again(code: CodeSet) -> None:
    noise(code)
    copy = code.snapshot()
    process = restore_process(code.world, copy.manifest.recovery_point, code.back / "back")
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (code.back / "back").exists()
    assert ids(code.restore(copy)["erp"].path) == code.one.ids()
    assert [path.name for path in code.back.iterdir()] == ["back"]


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []  # it has ended meanwhile


def children() -> list[psutil.Process]:
    """Every git that works for us; the server is another's child."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if any("git" in word for word in words_of(child)[:1]) and "git-daemon" not in words_of(child)[0]
    ]


@pytest.fixture
def silent(code: CodeSet) -> Iterator[GitDaemon]:
    """A server that takes connections and says nothing."""
    noise(code)
    with GitDaemon(code.origins, code.origins.parent / "daemon.log") as daemon:
        code.protect(daemon.url(code.one.path), git_protocol="true")
        daemon.freeze()
        yield daemon
        daemon.thaw()


def test_a_run_that_is_cancelled_while_a_server_is_silent_ends_soon_with_all_its_processes(
    code: CodeSet, silent: GitDaemon
) -> None:
    told = 0.0

    def tick() -> None:
        nonlocal told
        if children():
            told = time.monotonic()
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        code.take(tick=tick)
    # Three seconds are promised; more are what a machine may be busy with.
    assert time.monotonic() - told < 10
    assert children() == []
    assert list(code.scratch.iterdir()) == []
    assert code.shown() == []
    assert code.events("backup_failed") == []


@pytest.mark.parametrize("verb", ["pack-objects", "index-pack", "clone"])
def test_a_run_that_is_cancelled_in_any_child_leaves_none(
    code: CodeSet, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    noise(code)
    copy = code.snapshot() if verb == "index-pack" else None

    def tick() -> None:
        for child in children():
            if verb in words_of(child):
                raise Cancelled("stop")

    def work() -> None:
        if copy is None:
            code.take(tick=tick)
        else:
            repository = code.world.repository()
            CodeKind().verify_deep(repository, "primary", copy, passed=lambda _: None, tick=tick)

    with pytest.raises(Cancelled):
        work()
    assert children() == []


@pytest.mark.parametrize("failure", [TargetUnavailable("It is away."), TargetFull("It is full.")])
def test_a_target_that_fails_in_mid_run_fails_it_and_commits_nothing(code: CodeSet, failure: LifeboatError) -> None:
    noise(code)
    repository = code.world.repository()
    target = repository.target("primary")
    put = target.put

    def failing(key: str, body: object, **more: object) -> int:
        if "bundle" in key:
            body.read(100)  # type: ignore[attr-defined]
            raise failure
        return put(key, body, **more)  # type: ignore[arg-type]

    target.put = failing  # type: ignore[method-assign]
    with pytest.raises(type(failure)):
        code.take(repository)
    assert code.shown() == []
    assert children() == []
    code.snapshot()


def test_a_recovery_point_whose_base_is_removed_meanwhile_is_not_committed(
    code: CodeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    code.one.commit()
    first = code.snapshot()
    really = snapshot._write_index

    def meanwhile(*arguments: Any) -> Any:
        catalogue = code.world.repository().catalogue("primary")
        remove_copy(catalogue, CODE, first.manifest.recovery_point, [""], lambda: None)
        return really(*arguments)

    monkeypatch.setattr(snapshot, "_write_index", meanwhile)
    with pytest.raises(RepositoryError, match=f"not on primary any more: {first.manifest.recovery_point}"):
        code.take()
    assert code.shown() == []
    monkeypatch.undo()
    code.snapshot()


def test_any_damage_to_any_object_is_found_and_nothing_is_restored(code: CodeSet) -> None:
    code.one.commit()
    copy = code.snapshot()
    folder = code.world.roots["primary"] / copy.manifest.folder.attempt(copy.manifest.attempt)
    files = [volume.file for stream in copy.manifest.streams for volume in stream.volumes]
    assert len(files) == 2
    for place, file in enumerate(files):
        path, beside = folder / file, folder / files[1 - place]
        good = path.read_bytes()
        for damage in DAMAGES.values():
            damage(path, beside)
            with pytest.raises(LifeboatError):
                code.verify(copy)
            with pytest.raises(LifeboatError):
                code.verify(copy, deep=True)
            with pytest.raises(LifeboatError):
                code.restore(copy)
            assert list(code.back.iterdir()) == []
            path.unlink(missing_ok=True)
            path.write_bytes(good)
    code.verify(copy, deep=True)
    code.restore(copy)


def test_another_key_opens_nothing(code: CodeSet, tmp_path: Path) -> None:
    code.one.commit()
    copy = code.snapshot()
    text = code.world.policy.read_text()
    key = next(Path(word) for word in text.split() if word.endswith("local.key"))
    write_secret(tmp_path / "another.key", new_local_key())
    stranger = code.world.bent(str(key), str(tmp_path / "another.key"))
    own, code.world = code.world, stranger
    with pytest.raises(LifeboatError):
        code.restore(copy)
    assert list(code.back.iterdir()) == []
    code.world = own
    code.restore(copy)


def test_an_older_manifest_in_a_newer_ones_place_shows_and_nothing_refers_to_it(code: CodeSet) -> None:
    code.one.commit()
    older, newer = code.snapshot(), code.snapshot()
    root = code.world.roots["primary"]
    mark = root / newer.manifest.folder.manifest
    rewrite(mark, lambda _data: (root / older.manifest.folder.manifest).read_bytes())
    catalogue = code.world.repository().catalogue("primary")
    with pytest.raises(LifeboatError, match="belongs to"):
        catalogue.read(newer.manifest.folder)
    assert [bad.folder for bad in catalogue.recovery_points(CODE).unreadable] == [newer.manifest.folder]
    (copy,) = code.take().copies
    assert copy.manifest.needs == (older.manifest.recovery_point,)


def test_a_clock_that_is_far_behind_is_named(code: CodeSet) -> None:
    code.one.commit()
    code.snapshot()
    code.world.clock.advance(days=-2)
    with pytest.raises(RepositoryError, match="Set the clock right"):
        code.take()
    assert len(code.shown()) == 1


def test_an_index_that_says_other_than_the_bundle_is_not_restored(
    code: CodeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are sealed and signed: only a fault of our own could make them differ, so one is made here."""
    code.one.commit()
    monkeypatch.setattr("lifeboat.code.bundling.header_of", lambda _refs: b"# v2 git bundle\n" + b"0" * 40 + b" x\n\n")
    copy = code.snapshot()
    with pytest.raises(LifeboatError, match="lists other refs than the index"):
        code.verify(copy, deep=True)
    with pytest.raises(LifeboatError, match="lists other refs than the index"):
        code.restore(copy)


def can_be_taken_back(code: CodeSet) -> None:
    """For a week, on the primary target, although it is a directory."""
    marker = "    marker: demo-local\n"
    code.world = code.world.bent(f"{marker}  offsite", f"{marker}    undelete: 7d\n  offsite")


def clean(code: CodeSet) -> Cleaned:
    return Cleanup(code.world.repository(), CODE, CodeKind().roles(), "primary", "test", "a test").all()


def test_retention_keeps_bundles_that_are_referred_to_and_what_it_deletes_can_be_taken_back(code: CodeSet) -> None:
    """Holds, soft deletion and undoing are the spine's own: nothing here is of this kind of source."""
    can_be_taken_back(code)
    code.one.commit()
    first = code.snapshot()
    code.one.commit("refs/heads/main")
    second = code.snapshot()
    code.world.clock.advance(days=29)
    third = code.snapshot()
    assert third.manifest.needs == (second.manifest.recovery_point,)
    code.world.clock.advance(days=2)
    done = clean(code)
    assert done.deleted.gone == (first.manifest.recovery_point,)
    assert set(code.shown()) == {second.manifest.recovery_point, third.manifest.recovery_point}
    repository = code.world.repository()
    undo(repository, CODE, [first.manifest.recovery_point], ["primary"], "wanted", "a person")
    assert first.manifest.recovery_point in code.shown()
    assert ids(code.restore(first)["erp"].path)
    hold(repository, CODE, [third.manifest.recovery_point], "an audit", "a person")
    code.one.commit()
    code.world.clock.advance(days=60)
    code.snapshot()
    clean(code)
    # The third is held, and what it refers to stays with it.
    assert {second.manifest.recovery_point, third.manifest.recovery_point} < set(code.shown())
    code.verify(third, deep=True)


def test_of_two_tries_at_once_one_is_committed_whole(code: CodeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was thought dead, and its successor on another machine: no lock is between them."""
    code.one.commit()
    begun, run = code.world.clock(), Run(command="a test")
    late, successor = (
        Work.new("full", begun=begun, tiers=("daily",), run=run, actor="a test", mark="abcd", attempt=number)
        for number in (1, 2)
    )
    left = [successor]
    really = snapshot._write_index

    def meanwhile(*arguments: Any) -> Any:
        if left:
            code.take(work=left.pop())
        return really(*arguments)

    monkeypatch.setattr(snapshot, "_write_index", meanwhile)
    monkeypatch.setattr(snapshot, "alone_on_this_machine", lambda *_: nullcontext())
    with pytest.raises(AlreadyCommitted):
        code.take(work=late)
    [copy] = code.world.repository().catalogue("primary").recovery_points(CODE).copies
    assert copy.manifest.attempt == successor.attempt
    code.verify(copy, deep=True)
