from __future__ import annotations

import hashlib
import json
from pathlib import Path

import google_crc32c
import pytest

from lifeboat.errors import VerificationFailed
from lifeboat.postgres.base_backup import MANIFEST_STREAM
from lifeboat.postgres.combining import check_combined

BYTES = b"the bytes of a relation" * 1000


def manifest_of(files: dict[str, bytes]) -> bytes:
    """A manifest as ``pg_combinebackup`` writes it for these files."""
    entries = ",\n".join(
        json.dumps(
            {
                "Path": path,
                "Size": len(data),
                "Last-Modified": "2026-11-22 14:05:00 GMT",
                "Checksum-Algorithm": "CRC32C",
                "Checksum": google_crc32c.value(data).to_bytes(4, "little").hex(),
            }
        )
        for path, data in files.items()
    )
    text = (
        '{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": 7,\n"Files": [\n'
        f'{entries}\n],\n"WAL-Ranges": [\n'
        '{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000120" }\n],\n'
    ).encode()
    return text + b'"Manifest-Checksum": "' + hashlib.sha256(text).hexdigest().encode() + b'"}\n'


@pytest.fixture
def links(tmp_path: Path) -> list[Path]:
    """A link with one file, and a combined directory beside it that is to have the same."""
    for name in ("data/base", "data/pg_tblspc", "full/base", "incremental/base"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "full/base/1").write_bytes(BYTES)
    (tmp_path / "data" / MANIFEST_STREAM).write_bytes(manifest_of({"base/1": BYTES}))
    return [tmp_path / "full", tmp_path / "incremental"]


def compared(data: Path, links: list[Path]) -> int:
    passed: list[int] = []
    size = check_combined(data, links, passed=passed.append)
    assert sum(passed) == size
    return size


def test_a_links_own_file_is_not_read_a_second_time(tmp_path: Path, links: list[Path]) -> None:
    combined = tmp_path / "data/base/1"
    combined.hardlink_to(links[0] / "base/1")
    combined.write_bytes(b"?" * len(BYTES))
    assert compared(tmp_path / "data", links) == len(BYTES)


def test_the_size_of_a_links_own_file_is_looked_at(tmp_path: Path, links: list[Path]) -> None:
    combined = tmp_path / "data/base/1"
    combined.hardlink_to(links[0] / "base/1")
    combined.write_bytes(BYTES[:-1])
    with pytest.raises(VerificationFailed, match=rf"base/1 has {len(BYTES) - 1} bytes instead of {len(BYTES)}"):
        compared(tmp_path / "data", links)


def test_a_file_that_was_copied_is_read(tmp_path: Path, links: list[Path]) -> None:
    (tmp_path / "data/base/1").write_bytes(b"?" * len(BYTES))
    with pytest.raises(VerificationFailed, match="base/1 differs from its checksum"):
        compared(tmp_path / "data", links)


def test_a_file_with_a_second_name_that_is_no_links_is_read(tmp_path: Path, links: list[Path]) -> None:
    """As one that is linked to the wrong file of a link."""
    (tmp_path / "full/base/2").write_bytes(b"?" * len(BYTES))
    (tmp_path / "data/base/1").hardlink_to(tmp_path / "full/base/2")
    with pytest.raises(VerificationFailed, match="base/1 differs from its checksum"):
        compared(tmp_path / "data", links)
