"""The journal of a target that was away: the events it missed, carried to it from another target as they are."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from lifeboat.errors import ManifestInvalid, ObjectExists, ObjectMissing
from lifeboat.repository.journal import parse_event
from lifeboat.repository.layout import journal_folder
from lifeboat.repository.signing import TrustedKeys
from lifeboat.targets.target import Target

_log = logging.getLogger(__name__)

ALWAYS_LOOKED_AT = 2
"""Days that are always compared: an outage that ended before midnight shows yesterday only."""


def carry_events(
    origin: Target, target: Target, system: str, trusted: TrustedKeys, *, now: datetime, back: timedelta
) -> int:
    """Bring ``target`` the events that ``origin`` has and it has not; returns how many.

    Today and yesterday are compared, and as many days before as lack something, down to ``back`` before ``now``. An
    event that can't be believed is not carried.

    Raises:
        TargetError: one of both targets failed.
    """
    carried = 0
    today = now.astimezone(UTC)
    for age in range(back.days + 1):
        folder = journal_folder(system, today - timedelta(days=age))
        theirs = {info.key for info in target.list(folder)}
        missing = [info.key for info in origin.list(folder) if info.key not in theirs]
        if not missing and age >= ALWAYS_LOOKED_AT - 1:
            break
        carried += sum(_carry(origin, target, key, trusted) for key in missing)
    return carried


def _carry(origin: Target, target: Target, key: str, trusted: TrustedKeys) -> bool:
    try:
        document = origin.read(key)
        parse_event(document, key, trusted)
        target.put_new(key, document)
    except ManifestInvalid as error:
        _log.warning("An event is not carried to target %s: %s", target.name, error)
        return False
    except (ObjectExists, ObjectMissing):
        return False  # somebody was faster
    return True
