"""PostgreSQL's own list of a base backup: every file with its size and checksum, and the WAL that it needs.

The file is JSON, written with one object a line, and is read line by line: a million files cost no memory.

Source: https://www.postgresql.org/docs/current/backup-manifest-format.html
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import google_crc32c

from lifeboat.errors import PostgresError, VerificationFailed
from lifeboat.postgres.lsn import Lsn
from lifeboat.targets.target import Readable

_BLOCK = 256 * 1024
_LONGEST_LINE = 64 * 1024
_DIGESTS = frozenset({"SHA224", "SHA256", "SHA384", "SHA512"})


class ManifestFile(NamedTuple):
    """One file of the backup.

    Attributes:
        path: relative to the data directory; bytes that are no UTF-8 are kept as surrogates (``os.fsdecode``'s way).
        size: in bytes.
        checksum_algorithm: ``NONE``, ``CRC32C``, ``SHA224``, ``SHA256``, ``SHA384`` or ``SHA512``.
        checksum: in hexadecimal, lower case; empty with ``NONE``.
        last_modified: to the second.
    """

    path: str
    size: int
    checksum_algorithm: str
    checksum: str
    last_modified: datetime


@dataclass(frozen=True)
class WalRange:
    """WAL that the backup needs to become consistent: from ``start`` up to, and without, ``end``."""

    timeline: int
    start: Lsn
    end: Lsn


class FileChecksum(Protocol):
    """A checksum that is fed piece by piece."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """The checksum as the manifest writes it."""
        ...


class _Crc32c:
    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: bytes, /) -> None:
        self._crc = google_crc32c.extend(self._crc, data)

    def hexdigest(self) -> str:
        # PostgreSQL writes the number's bytes as they lie in memory: the lowest first on every usual machine.
        return self._crc.to_bytes(4, "little").hex()


class _NoChecksum:
    def update(self, data: bytes, /) -> None:
        return

    def hexdigest(self) -> str:
        return ""


def file_checksum(algorithm: str) -> FileChecksum:
    """A fresh checksum by the manifest's name for it; raises ``PostgresError`` for an unknown one."""
    if algorithm == "CRC32C":
        return _Crc32c()
    if algorithm == "NONE":
        return _NoChecksum()
    if algorithm in _DIGESTS:
        return hashlib.new(algorithm.lower())
    raise PostgresError(f"backup_manifest names the unknown checksum algorithm {algorithm!r}.")


class BackupManifestReader:
    """Reads a manifest once, from its first line to its last.

    Iterating gives every :class:`ManifestFile` in the order of the file; when it has ended, :attr:`wal_ranges` is
    known and the manifest's own SHA-256 has proven all of it. Until then nothing of it is proven.

    Args:
        stream: the manifest's bytes.

    Attributes:
        version: of the format, 1 or 2.
        system_identifier: the server's; ``None`` with version 1 (PostgreSQL 15 and 16).
        wal_ranges: known at the end.
        files: how many were given so far.
        complete: whether the end was reached and the checksum is right.

    Raises:
        VerificationFailed: at once or while iterating: it is cut short, changed, or no manifest.
    """

    def __init__(self, stream: Readable) -> None:
        self._lines = _lines(stream)
        self._number = 0
        self._digest = hashlib.sha256()
        self.files = 0
        self.complete = False
        self.wal_ranges: tuple[WalRange, ...] = ()
        self.version = self._number_of(self._line(), b'{ "PostgreSQL-Backup-Manifest-Version": ')
        if self.version not in (1, 2):
            raise self._broken(f"version {self.version} of its format is not known")
        self.system_identifier: int | None = None
        if self.version == 2:
            self.system_identifier = self._number_of(self._line(), b'"System-Identifier": ')
        self._expect(b'"Files": [')

    def __iter__(self) -> Iterator[ManifestFile]:
        for entry in self._entries():
            try:
                yield _manifest_file(entry)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._broken(f"an entry can't be read ({error!r})") from error
            self.files += 1
        self._expect(b'"WAL-Ranges": [')
        try:
            self.wal_ranges = tuple(
                WalRange(int(entry["Timeline"]), Lsn.parse(entry["Start-LSN"]), Lsn.parse(entry["End-LSN"]))
                for entry in self._entries()
            )
        except (KeyError, TypeError, ValueError, AttributeError, PostgresError) as error:
            raise self._broken(f"a WAL range can't be read ({error!r})") from error
        self._end()

    def _end(self) -> None:
        computed = self._digest.hexdigest()
        if self._line() != b'"Manifest-Checksum": "' + computed.encode() + b'"}':
            raise self._broken("its checksum is wrong or missing")
        if next(self._lines, None) is not None:
            raise self._broken("something follows its end")
        self.complete = True

    def _entries(self) -> Iterator[dict[str, Any]]:
        """The objects of the present list, up to its end; a comma stands after each but the last."""
        more = True
        while (line := self._line()) != b"],":
            if not more:
                raise self._broken("a comma is missing between two entries")
            if not line:
                continue
            more = line.endswith(b",")
            try:
                entry = json.loads(line[:-1] if more else line)
            except ValueError as error:
                raise self._broken("a line is no JSON") from error
            if not isinstance(entry, dict):
                raise self._broken("a line is no JSON object")
            yield entry

    def _line(self) -> bytes:
        self._number += 1
        line = next(self._lines, None)
        if line is None or not line.endswith(b"\n"):
            raise self._broken("it is cut short")
        if not line.startswith(b'"Manifest-Checksum"'):
            self._digest.update(line)
        return line[:-1]

    def _expect(self, wanted: bytes) -> None:
        if self._line() != wanted:
            raise self._broken(f"{wanted.decode()} was expected")

    def _number_of(self, line: bytes, before: bytes) -> int:
        digits = line.removeprefix(before).removesuffix(b",")
        if not line.startswith(before) or not line.endswith(b",") or not digits.isdigit():
            raise self._broken(f"{before.decode()}… was expected")
        return int(digits)

    def _broken(self, what: str) -> VerificationFailed:
        return VerificationFailed(
            f"backup_manifest, line {self._number}: {what}.", "Use another copy of this recovery point."
        )


def _manifest_file(entry: dict[str, Any]) -> ManifestFile:
    path = entry.get("Path")
    if path is None:
        path = bytes.fromhex(entry["Encoded-Path"]).decode("utf-8", "surrogateescape")
    size, algorithm = entry["Size"], entry.get("Checksum-Algorithm", "NONE")
    checksum = entry["Checksum"].lower() if algorithm != "NONE" else ""
    if not isinstance(path, str) or not isinstance(algorithm, str) or not isinstance(size, int) or size < 0:
        raise TypeError("a field has the wrong type")
    modified = datetime.fromisoformat(entry["Last-Modified"].removesuffix(" GMT")).replace(tzinfo=UTC)
    return ManifestFile(path, size, algorithm, checksum, modified)


def _lines(stream: Readable) -> Iterator[bytes]:
    """The stream's lines with their ends; one that is longer than any manifest's is cut."""
    rest = b""
    while block := stream.read(_BLOCK):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line + b"\n"
        if len(rest) > _LONGEST_LINE:
            break
    if rest:
        yield rest
