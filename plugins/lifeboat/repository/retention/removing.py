"""Removing the bytes of one copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lifeboat.errors import RecoveryPointMissing
from lifeboat.repository.catalogue import Catalogue
from lifeboat.repository.layout import WAL, RecoveryPointFolder, RecoveryPointId, is_attempt


@dataclass(frozen=True)
class Removed:
    """A copy whose removal was begun.

    Attributes:
        recovery_point: its id.
        objects: that were removed now; fewer than there were where an earlier run had begun.
        stored_size: their bytes.
        foreign: keys in its folder that are not Lifeboat's, and were left.
        another: whether another manifest lay there than was meant: nothing was removed.
    """

    recovery_point: str
    objects: int = 0
    stored_size: int = 0
    foreign: tuple[str, ...] = ()
    another: bool = False


def remove_copy(
    catalogue: Catalogue, source: str, recovery_point: str, manifests: Iterable[str], tick: Callable[[], None]
) -> Removed:
    """Remove a copy: its commit mark first, so that it never looks whole again, then every object of its attempts.

    Args:
        manifests: SHA-256 of the manifests that are meant; an empty one means any.

    Raises:
        ManifestInvalid: what lies there can't be believed; nothing was removed.
        TargetError: the target did not do it, or has locked it; it can be done again.
    """
    target, meant = catalogue.target, set(manifests)
    folders = _folders(catalogue, source, recovery_point)
    named: dict[str, list[str]] = {}
    for folder in folders:
        try:
            found = catalogue.read(folder)
        except RecoveryPointMissing:
            continue  # begun by a run that was cut off
        if "" not in meant and found.sha256 not in meant:
            return Removed(recovery_point, another=True)
        named[folder.path] = found.keys[:-1]
    objects = size = 0
    foreign: list[str] = []
    for folder in folders:
        mark = target.stat(folder.manifest)
        if mark is not None:
            target.dispose(folder.manifest)
            objects, size = objects + 1, size + mark.size
        listed = list(target.list(folder.path))
        # What somebody deleted in a bucket with versions is not listed, and its versions would stay for ever.
        for key in sorted({*named.get(folder.path, ())} - {info.key for info in listed}):
            tick()
            target.dispose(key)
        for info in listed:
            tick()
            if info.key == folder.manifest:
                continue
            if not is_attempt(info.key.removeprefix(folder.path).split("/", 1)[0]):
                foreign.append(info.key)
                continue
            target.dispose(info.key)
            objects, size = objects + 1, size + info.size
    return Removed(recovery_point, objects, size, tuple(foreign))


def _folders(catalogue: Catalogue, source: str, recovery_point: str) -> list[RecoveryPointFolder]:
    if RecoveryPointId.parse(recovery_point).kind != WAL:
        return [RecoveryPointFolder(catalogue.system, source, recovery_point)]
    return [
        RecoveryPointFolder(catalogue.system, source, recovery_point, timeline)
        for timeline in catalogue.timelines(source)
    ]
