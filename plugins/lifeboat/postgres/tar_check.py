"""A base backup's tar archives against its manifest, both read once and side by side.

The server writes the manifest's entries in the order in which it sends the files, so one is looked up in the other
without keeping either.

Source: https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-BASE-BACKUP
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lifeboat.errors import PostgresError, VerificationFailed
from lifeboat.postgres.backup_manifest import BackupManifestReader, ManifestFile, WalRange, file_checksum
from lifeboat.postgres.segments import WalFile, WalFileKind
from lifeboat.postgres.unpacking import Unpacker, Writing
from lifeboat.streams.tar_walking import Content, Member, TarDamaged, members
from lifeboat.targets.target import Readable

MOST_FAULTS = 20
MOST_PENDING = 100_000

WalReceiver = Callable[[str, Readable], object]


@dataclass(frozen=True)
class ArchiveSummary:
    """What was checked and found good.

    Attributes:
        archives: how many tar archives.
        files: how many files were compared with the manifest.
        plain_bytes: their bytes.
        wal_segments: the WAL segments in the archives, which the manifest does not list.
        wal_ranges: the WAL that the backup needs.
        system_identifier: as the manifest says; ``None`` before PostgreSQL 17.
    """

    archives: int
    files: int
    plain_bytes: int
    wal_segments: tuple[str, ...]
    wal_ranges: tuple[WalRange, ...]
    system_identifier: int | None


def check_archives(
    archives: Iterable[tuple[str, Readable]],
    manifest: Readable,
    *,
    on_wal: WalReceiver | None = None,
    unpacker: Unpacker | None = None,
    tick: Callable[[], None] = lambda: None,
) -> ArchiveSummary:
    """Compare every file in the archives with the manifest, and the manifest with itself.

    Args:
        archives: names (``16384.tar`` for a tablespace, ``base.tar``) and streams, in the order the server sent them;
            another order costs memory and is refused beyond ``MOST_PENDING`` files.
        manifest: the ``backup_manifest``.
        on_wal: gets each WAL segment found in ``pg_wal``, its name and its bytes; ``VerificationFailed`` raised by it
            counts as a fault of that file.
        unpacker: puts everything onto a disk on the way; what it wrote counts only when this function returns.
        tick: called between files; may raise to stop.

    Raises:
        VerificationFailed: names up to ``MOST_FAULTS`` files that are missing, added, or differ in size or checksum,
            an archive that is cut short, or what is wrong with the manifest.
    """
    check = _Check(BackupManifestReader(manifest), on_wal, unpacker, tick)
    count = 0
    for name, stream in archives:
        count += 1
        check.archive(name, stream)
    return check.end(count)


class _Check:
    def __init__(
        self,
        manifest: BackupManifestReader,
        on_wal: WalReceiver | None,
        unpacker: Unpacker | None,
        tick: Callable[[], None],
    ) -> None:
        self._manifest = manifest
        self._entries: Iterator[ManifestFile] = iter(manifest)
        self._pending: dict[str, ManifestFile] = {}
        self._on_wal = on_wal
        self._unpacker = unpacker
        self._tick = tick
        self._faults: list[str] = []
        self._files = 0
        self._bytes = 0
        self._segments: list[str] = []

    def archive(self, name: str, stream: Readable) -> None:
        prefix = _prefix(name)
        try:
            for member in members(stream):
                self._tick()
                if member.content is None:
                    self._no_file(prefix + member.path, member)
                else:
                    self._file(prefix + member.path, member.content)
        except TarDamaged as error:
            self._fault(f"archive {name} is {error.what}")

    def _no_file(self, path: str, member: Member) -> None:
        if self._unpacker is None:
            return
        if member.link is None:
            self._unpacker.directory(path)
        else:
            self._unpacker.link(path, member.link)

    def _file(self, path: str, content: Content) -> None:
        if self._unpacker is None:
            self._content(path, content.size, content)
            return
        with self._unpacker.through(path, content) as written:
            self._content(path, content.size, written)

    def _content(self, path: str, size: int, content: Content | Writing) -> None:
        if _is_segment(path):
            self._segment(path, content)
            return
        entry = self._entry(path)
        if entry is None:
            self._fault(f"{path} is not in the manifest")
            return
        self._files += 1
        self._bytes += size
        if size != entry.size:
            self._fault(f"{path} has {size} bytes instead of {entry.size}")
            return
        try:
            checksum = file_checksum(entry.checksum_algorithm)
        except PostgresError as error:
            self._fault(f"{path}: {error.what}")
            return
        while piece := content.read_some():
            checksum.update(piece)
        if checksum.hexdigest() != entry.checksum:
            self._fault(f"{path} differs from its {entry.checksum_algorithm} checksum")

    def _segment(self, path: str, content: Readable) -> None:
        name = path.rpartition("/")[2]
        self._segments.append(name)
        if self._on_wal is not None:
            try:
                self._on_wal(name, content)
            except VerificationFailed as error:
                self._fault(f"{path}: {error.what}")

    def _entry(self, path: str) -> ManifestFile | None:
        """The manifest's entry for a file; the entries before it wait for theirs."""
        waiting = self._pending.pop(path, None)
        if waiting is not None:
            return waiting
        for entry in self._entries:
            if entry.path == path:
                return entry
            if entry.path in self._pending:
                self._fault(f"{entry.path} stands twice in the manifest")
            self._pending[entry.path] = entry
            if len(self._pending) > MOST_PENDING:
                self._fault(f"{path} is not among the next {MOST_PENDING} entries of the manifest")
                self._raise()
        return None

    def end(self, archives: int) -> ArchiveSummary:
        for path in self._pending:
            self._fault(f"{path} is missing")
        for entry in self._entries:
            self._fault(f"{entry.path} is missing")
        if self._faults:
            self._raise()
        return ArchiveSummary(
            archives,
            self._files,
            self._bytes,
            tuple(self._segments),
            self._manifest.wal_ranges,
            self._manifest.system_identifier,
        )

    def _fault(self, what: str) -> None:
        self._faults.append(what)
        if len(self._faults) >= MOST_FAULTS:
            self._raise()

    def _raise(self) -> None:
        more = " (and perhaps more)" if len(self._faults) >= MOST_FAULTS else ""
        raise VerificationFailed(
            f"The base backup does not match its manifest: {'; '.join(self._faults)}{more}.",
            "Use another copy of this recovery point, and take a new backup.",
        )


def _prefix(archive: str) -> str:
    """Where an archive's files lie in the data directory."""
    name = archive.rpartition("/")[2]
    if name == "base.tar":
        return ""
    match = re.fullmatch(r"(\d+)\.tar", name)
    if match is None:
        raise VerificationFailed(f"{archive} is no archive of a base backup: those are base.tar and <oid>.tar.")
    return f"pg_tblspc/{match[1]}/"


def _is_segment(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    if folder != "pg_wal":
        return False
    try:
        return WalFile.parse(name).kind is WalFileKind.SEGMENT
    except PostgresError:
        return False
