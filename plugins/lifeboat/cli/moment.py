"""What a person means by a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from lifeboat.cli.output import exact_moment
from lifeboat.errors import RestoreError
from lifeboat.policy.stated_time import stated_time

if TYPE_CHECKING:
    from lifeboat.postgres.moments import Moment


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
    time = stated_time(text, zone)
    if time.tzinfo is not zone:
        return time, exact_moment(time)
    return time, f"{text} on the clock of {zone.key}, which is {exact_moment(time)}"


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
