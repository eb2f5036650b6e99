"""Copies: the same bytes on another target, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from lifeboat.errors import AlreadyCommitted, Cancelled, ObjectDamaged, ObjectMissing, TargetError
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.copying import copy as copy_point
from lifeboat.repository.verification import verify_stored
from lifeboat.targets.local import LocalTarget
from lifeboat.targets.target import Readable
from sandbox.s3_servers import RcloneS3
from tests.repository.world import SOURCE, World, everything
from tests.streams.keys_made import threads_of_streams


def carry(world: World, copy: Copy, **more) -> Copy:
    repository = world.repository()
    return copy_point(repository.target("primary"), repository.catalogue("offsite"), copy, **more)


def test_a_copy_is_the_same_byte_for_byte(world: World) -> None:
    copy = world.point()
    seen: list[int] = []
    carried = carry(world, copy, passed=seen.append)
    assert carried.manifest == copy.manifest
    assert carried.target == "offsite"
    assert everything(world, "offsite") == everything(world, "primary")
    assert sum(seen) == copy.manifest.stored_size


@pytest.mark.parametrize("kind", ["moto", "rclone"])
def test_a_copy_from_a_store_into_a_directory(
    make_world: Callable[..., World], request: pytest.FixtureRequest, kind: str
) -> None:
    world = make_world(request.getfixturevalue(kind))
    copy = world.point()
    assert carry(world, copy).document == copy.document
    repository = world.repository()
    target = repository.target("primary")
    held = {info.key: target.read(info.key) for info in target.list("")}
    assert {key: data for key, data in everything(world, "offsite").items() if key != ".lifeboat-target"} == held


def test_a_copy_made_twice_is_the_same_copy(world: World) -> None:
    copy = world.point()
    first = carry(world, copy)
    before = everything(world, "offsite")
    assert carry(world, copy) == first
    assert everything(world, "offsite") == before


def test_an_interrupted_copy_is_made_whole_by_the_next_run(world: World) -> None:
    copy = world.point()
    folder = copy.manifest.folder.attempt(copy.manifest.attempt)
    half = world.file(folder + copy.manifest.streams[0].volumes[0].file, "offsite")
    half.parent.mkdir(parents=True)
    half.write_bytes(b"what an earlier run left there")
    assert world.repository().catalogue("offsite").recovery_points(SOURCE).copies == ()
    carry(world, copy)
    assert everything(world, "offsite") == everything(world, "primary")


def test_a_copy_that_stopped_before_its_mark_is_finished(world: World) -> None:
    copy = world.point()
    carry(world, copy)
    world.file(copy.manifest.folder.manifest, "offsite").unlink()
    assert carry(world, copy).document == copy.document


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda path: path.write_bytes(b"\0" + path.read_bytes()[1:]), ObjectDamaged),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), ObjectDamaged),
        (lambda path: path.write_bytes(path.read_bytes() + b"1"), ObjectDamaged),
        (lambda path: path.write_bytes(b""), ObjectDamaged),
        (lambda path: path.unlink(), ObjectMissing),
    ],
    ids=["flipped", "shorter", "longer", "empty", "missing"],
)
def test_a_damaged_original_is_not_copied(
    world: World, damage: Callable[[Path], object], error: type[Exception]
) -> None:
    copy = world.point()
    victim = copy.manifest.streams[0].volumes[1].file
    damage(world.file(copy.manifest.folder.attempt(copy.manifest.attempt) + victim))
    with pytest.raises(error, match=victim):
        carry(world, copy)
    assert world.repository().catalogue("offsite").recovery_points(SOURCE).copies == ()
    assert not any(key.endswith((victim, "manifest.json", ".sig")) for key in everything(world, "offsite"))
    assert threads_of_streams() == []


def test_another_attempt_on_the_other_target_is_not_overwritten(world: World) -> None:
    repository = world.repository()
    first, second = (world.work(mark="7f3a", attempt=number) for number in (1, 2))
    copy = world.point(repository, work=first)
    carry(world, copy)
    before = everything(world, "offsite")
    world.file(copy.manifest.folder.manifest).unlink()
    other = world.point(repository, work=second, previous=None, sequence=1)
    with pytest.raises(AlreadyCommitted, match="has another attempt of"):
        carry(world, other)
    assert everything(world, "offsite") == before


class Meanwhile(LocalTarget):
    """A target on which something happens just before the manifest arrives."""

    happens: Callable[[], None]

    def put_new(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        if key.endswith("manifest.json"):
            self.happens()
        super().put_new(key, data, retain_until=retain_until)


def test_another_attempt_committed_there_meanwhile_is_named_as_such(world: World) -> None:
    repository = world.repository()
    first, second = (world.work(mark="7f3a", attempt=number) for number in (1, 2))
    copy = world.point(repository, work=first)
    world.file(copy.manifest.folder.manifest).rename(world.roots["local"] / "kept")
    other = world.point(repository, work=second, previous=None, sequence=1)
    world.file(copy.manifest.folder.manifest).write_bytes((world.roots["local"] / "kept").read_bytes())
    target = Meanwhile("offsite", world.roots["offsite"])
    repository._targets["offsite"] = target

    def happens() -> None:
        plain = LocalTarget("offsite", world.roots["offsite"])
        plain.put_new(other.manifest.folder.signature(second.attempt), other.signature)
        plain.put_new(other.manifest.folder.manifest, other.document)

    target.happens = happens
    with pytest.raises(AlreadyCommitted, match="has another attempt of"):
        copy_point(repository.target("primary"), repository.catalogue("offsite"), copy)


class StopsAfter(LocalTarget):
    """A target whose second object fails."""

    taken = 0

    def put(self, key: str, body: Readable, *, retain_until: datetime | None = None, shared: bool = False) -> int:
        self.taken += 1
        if self.taken == 2:
            raise TargetError(f"Target {self.name}: no room for {key}.", "Make room.")
        return super().put(key, body)


def test_a_target_that_fails_in_the_middle_commits_nothing_and_keeps_no_thread(world: World) -> None:
    copy = world.point(streams={f"stream-{number}": b"1" * 100_000 for number in range(12)})
    repository = world.repository()
    repository._targets["offsite"] = StopsAfter("offsite", world.roots["offsite"])
    with pytest.raises(TargetError, match="no room"):
        copy_point(repository.target("primary"), repository.catalogue("offsite"), copy)
    assert repository.catalogue("offsite").recovery_points(SOURCE).copies == ()
    assert threads_of_streams() == []
    carry(world, copy)


def test_a_copy_that_is_cancelled_from_its_progress_commits_nothing(world: World) -> None:
    copy = world.point()

    def passed(_: int) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        carry(world, copy, passed=passed)
    assert world.repository().catalogue("offsite").recovery_points(SOURCE).copies == ()


def test_a_copy_from_a_store_that_goes_away_commits_nothing(
    make_world: Callable[..., World], own_rclone: RcloneS3
) -> None:
    world = make_world(own_rclone)
    copy = world.point()
    own_rclone.kill()
    repository = world.repository()
    with pytest.raises(TargetError):
        copy_point(repository.target("primary"), repository.catalogue("offsite"), copy)
    assert repository.catalogue("offsite").recovery_points(SOURCE).copies == ()
    verify_nothing_there(world)


def verify_nothing_there(world: World) -> None:
    assert list(everything(world, "offsite")) == [".lifeboat-target"]


def test_a_copy_verifies_like_the_original(world: World) -> None:
    copy = world.point()
    carried = carry(world, copy)
    assert verify_stored(world.repository().target("offsite"), carried).stored_size == copy.manifest.stored_size
