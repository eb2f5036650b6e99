"""What a person means by a moment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lifeboat.cli.output import exact_moment
from lifeboat.errors import RestoreError

if TYPE_CHECKING:
    from lifeboat.postgres.moments import Moment

_ASKING = "Write it as 2026-11-22 14:30:00, with an offset or a Z behind it where the policy's time zone is not meant."
_WITH_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}.*")


@dataclass(frozen=True)
class Asked:
    """What was asked for, and how it was understood."""

    moment: Moment
    words: str


def time_in(text: str, zone: ZoneInfo) -> tuple[datetime, str]:
    """Read a time; one without an offset is on the clock of ``zone``. Returns it with how it was understood.

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
        return read, exact_moment(read)
    first, second = read.replace(tzinfo=zone, fold=0), read.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():
        raise RestoreError(
            f"On the clock of {zone.key}, {text} came twice or never: it was changed there.",
            f"Say which is meant: {first.isoformat()} or {second.isoformat()}.",
        )
    return first, f"{text} on the clock of {zone.key}, which is {exact_moment(first)}"


def asked(
    *,
    at: str | None,
    lsn: str | None,
    name: str | None,
    recovery_point: str | None,
    latest: bool,
    zone: ZoneInfo,
) -> Asked:
    """The one moment that the options name; the latest when they name none.

    Raises:
        RestoreError: they name several, or what they name can't be read.
    """
    from lifeboat.postgres.lsn import Lsn
    from lifeboat.postgres.moments import AtLsn, AtName, AtRecoveryPoint, AtTime, Latest
    from lifeboat.repository.layout import RecoveryPointId

    if sum(one is not None for one in (at, lsn, name, recovery_point)) + latest > 1:
        raise RestoreError(
            "More than one moment is asked for.",
            "Give one of --at, --lsn, --name, --recovery-point and --latest.",
        )
    if at is not None:
        time, words = time_in(at, zone)
        return Asked(AtTime(time), words)
    moment: Moment = Latest()
    if lsn is not None:
        moment = AtLsn(Lsn.parse(lsn))
    elif name is not None:
        moment = AtName(name)
    elif recovery_point is not None:
        RecoveryPointId.parse(recovery_point)
        moment = AtRecoveryPoint(recovery_point)
    return Asked(moment, str(moment))
