"""Which WAL a run has to bring: a pure function of what is committed and of what the server says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lifeboat.errors import TimelineConflict
from lifeboat.postgres.details import WalDetails
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.timelines import TimelineHistory


@dataclass(frozen=True)
class Leg:
    """WAL of one timeline that has to be brought.

    Attributes:
        timeline: of the WAL.
        start: a segment's first byte.
        end: where the timeline has ended; ``None`` while it is the server's own.
    """

    timeline: int
    start: Lsn
    end: Lsn | None


def plan_legs(
    committed: Mapping[int, WalDetails],
    *,
    system_identifier: int,
    history: TimelineHistory,
    segment_size: int,
    reserved_from: Lsn,
) -> list[Leg]:
    """The legs from what is committed to the server's present timeline, oldest first.

    Args:
        committed: the newest WAL run of each timeline.
        history: of the server's timeline.
        reserved_from: the slot's position: where to begin when nothing is committed.

    Raises:
        TimelineConflict: what is committed was written by another cluster.
    """
    for details in committed.values():
        _same_cluster(details, system_identifier, segment_size)
    ends = {switch.parent: switch.switch for switch in history.switches}
    lineage = [*ends, history.timeline]
    known = [timeline for timeline in lineage if timeline in committed]
    if not known:
        return [Leg(history.timeline, _segment_start(reserved_from, segment_size), None)]
    newest = known[-1]
    legs: list[Leg] = []
    start = committed[newest].end_lsn
    for timeline in lineage[lineage.index(newest) :]:
        end = ends.get(timeline)
        # A timeline that was left before our position has nothing more for us: what we hold beyond is a dead branch.
        if end is None or start < end:
            legs.append(Leg(timeline, _segment_start(start, segment_size), end))
        if end is not None:
            start = end
    return legs


def _same_cluster(details: WalDetails, system_identifier: int, segment_size: int) -> None:
    if details.system_identifier != system_identifier:
        raise TimelineConflict(
            f"The WAL in the repository was written by the cluster {details.system_identifier}; this server is "
            f"{system_identifier}.",
            "The connection leads to another server, or the cluster was made anew. For a new cluster name a new "
            "source in the policy, so that the old one's recovery points stay apart.",
        )
    if details.segment_size != segment_size:
        raise TimelineConflict(
            f"The server's WAL segments have {segment_size} bytes; those in the repository {details.segment_size}.",
            "pg_resetwal changed the size. Name a new source in the policy for what follows.",
        )


def _segment_start(lsn: Lsn, segment_size: int) -> Lsn:
    return Lsn(lsn - lsn % segment_size)
