"""What unfinished work left behind: attempts that were never committed, and uploads that never ended.

Readers ignore all of it. It is removed once it is old enough that no live run can own it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from itertools import groupby

from lifeboat.errors import RecoveryPointMissing
from lifeboat.repository.catalogue import Catalogue
from lifeboat.repository.layout import (
    WAL,
    RecoveryPointFolder,
    is_attempt,
    is_recovery_point,
    source_folder,
    timeline_of,
)
from lifeboat.targets.target import ObjectInfo, Target

SAFELY_OLD = timedelta(hours=48)
"""Longer than any run of ours may last: nothing younger is touched."""


def find_remains(
    catalogue: Catalogue, source: str, *, now: datetime, leave: Collection[str] = frozenset()
) -> list[str]:
    """Keys of objects that belong to no committed attempt and whose newest neighbour is safely old.

    Objects whose names are not ours are never among them.

    Args:
        leave: recovery points that were set aside: nothing of theirs is looked at.
    """
    keys: list[str] = []
    root = source_folder(catalogue.system, source)
    # Thousands of small folders of WAL: one listing of everything is cheaper than a look into each.
    listed = catalogue.target.list(root)
    for folder, objects in groupby(listed, key=lambda info: _folder_of(catalogue.system, source, info.key)):
        if folder is not None and folder.recovery_point not in leave:
            keys.extend(_remains_of(catalogue, folder, list(objects), now))
    return keys


def _folder_of(system: str, source: str, key: str) -> RecoveryPointFolder | None:
    parts = key.removeprefix(source_folder(system, source)).split("/")
    timeline = None
    if parts[0] == WAL and len(parts) > 1:
        timeline = timeline_of(parts[1])
        parts = parts[2:] if timeline is not None else []
    if len(parts) > 1 and is_recovery_point(parts[0]):
        return RecoveryPointFolder(system, source, parts[0], timeline)
    return None


def _remains_of(
    catalogue: Catalogue, folder: RecoveryPointFolder, objects: Iterable[ObjectInfo], now: datetime
) -> Iterable[str]:
    attempts: dict[str, list[ObjectInfo]] = {}
    is_committed = False
    for info in objects:
        is_committed = is_committed or info.key == folder.manifest
        attempt = info.key.removeprefix(folder.path).split("/", 1)[0]
        if is_attempt(attempt):
            attempts.setdefault(attempt, []).append(info)
    old = [name for name, held in attempts.items() if max(info.modified for info in held) < now - SAFELY_OLD]
    if not old or (is_committed and len(attempts) == 1):
        return  # the only attempt is the one that was committed
    try:
        committed: str | None = catalogue.read(folder).manifest.attempt
    except RecoveryPointMissing:
        committed = None
    # A manifest that can't be believed is a reason to look, never one to delete: ManifestInvalid ends the search.
    for name in old:
        if name != committed:
            yield from (info.key for info in attempts[name])


def remove_remains(
    catalogue: Catalogue, source: str, *, now: datetime, leave: Collection[str] = frozenset()
) -> list[str]:
    """Remove them, and uploads below the source's folder that never ended; returns what was removed."""
    target: Target = catalogue.target
    keys = find_remains(catalogue, source, now=now, leave=leave)
    for key in keys:
        target.delete(key)
    uploads = target.abandon_uploads(source_folder(catalogue.system, source), older_than=now - SAFELY_OLD)
    return [*keys, *uploads]
