"""Which snapshot the next one is compared with, and what that one's index says."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

from lifeboat.errors import ManifestInvalid
from lifeboat.files.details import SnapshotDetails, snapshot_details
from lifeboat.files.entries import INDEX_STREAM, Entry, Line, read_entries, read_lines
from lifeboat.files.known import KnownBytes
from lifeboat.policy.files_source import FilesSource
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointFolder, RecoveryPointId
from lifeboat.repository.snapshots import FULL
from lifeboat.repository.standing_on import verified_snapshots
from lifeboat.repository.system import PRIMARY, SystemRepository
from lifeboat.streams.reading import opened


@dataclass(frozen=True, eq=False)
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
                    place = entry.place._replace(member=entry.place.member or entry.path)
                    known.add(entry.sha256, entry.size, place)


@dataclass(frozen=True)
class Comparison:
    """What a snapshot is compared with.

    Attributes:
        bases: whose lines tell what is unchanged, and where it is stored: one snapshot; or all shares of this one.
        before: the snapshot before this one.
        generation: the recovery point that it builds upon at most; empty: it stores all anew.
    """

    bases: tuple[Base, ...]
    before: Base | None
    generation: str

    def fill(self, known: KnownBytes) -> None:
        """Note where bytes are stored already."""
        for base in dict.fromkeys((*self.bases, *filter(None, [self.before]))):
            base.fill(known)


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


def compared_with(base: Base | None) -> Comparison:
    """The comparison with one snapshot, or with none."""
    return Comparison((base,), base, base.details.generation) if base is not None else Comparison((), None, "")


def comparison_of_shares(repository: SystemRepository, source_name: str, shares: Iterable[str]) -> Comparison:
    """The comparison with what was taken in shares just now, to be brought together.

    Args:
        shares: the ids of all of them.

    Raises:
        RecoveryPointMissing: a share, or what it was compared with, is not there.
    """
    catalogue = repository.catalogue(PRIMARY)

    def read(name: str) -> Base:
        copy = catalogue.read(RecoveryPointFolder(repository.system, source_name, name))
        return Base(repository, copy, snapshot_details(copy.manifest))

    bases = tuple(map(read, shares))
    # One of them may have seen a snapshot verified that another one did not see so yet: the older is that of all.
    before = min({base.details.compared_with for base in bases} - {""}, default="")
    return Comparison(bases, read(before) if before else None, min(base.details.generation for base in bases))


@contextmanager
def lines_of(repository: SystemRepository, comparison: Comparison) -> Iterator[Iterable[Line]]:
    """The lines of the indexes that are compared with, as of one; none where there are none."""
    with ExitStack() as stack:
        indexes = []
        for base in comparison.bases:
            manifest = base.copy.manifest
            stream = stack.enter_context(opened(manifest.stream(INDEX_STREAM), repository.origin(base.copy)))
            indexes.append(read_lines(stream, f"{manifest.recovery_point} on {base.copy.target}"))
        yield heapq.merge(*indexes, key=lambda line: line.order) if len(indexes) != 1 else indexes[0]


@contextmanager
def index_of(
    repository: SystemRepository, copy: Copy, *, passed: Callable[[int], None] | None = None
) -> Iterator[Iterator[Entry]]:
    """The entries of a copy's index, as :func:`entries_of` reads them, without their lines."""
    with entries_of(repository, copy, passed=passed) as entries:
        yield (entry for entry, _ in entries)


@contextmanager
def entries_of(
    repository: SystemRepository, copy: Copy, *, passed: Callable[[int], None] | None = None
) -> Iterator[Iterator[tuple[Entry, bytes]]]:
    """The entries of a copy's index and their lines, fetched and opened as they are read.

    Raises:
        ObjectDamaged: while it is read: it is not what was written.
        KeyUnavailable: no key at hand opens it.
        ManifestInvalid: a line is not what an index holds.
    """
    manifest = copy.manifest
    with opened(manifest.stream(INDEX_STREAM), repository.origin(copy), passed) as stream:
        yield read_entries(stream, f"{manifest.recovery_point} on {copy.target}")
