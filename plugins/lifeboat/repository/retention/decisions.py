"""What a plan decides about each copy, each with its reason in a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import Enum

from lifeboat.repository.retention.points import HeldPoint


class Action(Enum):
    """What happens to a copy."""

    STAYS = "stays"
    GOES = "goes"
    """It gets a tombstone: readers no longer see it, and until its window ends that can be taken back."""
    WAITS = "waits"
    """It has a tombstone, and its window has not ended, or something that can still be taken back needs it."""
    RETURNS = "returns"
    """Its tombstone is taken back: a rule keeps it now."""
    PURGED = "purged"
    """Its bytes are removed."""


class Reason(Enum):
    """Why. The first that holds is the one that is told."""

    FROZEN = "frozen"
    HOLD = "hold"
    NEWEST = "newest"
    TIER = "tier"
    UNKNOWN_TIER = "unknown tier"
    WINDOW = "window"
    NEXT = "next"
    LEADS_ON = "leads on"
    NEEDED = "needed"
    LOCK = "lock"
    COPIES = "copies"
    NOTHING_VERIFIED = "nothing verified"
    PAST_TIER = "past tier"
    PAST_TARGET = "past target"
    UNDELETE = "undelete"
    NEEDED_BY_DELETED = "needed by deleted"
    UNDELETE_ENDED = "undelete ended"


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one copy, and why.

    Attributes:
        target: whose copy.
        point: of what.
        about: what the reason is about: a tier, a count, a sentence.
        until: the moment that the reason is about.
    """

    target: str
    point: HeldPoint
    action: Action
    reason: Reason
    about: str = ""
    until: datetime | None = None

    def sentence(self, zone: tzinfo) -> str:
        """The decision for people, dates on the clock of a zone."""
        return f"{_VERBS[self.action]}{self._because(zone)}."

    def _because(self, zone: tzinfo) -> str:
        when = "" if self.until is None else f"{self.until.astimezone(zone):%Y-%m-%d %H:%M}"
        match self.reason:
            case Reason.TIER:
                return f" as the {self.about} of {_day_of(self.about, self.point.moment.astimezone(zone))}"
            case Reason.PAST_TIER:
                return f": {self.about}, and made before {when}"
            case Reason.PAST_TARGET:
                return f": made before {when}, and this target keeps copies no longer"
            case _:
                return _SENTENCES[self.reason].format(about=self.about, when=when)


def _day_of(tier: str, moment: datetime) -> str:
    if tier == "yearly":
        return f"{moment:%Y}"
    if tier == "monthly":
        return f"{moment:%B %Y}"
    if tier == "weekly":
        return f"week {moment:%V of %G}"
    return f"{moment:%Y-%m-%d}" if tier in ("daily", "export") else f"{moment:%Y-%m-%d %H:%M}"


_VERBS = {
    Action.STAYS: "Kept",
    Action.GOES: "Goes",
    Action.WAITS: "Deleted",
    Action.RETURNS: "Taken back",
    Action.PURGED: "Removed",
}
_SENTENCES = {
    Reason.FROZEN: ": {about}",
    Reason.HOLD: ": held ({about})",
    Reason.NEWEST: ": among the newest verified of its kind",
    Reason.UNKNOWN_TIER: ": the policy no longer says how long its tier {about} is kept",
    Reason.WINDOW: ": recovery to any moment since {when} begins with it",
    Reason.NEXT: ": it takes the place of {about}, which recovery to any moment begins with now",
    Reason.LEADS_ON: ": it leads on from a backup of {when} that is kept for recovery to any moment",
    Reason.NEEDED: ", since {about}",
    Reason.LOCK: ": the store has locked it until {when}",
    Reason.COPIES: ": too few verified copies would stay elsewhere ({about})",
    Reason.NOTHING_VERIFIED: ": nothing of its kind is verified here",
    Reason.UNDELETE: ", can be taken back until {when}",
    Reason.NEEDED_BY_DELETED: ", stays as long as {about}",
    Reason.UNDELETE_ENDED: ": deleted, and could be taken back until {when}",
}
