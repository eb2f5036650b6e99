"""Deep verification: every byte opened and compared with what PostgreSQL itself said of it. Streams; needs no disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from lifeboat.errors import Cancelled, LifeboatError, ManifestInvalid, VerificationFailed
from lifeboat.postgres.base_backup import MAIN_ARCHIVE, MANIFEST_STREAM
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.details import FULL, INCREMENTAL, WAL, FullDetails, WalDetails, base_details, wal_details
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.reach import WalRun, segments_lacking
from lifeboat.postgres.restore_sources import origin_of, read_offer
from lifeboat.postgres.segments import SegmentName, WalFile, WalFileKind
from lifeboat.postgres.tar_check import ArchiveSummary, check_archives
from lifeboat.postgres.wal import WalWalker
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import Verified
from lifeboat.streams.reading import Origin, opened
from lifeboat.streams.stored import StoredStream
from lifeboat.targets.target import Readable

MOST_IDLE_RUNS = 300
"""How far back the WAL before a run is looked for: a day of runs in which an idle server had nothing to bring."""


@dataclass(frozen=True)
class Deep:
    """What a deep verification found.

    Attributes:
        verified: objects and bytes.
        files: files compared with PostgreSQL's backup manifest.
        wal_records: WAL records whose checksum was computed.
        last_commit: the newest commit seen in the WAL.
    """

    verified: Verified
    files: int
    wal_records: int
    last_commit: datetime | None


def verify_deep(
    repository: SystemRepository,
    target: str,
    copy: Copy,
    *,
    passed: Callable[[int], None] = lambda _: None,
    tick: Callable[[], None] = no_tick,
) -> Deep:
    """Open and check one recovery point on one target.

    Raises:
        VerificationFailed: it is not good; the text names what.
        KeyUnavailable: no key at hand opens it.
        TargetError: the target failed.
    """
    manifest = copy.manifest
    if manifest.state == "damaged":
        raise VerificationFailed(
            f"{manifest.recovery_point} holds pages that were damaged on the server: {'; '.join(manifest.findings)}",
            "It is kept, but never counts as good. Repair the server's data and take a new full.",
        )
    origin = origin_of(repository, target, copy)
    try:
        if manifest.kind in (FULL, INCREMENTAL):
            files, walker = _full(copy, base_details(manifest), origin, passed, tick)
        elif manifest.kind == WAL:
            follows = _last_record_before(repository, target, copy, tick)
            files, walker = 0, _wal(copy, wal_details(manifest), origin, follows, passed, tick)
        else:
            raise ManifestInvalid(
                f"{manifest.recovery_point} is of the unknown kind {manifest.kind!r}.", "Update Lifeboat."
            )
    except VerificationFailed as error:
        raise VerificationFailed(f"{manifest.recovery_point} on {target}: {error.what}", error.remedy) from error
    verified = Verified(
        "deep", sum(len(stream.volumes) for stream in manifest.streams), manifest.stored_size, manifest.stored_size
    )
    return Deep(verified, files, walker.records, walker.last_commit)


def _full(
    copy: Copy, details: FullDetails, origin: Origin, passed: Callable[[int], None], tick: Callable[[], None]
) -> tuple[int, WalWalker]:
    manifest = copy.manifest
    walker = WalWalker(details.system_identifier, details.server.wal_segment_size, details.start_lsn)

    def archives() -> Iterator[tuple[str, Readable]]:
        for tablespace in details.tablespaces:
            with opened(manifest.stream(tablespace.archive), origin, passed) as stream:
                yield tablespace.archive, stream

    def feed(name: str, segment: Readable) -> None:
        begins = SegmentName.parse(name).start(details.server.wal_segment_size)
        if not details.standby or begins + details.server.wal_segment_size <= details.stop_lsn:
            walker.feed(name, segment)
            return
        # A standby's last segment goes on behind the stop, with whatever it has received or kept there.
        walker.feed(f"{name}.partial", _Beginning(segment, details.stop_lsn - begins), until=details.stop_lsn)

    with opened(manifest.stream(MANIFEST_STREAM), origin, passed) as listing:
        summary = check_archives(archives(), listing, on_wal=feed, tick=tick)
    _agrees(summary, details, walker)
    return summary.files, walker


class _Beginning:
    """The first bytes of a stream."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _agrees(summary: ArchiveSummary, details: FullDetails, walker: WalWalker) -> None:
    wrong: list[str] = []
    if summary.system_identifier not in (None, details.system_identifier):
        wrong.append(f"backup_manifest is of the cluster {summary.system_identifier}, not {details.system_identifier}")
    ranges = summary.wal_ranges
    if not ranges or ranges[0].start != details.start_lsn or ranges[-1].end != details.stop_lsn:
        wrong.append("backup_manifest names another range of WAL than the recovery point's manifest")
    if walker.position < details.stop_lsn:
        wrong.append(f"the WAL in {MAIN_ARCHIVE} ends at {walker.position}, before {details.stop_lsn}")
    if wrong:
        raise VerificationFailed(f"The backup contradicts itself: {'; '.join(wrong)}.", "Use another copy of it.")


