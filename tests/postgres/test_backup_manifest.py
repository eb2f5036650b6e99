from __future__ import annotations

import hashlib
import io
import itertools
import os
import subprocess
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lifeboat.errors import PostgresError, VerificationFailed
from lifeboat.postgres.backup_manifest import BackupManifestReader, file_checksum
from lifeboat.postgres.lsn import Lsn
from sandbox.accounts import hand_over
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR, binaries


def _entry(number: int, *, last: bool) -> bytes:
    return (
        f'{{ "Path": "base/5/{number}", "Size": {number}, "Last-Modified": "2026-11-22 02:00:00 GMT", '
        f'"Checksum-Algorithm": "CRC32C", "Checksum": "{number:08x}" }}'.encode()
        + (b"\n" if last else b",\n")
    )


class Generated(io.RawIOBase):
    """A manifest of many files that is made while it is read."""

    def __init__(self, files: int) -> None:
        self._digest = hashlib.sha256()
        self._parts = self._write(files)
        self._rest = b""

    def _write(self, files: int) -> Iterator[bytes]:
        head = b'{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7,\n"Files": [\n'
        entries = (_entry(number, last=number == files - 1) for number in range(files))
        tail = b'],\n"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }\n],\n'
        for part in itertools.chain([head], entries, [tail]):
            self._digest.update(part)
            yield part
        yield f'"Manifest-Checksum": "{self._digest.hexdigest()}"}}\n'.encode()

    def read(self, size: int = -1, /) -> bytes:
        while len(self._rest) < size and (part := next(self._parts, b"")):
            self._rest += part
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


def generated(files: int) -> bytes:
    return Generated(files).read(1 << 30)


def sealed(body: bytes) -> bytes:
    return body + f'"Manifest-Checksum": "{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def read_all(content: bytes) -> BackupManifestReader:
    reader = BackupManifestReader(io.BytesIO(content))
    assert len(list(reader)) == reader.files
    return reader


@dataclass(frozen=True)
class Taken:
    manifest: bytes
    files: Path


def take(server: PostgresServer, into: Path, *arguments: str) -> Taken:
    server.run_program("pg_basebackup", "-D", into, "-c", "fast", "-X", "none", "--no-sync", *arguments)
    return Taken((into / "backup_manifest").read_bytes(), into)


def test_every_entry_of_a_real_manifest_is_read(postgres_of_major: PostgresServer, tmp_path: Path) -> None:
    # A name in Latin-1 is no UTF-8: the manifest has it as Encoded-Path.
    odd = os.fsdecode("strängé".encode("latin-1"))
    (postgres_of_major.data_directory / odd).write_text("x")
    hand_over(postgres_of_major.data_directory / odd)
    taken = take(postgres_of_major, tmp_path / "taken")
    reader = BackupManifestReader(io.BytesIO(taken.manifest))
    entries = {entry.path: entry for entry in reader}
    assert reader.complete
    assert reader.version == (2 if postgres_of_major.major >= 17 else 1)
    identifier = postgres_of_major.run_sql("SELECT system_identifier FROM pg_control_system()")[0][0]
    assert reader.system_identifier == (identifier if reader.version == 2 else None)
    assert [(span.timeline, span.start < span.end) for span in reader.wal_ranges] == [(1, True)]
    there = {
        os.path.relpath(Path(folder) / name, taken.files) for folder, _, names in os.walk(taken.files) for name in names
    }
    assert set(entries) == there - {"backup_manifest"}
    assert entries[odd].size == 1
    for path, entry in entries.items():
        content = (taken.files / path).read_bytes()
        checksum = file_checksum(entry.checksum_algorithm)
        checksum.update(content[:1000])
        checksum.update(content[1000:])
        assert (len(content), checksum.hexdigest()) == (entry.size, entry.checksum), path
    assert abs(entries["PG_VERSION"].last_modified - datetime.now(UTC)).days < 3650


