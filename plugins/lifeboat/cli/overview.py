"""What the targets hold brought together: recovery points with their copies, WAL as ranges, what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lifeboat.errors import ManifestInvalid
from lifeboat.postgres.details import WalDetails, wal_details
from lifeboat.postgres.exports.records import EXPORT
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.sequence import sequence_findings

if TYPE_CHECKING:
    from datetime import datetime

    from lifeboat.cli.holdings import Holding
    from lifeboat.repository.catalogue import Unreadable
    from lifeboat.repository.last_verified import LastVerified, Place
    from lifeboat.repository.manifest import Manifest


@dataclass
class Entry:
    """One recovery point and its copies by target, which may differ where somebody exchanged one."""

    manifest: Manifest
    copies: dict[str, Copy] = field(default_factory=dict)

    @property
    def differs(self) -> bool:
        """Whether two targets have different manifests of it."""
        return len({copy.sha256 for copy in self.copies.values()}) > 1

    @property
    def only(self) -> tuple[str, ...]:
        """The tables that a partial export was asked for, as patterns; empty for everything else."""
        return tuple(map(str, self.manifest.details.get("only") or ())) if self.manifest.kind == EXPORT else ()


@dataclass(frozen=True)
class WalRange:
    """WAL runs of one timeline that follow each other without a gap, on one target."""

    target: str
    timeline: int
    runs: int
    first: str
    last: str
    start_lsn: str
    end_lsn: str
    begins: datetime
    until: datetime
    plain_size: int
    stored_size: int


@dataclass(frozen=True)
class Overview:
    """One source.

    Attributes:
        findings: what is wrong, each with the target where it shows.
    """

    source: str
    entries: tuple[Entry, ...]
    wal_entries: tuple[Entry, ...]
    wal: tuple[WalRange, ...]
    holdings: tuple[Holding, ...]
    findings: tuple[tuple[str, str], ...]


def overview(source: str, holdings: Sequence[Holding]) -> Overview:
    """Bring together what each target holds of a source."""
    return Overview(
        source,
        _entries(copy for holding in holdings for copy in holding.points.copies),
        _entries(copy for holding in holdings for copy in holding.wal.copies),
        tuple(one for holding in holdings for one in wal_ranges(holding)),
        tuple(holdings),
        tuple((holding.target, what) for holding in holdings for what in (*findings_of(holding), *holding.trouble)),
    )


def _entries(copies: Iterable[Copy]) -> tuple[Entry, ...]:
    found: dict[str, Entry] = {}
    for copy in copies:
        entry = found.setdefault(copy.manifest.folder.path, Entry(copy.manifest))
        entry.copies[copy.target] = copy
    return tuple(sorted(found.values(), key=lambda entry: (entry.manifest.placed, entry.manifest.sequence)))


def wal_ranges(holding: Holding) -> list[WalRange]:
    """The WAL of one target as ranges."""
    rows: dict[int, list[tuple[Copy, WalDetails]]] = {}
    for copy in holding.wal.copies:
        try:
            details = wal_details(copy.manifest)
        except ManifestInvalid:
            continue  # named among the faults
        rows.setdefault(details.timeline, []).append((copy, details))
    ranges: list[WalRange] = []
    for _, runs in sorted(rows.items()):
        runs.sort(key=lambda run: (run[1].start_lsn, run[1].end_lsn, run[0].manifest.sequence))
        ranges += [_range(holding.target, part) for part in _unbroken(runs)]
    return ranges


def _unbroken(runs: Sequence[tuple[Copy, WalDetails]]) -> list[list[tuple[Copy, WalDetails]]]:
    parts: list[list[tuple[Copy, WalDetails]]] = []
    end = None
    for copy, details in runs:
        if end is None or details.start_lsn > end:
            parts.append([])
        parts[-1].append((copy, details))
        end = details.end_lsn if end is None else max(end, details.end_lsn)
    return parts


def _range(target: str, part: Sequence[tuple[Copy, WalDetails]]) -> WalRange:
    manifests = [copy.manifest for copy, _ in part]
    return WalRange(
        target,
        part[0][1].timeline,
        len(part),
        manifests[0].recovery_point,
        manifests[-1].recovery_point,
        str(part[0][1].start_lsn),
        str(max(details.end_lsn for _, details in part)),
        manifests[0].begun,
        max(details.covered_until for _, details in part),
        sum(manifest.plain_size for manifest in manifests),
        sum(manifest.stored_size for manifest in manifests),
    )


def findings_of(holding: Holding) -> list[str]:
    """What is wrong on one target, by its manifests: what can't be believed, gaps, breaks in the rows."""
    found = [f"{bad.folder.path} can't be believed: {bad.reason}" for bad in _unreadable(holding)]
    found += sorted({reach.gap for reach in holding.reaches if reach.gap})
    rows: dict[tuple[str, int | None], list[Copy]] = {}
    for copy in holding.copies:
        rows.setdefault((copy.manifest.kind, copy.manifest.timeline), []).append(copy)
    for (kind, _), row in rows.items():
        deleted = [copy for copy in holding.points.deleted if copy.manifest.kind == kind]
        numbers = [number for point, number in holding.removed.items() if f"-{kind}-" in point]
        found += sequence_findings([*row, *deleted], numbers)
    return [*found, *holding.broken, *holding.faults]


def _unreadable(holding: Holding) -> Iterable[Unreadable]:
    return (*holding.points.unreadable, *holding.wal.unreadable)


def newest_result(entry: Entry, target: str, results: dict[Place, LastVerified]) -> LastVerified | None:
    """When a copy was last verified."""
    return results.get((entry.manifest.source, entry.manifest.recovery_point, target))
