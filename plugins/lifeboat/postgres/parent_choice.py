"""What an incremental builds upon, or why a full is taken instead. Pure functions.

The parent is the newest verified link on the server's own history. Where the server can't tell for sure what has
changed since then, an incremental would lack blocks, and nobody would see it before the restore: a full is taken, and
said. So it is after WAL was lost: what comes then shall not stand on a chain from before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.reach import Base

INCREMENTAL_SINCE = 17
Standing = Literal["verified", "failed", "unknown"]
"""What the journal says last of a copy on the primary target; ``unknown``: nothing."""
TOO_OLD_REMEDY = (
    "Incremental backups take PostgreSQL 17 or later. Upgrade the server, or let the tier take fulls "
    "(`instead: full`), or remove the tier from the policy."
)
SWITCH_ON = "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();"


@dataclass(frozen=True)
class Summary:
    """A WAL summary on the server: which blocks were changed by the WAL from ``start`` to ``end``."""

    timeline: int
    start: Lsn
    end: Lsn


@dataclass(frozen=True)
class ServerState:
    """The server as the choice finds it.

    Attributes:
        position: up to where it has written WAL.
        checksums: whether its data pages carry checksums.
        summarizing: whether ``summarize_wal`` is on.
        summaries: what it has; ``None`` where the role may not look: then the server itself refuses, later.
        summarized: up to where the summaries reach; ``None`` where that is not known.
    """

    system_identifier: int
    timeline: int
    position: Lsn
    checksums: bool
    summarizing: bool
    summaries: tuple[Summary, ...] | None
    summarized: Lsn | None


@dataclass(frozen=True)
class ParentChoice:
    """What comes of it.

    Attributes:
        parent: to build upon; ``None``: a full is taken.
        reason: why a full is taken; empty with a parent.
        remarks: what else a person should know: newer links that were passed over.
    """

    parent: Base | None
    reason: str = ""
    remarks: tuple[str, ...] = ()


def choose_parent(
    bases: Sequence[Base],
    standing: Mapping[str, Standing],
    server: ServerState,
    longest_chain: int,
    full_due: str = "",
) -> ParentChoice:
    """Choose the parent.

    Args:
        bases: the good fulls, and incrementals with whole chains, on the primary target; oldest first.
        standing: of each of them, by its id.
        longest_chain: how many incrementals may stand on one full.
        full_due: why a full has to be taken whatever the links are like, such as lost WAL; empty when none has.
    """
    if not server.summarizing:
        return ParentChoice(None, f"summarize_wal is off on the server ({SWITCH_ON})")
    if not bases:
        return ParentChoice(None, "there is no full yet to build upon")
    if full_due:
        return ParentChoice(None, full_due)
    newest = bases[-1]
    here = [base for base in bases if _on_its_history(base, server)]
    if not here:
        return ParentChoice(None, _other_history(newest, server))
    passed_over: list[str] = []
    for base in reversed(here):
        if not (lacking := _unproven(base, standing)):
            reason = _unfit(base, server, longest_chain)
            return ParentChoice(None if reason else base, reason, tuple(passed_over))
        passed_over.append(f"{base.manifest.recovery_point} was not built upon: {lacking}")
    return ParentChoice(None, f"no link is verified on the primary target: {passed_over[0]}", tuple(passed_over[1:]))


def _on_its_history(base: Base, server: ServerState) -> bool:
    details = base.details
    return (details.system_identifier, details.timeline) == (server.system_identifier, server.timeline)


def _other_history(newest: Base, server: ServerState) -> str:
    details = newest.details
    if details.system_identifier != server.system_identifier:
        return (
            f"the server's system identifier is {server.system_identifier}, and the newest link, "
            f"{newest.manifest.recovery_point}, was made of {details.system_identifier}"
        )
    return (
        f"the server is on timeline {server.timeline}, and the newest link, {newest.manifest.recovery_point}, is on "
        f"{details.timeline}: it was promoted since"
    )


def _unproven(base: Base, standing: Mapping[str, Standing]) -> str:
    own = standing.get(base.manifest.recovery_point, "unknown")
    if own != "verified":
        return "its last verification failed" if own == "failed" else "it was never verified"
    for link in base.below:
        if standing.get(link.manifest.recovery_point) == "failed":
            return f"the last verification of {link.manifest.recovery_point}, below it, failed"
    return ""


def _unfit(base: Base, server: ServerState, longest_chain: int) -> str:
    details, name = base.details, base.manifest.recovery_point
    if server.position < details.stop_lsn:
        return f"the server is at {server.position}, before the end of {name}: it was put back to an older state"
    if server.checksums != details.server.data_checksums:
        return f"data checksums were switched {'on' if server.checksums else 'off'} since {name}"
    if len(base.below) >= longest_chain:
        return f"the chain of {base.manifest.chain} has {len(base.below)} incrementals, as many as the policy allows"
    return summaries_lacking(base, server)


def summaries_lacking(base: Base, server: ServerState) -> str:
    """Why the server's WAL summaries can't tell what has changed since a link's start; empty where they can, or where
    that is not known yet: they are written a little after the WAL.

    A summary ends where a checkpoint begins, and a backup starts at one. A server that was put back to an older state,
    or is a clone, has its checkpoints elsewhere: its summaries may cover the position, but have no seam in it.
    """
    start = base.details.start_lsn
    if server.summaries is None or (server.summarized is not None and server.summarized <= start):
        return ""
    own = sorted((one for one in server.summaries if one.timeline == server.timeline), key=lambda one: one.start)
    position = start
    for summary in own:
        if summary.start <= position < summary.end:
            position = summary.end
    name = base.manifest.recovery_point
    if position == start:
        return f"the server's WAL summaries do not reach back to {start}, where {name} starts"
    if any(summary.start > position for summary in own):
        return f"the server has no WAL summary behind {position}, and later ones"
    if not any(start in (summary.start, summary.end) for summary in own):
        return f"no WAL summary of the server has a seam at {start}, where {name} starts: it has another history"
    return ""
