"""WAL that was lost, and the full that is due because of it. Pure functions of manifests.

What was committed after lost WAL can be reached only from a base that was taken after it. An incremental would be such
a base, too: the server's summaries tell it what has changed meanwhile. But then everything after the loss would stand
on a chain from before it, and on summaries of WAL that nobody can look at any more. A full stands alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lifeboat.postgres.details import LostWal, WalDetails
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.reach import Base, brought_by_itself, leads_to
from lifeboat.postgres.timelines import TimelineHistory


def handed_on(committed: Mapping[int, WalDetails], history: TimelineHistory) -> LostWal | None:
    """What the newest committed runs say was lost, on the history of the server's timeline.

    Args:
        committed: the newest WAL run of each timeline.
    """
    lineage = (history.timeline, *(switch.parent for switch in reversed(history.switches)))
    newest = next((committed[timeline] for timeline in lineage if timeline in committed), None)
    return None if newest is None else newest.lost


def stands_behind(base: Base, lost: LostWal, history: TimelineHistory) -> bool:
    """Whether recovery from a base needs nothing of what is lost: the base ends behind it, on the same history."""
    return leads_to(base, history) and brought_by_itself(base) >= lost.end


def lost_before(start: Lsn, fulls: Iterable[Base], history: TimelineHistory) -> LostWal | None:
    """What lies between the newest full and the first WAL that a source ever collects, which begins at ``start``;
    ``None`` where one joins the other, or no full leads there."""
    ends = [(brought_by_itself(base), base.details.timeline) for base in fulls if leads_to(base, history)]
    end, timeline = max(ends, default=(start, history.timeline))
    return LostWal(timeline=timeline, start=end, end=start) if end < start else None


def because_of(lost: LostWal) -> str:
    """Why a full is due, in a sentence."""
    return (
        f"A full is due because {lost} is lost: moments after it can be reached only from a full taken after it, and "
        "there is no verified one yet."
    )


def mark_of(lost: LostWal) -> str:
    """A name for the loss, the same whoever asks: letters, digits and hyphens."""
    return f"{lost.timeline:x}-{int(lost.end):x}"