def _last_record_before(repository: SystemRepository, target: str, copy: Copy, tick: Callable[[], None]) -> Lsn | None:
    """Where the last record lies of the runs before a WAL run, on the same target and timeline.

    The server's own link from record to record is what holds two runs together: WAL of a server that was put back to
    an older state has the right positions, and yet does not follow. ``None`` where there is nothing before, or where
    it can't be read: its own verification says so.
    """
    catalogue, start = repository.catalogue(target), wal_details(copy.manifest).start_lsn
    try:
        for _ in range(MOST_IDLE_RUNS):
            tick()
            previous = copy.manifest.previous
            if previous is None:
                return None
            folder = replace(copy.manifest.folder, recovery_point=previous.recovery_point)
            copy = catalogue.read(folder)
            before = wal_details(copy.manifest)
            if copy.sha256 != previous.sha256 or before.end_lsn < start:
                return None  # a gap, or another row: continuity is judged by the manifests
            # A run on a standby begins with the segment in which the one before it ended: that one's is no use here.
            segments = [
                stream
                for stream in copy.manifest.streams
                if _kind(stream) is WalFileKind.SEGMENT
                and SegmentName.parse(stream.name).end(before.segment_size) == start
            ]
            if segments:
                walker = WalWalker(before.system_identifier, before.segment_size)
                _feed(walker, segments[-1], origin_of(repository, target, copy), lambda _: None)
                return walker.last_record
    except Cancelled:
        raise
    except LifeboatError:
        return None
    return None


def _kind(stream: StoredStream) -> WalFileKind:
    return WalFile.parse(stream.name).kind


def _wal(
    copy: Copy,
    details: WalDetails,
    origin: Origin,
    follows: Lsn | None,
    passed: Callable[[int], None],
    tick: Callable[[], None],
) -> WalWalker:
    if lacking := segments_lacking(WalRun(copy, details)):
        raise VerificationFailed(
            f"Its manifest names no {', '.join(lacking[:5])}, though it claims that WAL.", "Use another copy of it."
        )
    walker = WalWalker(details.system_identifier, details.segment_size, follows=follows)
    for stream in copy.manifest.streams:
        tick()
        if _kind(stream) is WalFileKind.HISTORY:
            with opened(stream, origin, passed) as plain:
                plain.read()
            continue
        _feed(walker, stream, origin, passed)
    if details.start_lsn < details.end_lsn and walker.position < details.end_lsn:
        raise VerificationFailed(
            f"The WAL ends at {walker.position}, before {details.end_lsn}, where the manifest says it does.",
            "Use another copy of it.",
        )
    return walker


def _feed(walker: WalWalker, stream: StoredStream, origin: Origin, passed: Callable[[int], None]) -> None:
    with opened(stream, origin, passed) as plain:
        walker.feed(stream.name, plain)
        if plain.read(1):
            raise VerificationFailed(f"{stream.name} is longer than a WAL segment.", "Use another copy of it.")


def verify_chain(
    repository: SystemRepository, target: str, source: str, *, tick: Callable[[], None] = no_tick
) -> list[str]:
    """What is wrong with the row of a source's WAL on a target, by the manifests: gaps between the newest base and the
    newest WAL, and recovery points that can't be believed."""
    tick()
    try:
        offer = read_offer(repository, source, target)
    except LifeboatError as error:
        return [str(error)]
    reaches = offer.reaches()
    return [*offer.unreadable, *sorted({reach.gap for reach in reaches if reach.gap})]
