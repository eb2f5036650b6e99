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
        begins: where the timeline left its parent; ``None`` for one without.
    """

    timeline: int
    start: Lsn
    end: Lsn | None
    begins: Lsn | None = None


def plan_legs(
    committed: Mapping[int, WalDetails],
    *,
    system_identifier: int,
    history: TimelineHistory,
    segment_size: int,
    reserved_from: Lsn,
    position: Lsn,
) -> list[Leg]:
    """The legs from what is committed to the server's present timeline, oldest first.

    Args:
        committed: the newest WAL run of each timeline.
        history: of the server's timeline.
        reserved_from: the slot's position: where to begin when nothing is committed.
        position: up to where the server has written: a segment's end.

    Raises:
        TimelineConflict: what is committed was written by another cluster, or by this one in another life.
    """
    for details in committed.values():
        _same_cluster(details, system_identifier, segment_size)
    ends = {switch.parent: switch.switch for switch in history.switches}
    lineage = [*ends, history.timeline]
    begins: dict[int, Lsn | None] = dict(zip(lineage, [None, *ends.values()], strict=True))
    known = [timeline for timeline in lineage if timeline in committed]
    if not known:
        start = _segment_start(reserved_from, segment_size)
        return [Leg(history.timeline, start, None, begins[history.timeline])]
    for timeline in known:
        _same_beginning(committed[timeline], begins[timeline])
    newest = known[-1]
    if newest == history.timeline:
        _not_behind(committed[newest], position)
    legs: list[Leg] = []
    start = committed[newest].end_lsn
    for timeline in lineage[lineage.index(newest) :]:
        end = ends.get(timeline)
        # A timeline that was left before our position has nothing more for us: what we hold beyond is a dead branch.
        if end is None or start < end:
            legs.append(Leg(timeline, _segment_start(start, segment_size), end, begins[timeline]))
        if end is not None:
            start = end
    return legs


def branch_in_words(committed: Mapping[int, WalDetails], history: TimelineHistory) -> str:
    """What is odd about a server whose timeline is older than one in the repository that is no ancestor of it: an old
    primary that went on after another server was promoted, or the other way round. Empty when nothing is odd."""
    lineage = {history.timeline, *(switch.parent for switch in history.switches)}
    others = [timeline for timeline in committed if timeline not in lineage and timeline > history.timeline]
    if not others:
        return ""
    return (
        f"The server writes timeline {history.timeline}, but the repository has WAL of timeline {max(others)}, which "
        "is no ancestor of it: two servers went different ways. Both are kept apart. See to which of them the "
        "connection should lead."
    )


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


def _same_beginning(details: WalDetails, begins: Lsn | None) -> None:
    if details.begins != begins:
        raise TimelineConflict(
            f"Timeline {details.timeline} of this server begins at {begins or 'the beginning'}; in the repository it "
            f"begins at {details.begins or 'the beginning'}.",
            "Two servers were promoted, or restored, to the same timeline. Nothing was collected. Let the connection "
            "lead to the server that the repository knows, or name a new source in the policy for this one.",
        )


def _not_behind(details: WalDetails, position: Lsn) -> None:
    if position < details.end_lsn:
        raise TimelineConflict(
            f"The server has written up to {position} on timeline {details.timeline}; the repository has its WAL up to "
            f"{details.end_lsn}.",
            "The server was brought back from an older state without a new timeline (a snapshot, a copied data "
            "directory), or is another one. Nothing was collected: its WAL would contradict what is stored. Name a "
            "new source in the policy for it.",
        )


def _segment_start(lsn: Lsn, segment_size: int) -> Lsn:
    return Lsn(lsn - lsn % segment_size)