@pytest.mark.parametrize("algorithm", ["NONE", "CRC32C", "SHA224", "SHA256", "SHA384", "SHA512"])
def test_every_algorithm_agrees_with_the_server(postgres: PostgresServer, tmp_path: Path, algorithm: str) -> None:
    taken = take(postgres, tmp_path / "taken", f"--manifest-checksums={algorithm}")
    for entry in BackupManifestReader(io.BytesIO(taken.manifest)):
        assert entry.checksum_algorithm == algorithm
        checksum = file_checksum(algorithm)
        checksum.update((taken.files / entry.path).read_bytes())
        assert checksum.hexdigest() == entry.checksum


def test_a_checksum_of_ours_is_accepted_by_pg_verifybackup(postgres: PostgresServer, tmp_path: Path) -> None:
    taken = take(postgres, tmp_path / "taken")
    lines = taken.manifest.splitlines(keepends=True)
    checksum = file_checksum("CRC32C")
    checksum.update(b"a word of ours\n")
    entry = (
        '{ "Path": "added", "Size": 15, "Last-Modified": "2026-11-22 02:00:00 GMT", '
        f'"Checksum-Algorithm": "CRC32C", "Checksum": "{checksum.hexdigest()}" }},\n'
    )
    (taken.files / "added").write_bytes(b"a word of ours\n")
    lines.insert(3, entry.encode())
    (taken.files / "backup_manifest").write_bytes(sealed(b"".join(lines[:-1])))
    program = binaries(WHEEL_MAJOR) / "pg_verifybackup"
    subprocess.run([program, "--no-parse-wal", taken.files], check=True, capture_output=True)


def test_an_unknown_algorithm_is_refused() -> None:
    with pytest.raises(PostgresError, match="MD5"):
        file_checksum("MD5")


def test_many_files_cost_no_memory() -> None:
    def peak(files: int) -> int:
        tracemalloc.start()
        try:
            reader = BackupManifestReader(Generated(files))
            assert sum(1 for _ in reader) == files
            assert reader.wal_ranges[0].end == Lsn.parse("0/2000100")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(5_000), peak(20_000)
    assert large < small * 1.2 < 8 * 1024 * 1024


def test_a_manifest_cut_anywhere_is_refused() -> None:
    whole = generated(4)
    assert read_all(whole).complete
    for length in range(len(whole)):
        with pytest.raises(VerificationFailed, match="backup_manifest, line"):
            read_all(whole[:length])


def test_a_change_anywhere_is_refused() -> None:
    whole = generated(4)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x01
        with pytest.raises(VerificationFailed):
            read_all(bytes(changed))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"Size": 1,', b'"Size": -1,'),
        (b'"Size": 1,', b'"Size": "1",'),
        (b'"Path": "base/5/1"', b'"Path": 7'),
        (b'"Path": "base/5/1"', b'"Encoded-Path": "zz"'),
        (b'"Path": "base/5/1"', b'"Place": "base/5/1"'),
        (b'"Checksum": "00000001"', b'"Sum": "00000001"'),
        (b'"Last-Modified": "2026', b'"Last-Modified": "x'),
        (b'"Start-LSN": "0/2000028"', b'"Start-LSN": "soon"'),
        (b'Version": 2', b'Version": 3'),
        (b" },\n{", b" }\n{"),
        (b'"Files": [\n', b'"Files": [\n7,\n'),
    ],
)
def test_a_sealed_manifest_that_makes_no_sense_is_refused(old: bytes, new: bytes) -> None:
    whole = generated(4)
    body = whole[: whole.rindex(b'"Manifest-Checksum"')]
    assert old in body
    with pytest.raises(VerificationFailed):
        read_all(sealed(body.replace(old, new, 1)))


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"\0" * 100_000, b"x" * 10_000_000, b"{ \n" * 1000])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(VerificationFailed):
        read_all(content)


def test_what_follows_a_manifest_is_refused() -> None:
    with pytest.raises(VerificationFailed, match="something follows"):
        read_all(generated(2) + b"\n")


def test_nothing_is_proven_before_the_end(tmp_path: Path) -> None:
    reader = BackupManifestReader(io.BytesIO(generated(4)))
    next(iter(reader))
    assert not reader.complete
    assert reader.wal_ranges == ()


def test_a_manifest_without_files_is_read() -> None:
    assert read_all(generated(0)).files == 0
