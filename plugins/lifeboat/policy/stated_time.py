"""A time as a person states it: with an offset, or on the clock of a policy's zone."""

from __future__ import annotations

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from lifeboat.errors import RestoreError

_ASKING = "Write it as 2026-11-22 14:30:00, with an offset or a Z behind it where the policy's time zone is not meant."
_WITH_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}.*")


def stated_time(text: str, zone: ZoneInfo) -> datetime:
    """Read a time; one without an offset is on the clock of ``zone``.

    Raises:
        RestoreError: it is no time, or the clock of the zone showed it twice or never.
    """
    try:
        read = datetime.fromisoformat(text.strip())
    except ValueError:
        read = None
    if read is None or _WITH_TIME.fullmatch(text.strip()) is None:
        raise RestoreError(f"{text!r} is not read as a moment.", _ASKING)
    if read.tzinfo is not None:
        return read
    first, second = read.replace(tzinfo=zone, fold=0), read.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():
        raise RestoreError(
            f"On the clock of {zone.key}, {text} came twice or never: it was changed there.",
            f"Say which is meant: {first.isoformat()} or {second.isoformat()}.",
        )
    return first
