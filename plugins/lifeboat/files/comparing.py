"""Which snapshot the next one is compared with, and what that one's index says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from lifeboat.errors import ManifestInvalid
from lifeboat.files.details import SnapshotDetails, snapshot_details
from lifeboat.files.entries import INDEX_STREAM, Entry, Line, read_index, read_lines
from lifeboat.files.known import KnownBytes
from lifeboat.policy.files_source import FilesSource
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointId
from lifeboat.repository.snapshots import FULL
from lifeboat.repository.standing_on import verified_snapshots
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened


@dataclass(frozen=True)
class Base:
    """The snapshot that one is compared with."""

    repository: SystemRepository
    copy: Copy
    details: SnapshotDetails

    @property
    def recovery_point(self) -> str:
        """Its id."""
        return self.copy.manifest.recovery_point

    def fill(self, known: KnownBytes) -> None:
        """Note where the bytes of each of its files are."""
        with index_of(self.repository, self.copy) as entries:
            for entry in entries:
                if entry.place is not None and entry.sha256:
                    # A file in a pack is called as the first file with these bytes was.
                    place = replace(entry.place, member=entry.place.member or entry.path)
                    known.add(entry.sha256, entry.size, place)


def choose_base(
    repository: SystemRepository,
    source_name: str,
    source: FilesSource,
    shown: Iterable[Copy],
    *,
    kind: str,
    now: datetime,
    tick: Callable[[], None],
) -> Base | None:
    """The newest snapshot that was verified, with everything that it refers to; ``None``: store all anew.

    What was never read back must not be what all later snapshots stand on. A full begins a new generation when the
    present one is as old as the policy lets it become.

    Args:
        shown: the recovery points on the primary target that readers see.
    """
    for copy in verified_snapshots(repository, source_name, shown, tick):
        try:
            details = snapshot_details(copy.manifest)
        except ManifestInvalid:
            continue
        begun = RecoveryPointId.parse(details.generation).begun
        if kind == FULL and source.generation.after(begun, repository.policy.zone) <= now:
            return None
        return Base(repository, copy, details)
    return None


@contextmanager
def lines_of(repository: SystemRepository, base: Base | None) -> Iterator[Iterable[Line]]:
    """The lines of a snapshot's index on the primary target; none without a snapshot."""
    if base is None:
        yield ()
        return
    manifest = base.copy.manifest
    with opened(manifest.stream(INDEX_STREAM), repository.origin(base.copy)) as stream:
        yield read_lines(stream, f"{manifest.recovery_point} on {base.copy.target}")


@contextmanager
def index_of(
    repository: SystemRepository, copy: Copy, *, passed: Callable[[int], None] | None = None
) -> Iterator[Iterator[Entry]]:
    """The entries of a copy's index, fetched and opened as they are read.

    Raises:
        ObjectDamaged: while it is read: it is not what was written.
        KeyUnavailable: no key at hand opens it.
        ManifestInvalid: a line is not what an index holds.
    """
    manifest = copy.manifest
    with opened(manifest.stream(INDEX_STREAM), repository.origin(copy), passed) as stream:
        yield read_index(stream, f"{manifest.recovery_point} on {copy.target}")
