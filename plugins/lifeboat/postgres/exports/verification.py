"""Deep verification of an export: every file opened, every row read, counts and fingerprints compared. Streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lifeboat.errors import VerificationFailed
from lifeboat.postgres.exports.reading import Passed, TableReader, drain, export_details, members, read_records
from lifeboat.postgres.exports.records import TABLES_STREAM, FileRecord, TableRecord
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import Verified
from lifeboat.streams.reading import Origin, opened
from lifeboat.streams.stored import StoredStream
from lifeboat.targets.target import Readable

_ELSEWHERE = "Use another copy of it."


@dataclass(frozen=True)
class VerifiedExport:
    """What was found good: objects and bytes, tables, and the rows of all files."""

    verified: Verified
    tables: int
    files: int
    rows: int


def verify_export(
    repository: SystemRepository, target: str, copy: Copy, *, passed: Passed, tick: Callable[[], None]
) -> VerifiedExport:
    """Open and check one export on one target.

    Memory is bounded by the records of the tables, never by their rows.

    Raises:
        VerificationFailed: it is not good; the text names what.
        KeyUnavailable: no key at hand opens it.
        TargetError: the target failed.
    """
    manifest = copy.manifest
    check = _Check(origin_of(repository, target, copy), passed, tick)
    try:
        check.read_records(copy)
        for stream in manifest.streams:
            if stream.name != TABLES_STREAM:
                check.stream(stream)
        check.insist_on_all()
    except VerificationFailed as error:
        raise VerificationFailed(f"{manifest.recovery_point} on {target}: {error.what}", error.remedy) from error
    objects = sum(len(stream.volumes) for stream in manifest.streams)
    verified = Verified("deep", objects, manifest.stored_size, manifest.stored_size)
    return VerifiedExport(verified, check.tables, check.files, check.rows)


class _Check:
    def __init__(self, origin: Origin, passed: Passed, tick: Callable[[], None]) -> None:
        self._origin = origin
        self._passed = passed
        self._tick = tick
        self._expected: dict[str, dict[str | None, tuple[TableRecord, FileRecord]]] = {}
        self.tables = 0
        self.files = 0
        self.rows = 0

    def read_records(self, copy: Copy) -> None:
        details = export_details(copy.manifest)
        rows = 0
        for record in read_records(copy.manifest, self._origin, self._passed):
            self._tick()
            self.tables += 1
            rows += record.rows
            if [file.format for file in record.files] != list(details.formats):
                raise VerificationFailed(f"{record.path} is not there in every format.", _ELSEWHERE)
            for file in record.files:
                self._expected.setdefault(file.stream, {})[file.member] = (record, file)
        if (self.tables, rows) != (details.tables, details.rows):
            raise VerificationFailed(
                f"{self.tables} tables with {rows} rows are recorded; the manifest says {details.tables} with "
                f"{details.rows}.",
                _ELSEWHERE,
            )

    def stream(self, stream: StoredStream) -> None:
        expected = self._expected.pop(stream.name, None)
        if expected is None:
            raise VerificationFailed(f"No table's record speaks of {stream.name}.", _ELSEWHERE)
        with opened(stream, self._origin, self._passed) as plain:
            if None in expected:
                self._file(*expected.pop(None), plain)
            else:
                for member in members(plain):
                    if member.name not in expected:
                        raise VerificationFailed(f"{stream.name} holds {member.name}, of no record.", _ELSEWHERE)
                    self._file(*expected.pop(member.name), member.content)
            drain(plain)
        if expected:
            raise VerificationFailed(f"{stream.name} lacks {', '.join(map(str, expected))}.", _ELSEWHERE)

    def _file(self, record: TableRecord, file: FileRecord, content: Readable) -> None:
        reader = TableReader(record, file)
        try:
            for number, _ in enumerate(reader.rows(content)):
                if number % 1000 == 0:
                    self._tick()
        except VerificationFailed as error:
            raise VerificationFailed(f"{record.path} as {file.format}: {error.what}", error.remedy) from error
        self.files += 1
        self.rows += record.rows

    def insist_on_all(self) -> None:
        if self._expected:
            raise VerificationFailed(
                f"The manifest names no {', '.join(sorted(self._expected)[:5])}, which tables' records speak of.",
                _ELSEWHERE,
            )
