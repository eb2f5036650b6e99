"""What unfinished work left behind: attempts that were never committed, and uploads that never ended.

Readers ignore all of it. It is removed once it is old enough that no live run can own it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from lifeboat.errors import RecoveryPointMissing
from lifeboat.repository.catalogue import Catalogue
from lifeboat.repository.layout import (
    WAL,
    RecoveryPointFolder,
    is_attempt,
    is_recovery_point,
    source_folder,
)
from lifeboat.targets.target import ObjectInfo, Target

SAFELY_OLD = timedelta(hours=48)
"""Longer than any run of ours may last: nothing younger is touched."""


def find_remains(catalogue: Catalogue, source: str, *, now: datetime) -> list[str]:
    """Keys of objects that belong to no committed attempt and whose newest neighbour is safely old.

    Objects whose names are not ours are never among them.
    """
    keys: list[str] = []
    folders = [
        RecoveryPointFolder(catalogue.system, source, name, timeline)
        for timeline in [None, *catalogue.timelines(source)]
        for name in catalogue.target.list_folders(source_folder(catalogue.system, source, timeline))
        if is_recovery_point(name) and name != WAL
    ]
    for folder in folders:
        keys.extend(_remains_of(catalogue, folder, now))
    return keys


def _remains_of(catalogue: Catalogue, folder: RecoveryPointFolder, now: datetime) -> Iterable[str]:
    try:
        committed: str | None = catalogue.read(folder).manifest.attempt
    except RecoveryPointMissing:
        committed = None
    # A manifest that can't be believed is a reason to look, never one to delete: ManifestInvalid ends the search.
    attempts: dict[str, list[ObjectInfo]] = {}
    for info in catalogue.target.list(folder.path):
        attempt = info.key.removeprefix(folder.path).split("/", 1)[0]
        if is_attempt(attempt) and attempt != committed:
            attempts.setdefault(attempt, []).append(info)
    for objects in attempts.values():
        if max(info.modified for info in objects) < now - SAFELY_OLD:
            yield from (info.key for info in objects)


def remove_remains(catalogue: Catalogue, source: str, *, now: datetime) -> list[str]:
    """Remove them, and uploads below the source's folder that never ended; returns what was removed."""
    target: Target = catalogue.target
    keys = find_remains(catalogue, source, now=now)
    for key in keys:
        target.delete(key)
    uploads = target.abandon_uploads(source_folder(catalogue.system, source), older_than=now - SAFELY_OLD)
    return [*keys, *uploads]
