"""Is a copy's every object what was written? Asked of the bytes themselves, or of the store's own checksum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from lifeboat.errors import ObjectDamaged, TargetError, TargetFull, TargetUnavailable, VerificationFailed
from lifeboat.repository.catalogue import Copy
from lifeboat.streams.digests import DigestingReader
from lifeboat.streams.reading import compare
from lifeboat.streams.stored import StoredVolume
from lifeboat.targets.target import Target

PIECE_BYTES = 1024 * 1024
MOST_SHOWN = 20


@dataclass(frozen=True)
class Verified:
    """What a verification found good.

    Attributes:
        method: ``read`` (every byte was read back), ``store`` (the store's own checksum of the whole object was
            compared), ``deep`` (every byte was read, opened and compared with what the source said of it).
        objects: how many objects.
        stored_size: their bytes at rest.
        read_back: of these bytes, how many were read.
    """

    method: Literal["read", "store", "deep"]
    objects: int
    stored_size: int
    read_back: int


def verify_stored(
    target: Target,
    copy: Copy,
    *,
    method: Literal["read", "store"] = "read",
    passed: Callable[[int], None] = lambda _: None,
) -> Verified:
    """Compare each object of a copy with its manifest.

    With ``store`` an object whose store keeps no CRC-32 of it is read back all the same: nothing is taken on trust for
    want of a checksum.

    Raises:
        VerificationFailed: objects are missing or are not what was written; all of them are named.
        TargetError: the target can't be reached: nothing is said of the copy.
    """
    folder = copy.manifest.folder.attempt(copy.manifest.attempt)
    wrong: list[str] = []
    objects = read_back = 0
    for volume in _volumes(copy):
        objects += 1
        try:
            if method == "store" and _store_agrees(target, folder, volume):
                passed(volume.stored_size)
                continue
            _read_back(target, folder, volume, passed)
            read_back += volume.stored_size
        except (TargetUnavailable, TargetFull):
            raise
        except (ObjectDamaged, TargetError) as error:
            wrong.append(error.what)
    if wrong:
        more = f" And {len(wrong) - MOST_SHOWN} more." if len(wrong) > MOST_SHOWN else ""
        raise VerificationFailed(
            f"{len(wrong)} of {objects} objects of {copy.manifest.recovery_point} on {target.name} are not good: "
            + " ".join(wrong[:MOST_SHOWN])
            + more,
            "Do not restore from this copy. The other targets' copies are verified on their own; if one of them is "
            "good, nothing is lost yet. Find out what changed these objects.",
        )
    return Verified(method, objects, copy.manifest.stored_size, read_back)


def _volumes(copy: Copy) -> Iterator[StoredVolume]:
    for stream in copy.manifest.streams:
        yield from stream.volumes


def _store_agrees(target: Target, folder: str, volume: StoredVolume) -> bool:
    key = folder + volume.file
    crc32 = target.store_crc32(key)
    if crc32 is None:
        return False
    info = target.stat(key)
    if info is None or info.size != volume.stored_size or crc32 != volume.crc32:
        raise ObjectDamaged(f"{key} on {target.name} is not what was written: its store's own checksum differs.")
    return True


def _read_back(target: Target, folder: str, volume: StoredVolume, passed: Callable[[int], None]) -> None:
    key = folder + volume.file
    with target.open(key) as body:
        stored = DigestingReader(body)
        while piece := stored.read(PIECE_BYTES):
            passed(len(piece))
    compare(stored, volume, f"{key} on {target.name}")
