"""What unfinished work left is removed once it is safely old, and nothing else ever is."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lifeboat.errors import ManifestInvalid
from lifeboat.repository.remains import find_remains, remove_remains
from lifeboat.targets.local_writing import upload_name
from tests.repository.world import SOURCE, World, everything


def age(world: World, moment: datetime) -> None:
    """Give everything on the primary target that time of its last change."""
    for path in world.roots["primary"].rglob("*"):
        if path.is_file():
            os.utime(path, (moment.timestamp(), moment.timestamp()))


def remains(world: World) -> list[str]:
    return find_remains(world.repository().catalogue("primary"), SOURCE, now=world.clock())


@pytest.mark.parametrize(
    ("old", "found"),
    [
        (timedelta(hours=47, minutes=59), False),
        (timedelta(hours=48), False),
        (timedelta(hours=48, minutes=1), True),
    ],
    ids=str,
)
def test_an_attempt_is_remains_when_its_newest_object_is_older_than_two_days(
    world: World, old: timedelta, found: bool
) -> None:
    repository = world.repository()
    world.store(repository, world.work())
    objects = [key for key in everything(world) if key.startswith("demo/")]
    age(world, world.clock() - timedelta(days=30))
    newest = world.file(objects[1])
    moment = (world.clock() - old).timestamp()
    os.utime(newest, (moment, moment))
    assert remains(world) == (objects if found else [])


def test_what_is_committed_is_never_remains_but_its_losers_are(world: World) -> None:
    repository = world.repository()
    loser = world.work(mark="7f3a")
    world.store(repository, loser)
    lost = {key for key in everything(world) if loser.attempt in key}
    copy = world.point(repository, work=world.work(mark="7f3a", attempt=2))
    run = world.point(repository, kind="wal", timeline=1, streams={"seg": b"w"})
    unfinished = world.work("wal")
    world.store(repository, unfinished, timeline=1, streams={"seg": b"w"})
    lost |= {key for key in everything(world) if unfinished.attempt in key}
    age(world, world.clock() - timedelta(days=400))
    assert set(remains(world)) == lost
    catalogue = repository.catalogue("primary")
    assert set(remove_remains(catalogue, SOURCE, now=world.clock())) == lost
    assert catalogue.recovery_points(SOURCE).copies == (copy,)
    assert catalogue.wal(SOURCE).copies == (run,)
    assert remains(world) == []


def test_foreign_files_are_never_remains(world: World) -> None:
    world.point()
    foreign = [
        "demo/database/notes.txt",
        "demo/database/backup/attempt-01-00000000/x",
        "demo/database/20261122T020000Z-full-7f3a/x",
        "demo/database/20261122T020000Z-full-7f3a/attempt-1/x",
        "demo/database/wal/old/20261122T020000Z-wal-7f3a/attempt-01-00000000/x",
        "demo/other/20261122T020000Z-full-7f3a/attempt-01-00000000/x",
        "demo/journal/2026/01/01/x.json",
        "demo/policies/x.yaml",
    ]
    for key in foreign:
        world.file(key).parent.mkdir(parents=True, exist_ok=True)
        world.file(key).write_text("not ours")
    age(world, world.clock() - timedelta(days=400))
    assert remains(world) == []


def test_a_manifest_that_can_not_be_believed_stops_the_clean_up(world: World) -> None:
    repository = world.repository()
    world.store(repository, world.work(mark="7f3a"))
    copy = world.point(repository, work=world.work(mark="7f3a", attempt=2))
    world.file(copy.manifest.folder.manifest).write_text("{}")
    age(world, world.clock() - timedelta(days=400))
    before = everything(world)
    with pytest.raises(ManifestInvalid):
        remove_remains(repository.catalogue("primary"), SOURCE, now=world.clock())
    assert everything(world) == before


def test_uploads_that_never_ended_go_when_they_are_old_and_live_ones_stay(world: World) -> None:
    folder = world.roots["primary"] / "demo" / SOURCE / "20261122T020000Z-full-7f3a" / "attempt-01-00000000"
    folder.mkdir(parents=True)
    files: dict[str, Path] = {}
    for name, hours in (("dead", 49), ("alive", 47)):
        files[name] = folder / upload_name(name)
        files[name].write_bytes(b"half")
        moment = (world.clock() - timedelta(hours=hours)).timestamp()
        os.utime(files[name], (moment, moment))
    removed = remove_remains(world.repository().catalogue("primary"), SOURCE, now=world.clock())
    assert removed == ["demo/database/20261122T020000Z-full-7f3a/attempt-01-00000000/dead"]
    assert not files["dead"].exists()
    assert files["alive"].exists()


def test_a_killed_workers_objects_can_be_removed_from_any_target(any_world: World) -> None:
    repository = any_world.repository()
    copy = any_world.point(repository)
    any_world.store(repository, any_world.work())
    catalogue = repository.catalogue("primary")
    now = datetime.now(copy.manifest.begun.tzinfo)
    assert find_remains(catalogue, SOURCE, now=now) == []
    removed = remove_remains(catalogue, SOURCE, now=now + timedelta(days=3))
    assert len(removed) == 3
    assert catalogue.recovery_points(SOURCE).copies == (copy,)
