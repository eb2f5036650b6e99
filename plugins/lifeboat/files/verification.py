"""Opening a snapshot: every path of the index, every byte of every pack that it refers to."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from lifeboat.errors import LifeboatError, VerificationFailed
from lifeboat.files.comparing import index_of
from lifeboat.files.details import snapshot_details
from lifeboat.files.packs_reading import members_of
from lifeboat.files.scratch_table import scratch_tables
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import Verified

MOST_SHOWN = 20
_PIECE = 1024 * 1024


def verify_snapshot(
    repository: SystemRepository,
    target: str,
    copy: Copy,
    *,
    passed: Callable[[int], None],
    tick: Callable[[], None],
) -> tuple[Verified, dict[str, Any]]:
    """Read the index, then every pack that it refers to, the snapshot's own and those of earlier ones, and compare each
    file's digest.

    Raises:
        VerificationFailed: a file's bytes are not there; the first twenty are named.
        ObjectDamaged: an object is not what was written.
    """
    manifest = copy.manifest
    details = snapshot_details(manifest)
    with closing(scratch_tables()) as wanted:
        wanted.execute("CREATE TABLE wanted (point TEXT, pack TEXT, member BLOB, sha256 BLOB, path BLOB)")
        files, size = _note_wanted(repository, copy, wanted, passed)
        if (files, size) != (details.files, details.size):
            raise VerificationFailed(
                f"The index of {manifest.recovery_point} on {target} has {files} files of {size} bytes, and its "
                f"manifest says {details.files} of {details.size}.",
                "Do not restore from it; use another snapshot.",
            )
        wanted.execute("CREATE INDEX by_pack ON wanted (point, pack, member)")
        read = _compare(repository, target, copy, wanted, passed, tick)
        own = {stream.name for stream in manifest.streams}
        referred = {pack for point, pack in _packs(wanted) if point == manifest.recovery_point}
        for pack in sorted(own - referred - {"index.jsonl"}):
            # Nothing of it is referred to, and it is read all the same: it is a part of the recovery point.
            with members_of(repository, copy, pack, passed=passed) as members:
                for _, body in members:
                    while body.read(_PIECE):
                        tick()
    objects = sum(len(stream.volumes) for stream in manifest.streams)
    return Verified("deep", objects, manifest.stored_size, read), {"files": files, "size": size}


def _note_wanted(
    repository: SystemRepository, copy: Copy, wanted: sqlite3.Connection, passed: Callable[[int], None]
) -> tuple[int, int]:
    files = size = 0
    with index_of(repository, copy, passed=passed) as entries:
        for entry in entries:
            if entry.type != "file":
                continue
            files += 1
            size += entry.size
            if entry.place is not None:
                place = entry.place
                wanted.execute(
                    "INSERT INTO wanted VALUES (?, ?, ?, ?, ?)",
                    (
                        place.recovery_point,
                        place.pack,
                        _coded(place.member or entry.path),
                        bytes.fromhex(entry.sha256),
                        _coded(entry.path),
                    ),
                )
    return files, size


def _packs(wanted: sqlite3.Connection) -> list[tuple[str, str]]:
    return wanted.execute("SELECT DISTINCT point, pack FROM wanted ORDER BY point, pack").fetchall()


def _compare(
    repository: SystemRepository,
    target: str,
    copy: Copy,
    wanted: sqlite3.Connection,
    passed: Callable[[int], None],
    tick: Callable[[], None],
) -> int:
    read = 0
    others = {copy.manifest.recovery_point: copy}
    catalogue = repository.catalogue(target)
    for point, pack in _packs(wanted):
        if point not in others:
            folder = RecoveryPointFolder(copy.manifest.system, copy.manifest.source, point)
            others[point] = catalogue.read(folder)
        found: dict[bytes, set[bytes]] = {}
        with members_of(repository, others[point], pack, passed=passed) as members:
            for name, body in members:
                digest = hashlib.sha256()
                while piece := body.read(_PIECE):
                    digest.update(piece)
                    read += len(piece)
                    tick()
                found.setdefault(_coded(name), set()).add(digest.digest())
        lacking = [
            path.decode("utf-8", "backslashreplace")
            for member, sha256, path in wanted.execute(
                "SELECT member, sha256, path FROM wanted WHERE point = ? AND pack = ?", (point, pack)
            )
            if sha256 not in found.get(member, ())
        ]
        if lacking:
            raise _failed(copy, target, pack, lacking)
    return read


def _failed(copy: Copy, target: str, pack: str, lacking: list[str]) -> LifeboatError:
    more = f" and {len(lacking) - MOST_SHOWN} more" if len(lacking) > MOST_SHOWN else ""
    return VerificationFailed(
        f"{len(lacking)} files of {copy.manifest.recovery_point} on {target} are not in {pack} as the index says: "
        f"{', '.join(lacking[:MOST_SHOWN])}{more}.",
        "Do not restore these from this copy; the other targets' copies are verified on their own.",
    )


def _coded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
