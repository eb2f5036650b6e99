"""A WAL run that stays with a standby: it looks every so often how far that has replayed, and commits what is new.

    collect what there is ─▶ wait ─▶ how far has it replayed? ─▶ stream to there ─▶ commit ─▶ move the slot
                              ▲                                                                  │
                              └──────────────────────────────────────────────────────────────────┘

Nobody can end a segment there, so the one that is being written is brought anew with each recovery point, up to the end
of the record that was replayed last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from time import monotonic

from lifeboat.errors import TimelineConflict
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.details import wal_details
from lifeboat.postgres.standby import in_recovery, replayed
from lifeboat.postgres.wal_collected import Collected
from lifeboat.postgres.wal_collection import WalCollection
from lifeboat.source import Stay


def follow_standby(
    collection: WalCollection,
    collected: Collected,
    stay: Stay,
    flush_every: timedelta,
    leave_at: float | None,
    tick: Callable[[], None],
) -> Collected:
    """Collect again and again.

    Args:
        collection: entered, and what it ``collected`` first.
        stay: who is told of each recovery point.
        flush_every: how often.
        leave_at: until when, by the monotonic clock; ``None`` until ``stay`` has enough.

    Returns:
        All of it as one.

    Raises:
        LifeboatError: what is committed stays.
    """
    while True:
        flush_at = monotonic() + flush_every.total_seconds()
        leaving = stay.enough()
        while not leaving and monotonic() < flush_at:
            tick()
            time.sleep(TICK_SECONDS)
            leaving = stay.enough() or (leave_at is not None and monotonic() >= leave_at)
        if not in_recovery(collection.session):
            raise TimelineConflict(
                "The standby was promoted while it was followed.",
                "Nothing is lost: the next run brings the end of the old timeline and goes on with the new one.",
            )
        if _has_news(collection, collected):
            more = collection.collect_again()
            for copy in more.copies:
                stay.committed(copy)
            collected = replace(
                more,
                copies=(*collected.copies, *more.copies),
                gap=collected.gap or more.gap,
                branch=collected.branch or more.branch,
            )
        if leaving:
            return collected


def _has_news(collection: WalCollection, collected: Collected) -> bool:
    """Whether more is proven to be covered by now, or a whole segment has come. All else can wait."""
    mark = replayed(collection.session)
    behind = mark.position - wal_details(collected.copies[-1].manifest).end_lsn
    return mark.moment > collected.covered_until or behind >= collection.server.segment_size
