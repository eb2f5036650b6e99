"""Days of small objects: WAL runs and events of a world whose primary target is wherever it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from lifeboat.repository.bundles import BundleWriter
from lifeboat.repository.bundling import Bundled, Bundler
from lifeboat.repository.catalogue import Catalogue, Copy, Listing
from lifeboat.repository.commit import commit, next_place
from lifeboat.repository.journal import Event, JournalProblem, read_journal
from lifeboat.repository.layout import bundles_folder
from lifeboat.repository.manifest import Manifest
from lifeboat.repository.system import SystemRepository
from tests.repository.world import SOURCE, SYSTEM, World

JOURNAL, WAL = bundles_folder(SYSTEM), bundles_folder(SYSTEM, SOURCE)


class Watched:
    """A target that remembers which objects were read one by one."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.read_singly: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def read(self, key: str, **more: Any) -> Any:
        if "/bundles/" not in key:
            self.read_singly.append(key)
        return self._target.read(key, **more)


def wal_run(world: World, repository: SystemRepository, before: Copy | None, timeline: int = 1) -> Copy:
    """A committed WAL run that holds nothing, as of an idle server."""
    work = world.work("wal")
    place = next_place([before] if before is not None else [])
    manifest = Manifest(
        system=SYSTEM,
        source=SOURCE,
        recovery_point=str(work.recovery_point),
        attempt=work.attempt,
        timeline=timeline,
        kind="wal",
        tiers=("wal",),
        sequence=place.sequence,
        previous=place.previous,
        chain=str(work.recovery_point),
        begun=world.clock(),
        committed=world.clock(),
        moment=world.clock(),
        details={"note": "Größe"},
        streams=(),
        wrapped_keys=(),
        tool_versions={},
        policy_digest=repository.loaded.digest,
        run=work.run,
    )
    return commit(repository.target("primary"), manifest, repository.signer)


def days_of(world: World, days: int, a_day: int, timelines: Sequence[int] = (1,)) -> list[Copy]:
    """So many WAL runs on each timeline, and twice as many events, on each of so many days from 22 November 02:00 on;
    the clock then stands at 02:00 of the day after."""
    repository = world.repository()
    journal = repository.journal("primary", run="run", actor="tester")
    copies: list[Copy] = []
    newest: dict[int, Copy | None] = {}
    for _ in range(days):
        begin = world.clock()
        for _ in range(a_day):
            for timeline in timelines:
                copy = newest[timeline] = wal_run(world, repository, newest.get(timeline), timeline)
                copies.append(copy)
                point = copy.manifest.recovery_point
                named: dict[str, Any] = {"source": SOURCE, "recovery_point": point, "target": "primary"}
                journal.write("backup_committed", **named, manifest=copy.sha256)
                journal.write("verified", **named, manifest=copy.sha256, method="read")
                world.clock.advance(minutes=7)
        world.clock.now = begin + timedelta(days=1)
    return copies


def bundle_all(world: World) -> list[Bundled]:
    bundler = Bundler(world.repository(), "primary")
    return [*bundler.journal(), *bundler.wal(SOURCE)]


def seen(world: World) -> tuple[Listing, list[Event | tuple[str, str]]]:
    """What readers make of it."""
    repository = world.repository()
    found = read_journal(repository.target("primary"), SYSTEM, repository.trusted)
    journal = [(one.key, one.what) if isinstance(one, JournalProblem) else one for one in found]
    return repository.catalogue("primary").wal(SOURCE), journal


def seen_singly(world: World) -> list[str]:
    """Which objects they read one by one for it."""
    repository = world.repository()
    watched: Any = Watched(repository.target("primary"))
    Catalogue(watched, SYSTEM, repository.trusted).wal(SOURCE)
    list(read_journal(watched, SYSTEM, repository.trusted))
    return list(watched.read_singly)


def bundle_of(day: str, texts: dict[str, bytes], folder: str = WAL) -> tuple[str, bytes]:
    """A bundle's key and bytes."""
    writer = BundleWriter(folder, day)
    for key, text in texts.items():
        assert writer.add({key: text})
    name, stored = writer.finish()
    return folder + name, stored
