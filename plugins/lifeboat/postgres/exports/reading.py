"""What an export holds, read and believed: the record of each table, and its files."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from pydantic import ValidationError

from lifeboat.errors import RestoreError, VerificationFailed
from lifeboat.policy.problems import Refused
from lifeboat.policy.table_patterns import TablePattern, table_pattern
from lifeboat.postgres.exports.records import (
    LONGEST_RECORD_BYTES,
    TABLES_STREAM,
    ExportDetails,
    FileRecord,
    TableRecord,
)
from lifeboat.postgres.exports.rows import Fingerprint, Value, csv_records, csv_values, json_values, lines
from lifeboat.repository.manifest import Manifest, parse_part
from lifeboat.streams.digests import DigestingReader
from lifeboat.streams.reading import Origin, opened
from lifeboat.targets.target import Readable

Passed = Callable[[int], None]
_ELSEWHERE = "Use another copy of it."


def export_details(manifest: Manifest) -> ExportDetails:
    """The PostgreSQL part of an export's manifest; raises ``ManifestInvalid``."""
    return parse_part(ExportDetails, manifest)


def exported_in_words(manifest: Manifest) -> str:
    """What an export holds, in a sentence."""
    details = export_details(manifest)
    masked = f"; {len(details.masked)} columns masked" if details.masked else ""
    return (
        f"{details.tables:,} tables with {details.rows:,} rows as {' and '.join(details.formats)}: "
        f"{manifest.plain_size / 1e6:,.1f} MB read, {manifest.stored_size / 1e6:,.1f} MB stored{masked}"
    )


def read_records(manifest: Manifest, origin: Origin, passed: Passed | None = None) -> Iterator[TableRecord]:
    """The record of each table, in their order.

    Raises:
        VerificationFailed: they can't be read, or are not those that the manifest speaks of. Nothing of it may be
            believed before the last one was read.
    """
    stream = manifest.stream(TABLES_STREAM)
    with opened(stream, origin, passed) as plain:
        digesting = DigestingReader(plain)
        for line in lines(digesting):
            if len(line) > LONGEST_RECORD_BYTES:
                raise VerificationFailed("A table's record is longer than any can be.", _ELSEWHERE)
            try:
                yield TableRecord.model_validate_json(line)
            except ValidationError:
                raise VerificationFailed(
                    f"A table's record in {TABLES_STREAM} can't be read.",
                    "A newer Lifeboat may have written it; else use another copy.",
                ) from None
    if digesting.sha256 != stream.plain_sha256:
        raise VerificationFailed(f"{TABLES_STREAM} is not what was written: its SHA-256 differs.", _ELSEWHERE)


@dataclass(frozen=True)
class Member:
    """A file in a pack: its name, its size, and its content, to be read before the next one."""

    name: str
    size: int
    content: Readable


def members(pack: Readable) -> Iterator[Member]:
    """The files of a pack, in their order.

    Raises:
        VerificationFailed: it is no tar of plain files.
    """
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", pack), mode="r|", bufsize=tarfile.RECORDSIZE) as tar:
            for info in tar:
                content = tar.extractfile(info) if info.isreg() else None
                if content is None:
                    raise VerificationFailed(f"A pack holds {info.name!r}, which is no plain file.", _ELSEWHERE)
                yield Member(info.name, info.size, cast("Readable", content))
    except tarfile.TarError as error:
        raise VerificationFailed(f"A pack can't be read as a tar: {error}.", _ELSEWHERE) from error


def drain(plain: Readable) -> None:
    """Read a stream to its end, where it is proven."""
    while plain.read(256 * 1024):
        pass


@contextmanager
def table_file(
    manifest: Manifest, origin: Origin, file: FileRecord, passed: Passed | None = None
) -> Iterator[Readable]:
    """One table's file. Left without an error, it was read to its end and its stream is proven.

    Raises:
        VerificationFailed: it is not there, or has another size.
        ObjectDamaged: while reading or at the end.
    """
    with opened(manifest.stream(file.stream), origin, passed) as plain:
        if file.member is None:
            yield plain
            drain(plain)
            return
        for member in members(plain):
            if member.name != file.member:
                continue
            if member.size != file.size:
                raise VerificationFailed(f"{file.member} has another size than recorded.", _ELSEWHERE)
            yield member.content
            drain(member.content)
            drain(plain)
            return
        raise VerificationFailed(f"{file.stream} holds no {file.member}.", _ELSEWHERE)


class TableReader:
    """The rows of one table's file, value by value; counts them and takes their fingerprint as they pass."""

    def __init__(self, record: TableRecord, file: FileRecord) -> None:
        self._record = record
        self._file = file
        self._names = [column.name for column in record.columns]
        self._fingerprint = Fingerprint()

    def rows(self, content: Readable) -> Iterator[list[Value]]:
        """Each row's values, in the columns' order; at the end the whole is compared with what was recorded.

        Raises:
            VerificationFailed: a row can't be read, or the file is not what was written.
        """
        counted = _Counted(content)
        if self._file.format == "json":
            for line in lines(counted):
                self._fingerprint.add(line)
                yield json_values(line, self._names)
        else:
            records = csv_records(counted)
            header = next(records, None)
            names = None if header is None else csv_values(header, len(self._names))
            if names != self._names:
                raise VerificationFailed("The header of a CSV names other columns than recorded.", _ELSEWHERE)
            for record in records:
                self._fingerprint.add(record)
                yield csv_values(record, len(self._names))
        self._compare(counted.size)

    def _compare(self, size: int) -> None:
        found = self._fingerprint
        if (found.rows, found.hex, size) != (self._record.rows, self._file.fingerprint, self._file.size):
            raise VerificationFailed(
                f"The file has {found.rows} rows in {size} bytes, and {self._record.rows} rows in {self._file.size} "
                "bytes were written, or a row is another one.",
                _ELSEWHERE,
            )


class _Counted:
    def __init__(self, content: Readable) -> None:
        self._content = content
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._content.read(size)
        self.size += len(data)
        return data


def chosen_tables(
    manifest: Manifest, origin: Origin, only: tuple[str, ...], passed: Passed | None = None
) -> list[TableRecord]:
    """The records of the tables that a person asked for; of all without a pattern.

    Raises:
        RestoreError: a pattern fits no table.
    """
    try:
        patterns = [table_pattern(text) for text in only]
    except Refused as error:
        raise RestoreError(error.what, error.remedy) from None
    found: list[TableRecord] = []
    unused = {pattern.text for pattern in patterns}
    known: list[str] = []
    for record in read_records(manifest, origin, passed):
        fitting = [pattern for pattern in patterns if _fits(pattern, record)]
        if len(known) < 20:
            known.append(record.path)
        if fitting or not patterns:
            found.append(record)
            unused -= {pattern.text for pattern in fitting}
    if unused:
        raise RestoreError(
            f"{manifest.recovery_point} holds no table {', '.join(sorted(unused))}.",
            f"Names are case-sensitive, as schema.table. It holds: {', '.join(known)}"
            f"{' …' if len(known) == 20 else ''}. Another recovery point may hold it.",
        )
    return found


def _fits(pattern: TablePattern, record: TableRecord) -> bool:
    return pattern.matches(record.database, record.schema_name, record.name)
