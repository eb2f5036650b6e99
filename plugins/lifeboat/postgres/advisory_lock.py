"""Keeping two pieces of work on one server apart, whoever does them and wherever.

An advisory lock of the session's own database: it goes with the session, so a dead worker leaves none.
Source: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import psycopg

from lifeboat.errors import PostgresError
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.refusals import clean_message

LOOK_SECONDS = 1.0
Session = psycopg.Connection[Any]
LOCKS_HELD = """
    SELECT (classid::int8 << 32) | objid::int8 FROM pg_catalog.pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted"""
"""The keys of the locks that anybody has, in whichever database; see :func:`key_of`."""


def key_of(words: str) -> int:
    """The number of the lock of that name."""
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big", signed=True)


def take_lock(session: Session, words: str) -> bool:
    """Take the lock of that name until the session ends; whether nobody else has it.

    Raises:
        PostgresError: the server gave no answer.
    """
    try:
        row = session.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (key_of(words),)).fetchone()
    except psycopg.Error as error:
        raise PostgresError(
            f"The server did not say whether another run is under way: {clean_message(str(error))}.", "Look at its log."
        ) from error
    return row is not None and bool(row[0])


def wait_for_lock(session: Session, words: str, *, tick: Callable[[], None], seconds: float | None = None) -> bool:
    """Wait until nobody else has it, for so long at most; whether it was taken.

    Args:
        tick: called about four times a second; may raise to stop.
        seconds: ``None`` waits for as long as it takes.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while not take_lock(session, words):
        if deadline is not None and time.monotonic() > deadline:
            return False
        _wait_a_moment(tick)
    return True


def _wait_a_moment(tick: Callable[[], None]) -> None:
    """Let time pass, and look around meanwhile: who has it may have it for hours."""
    look_at = time.monotonic() + LOOK_SECONDS
    while (left := look_at - time.monotonic()) > 0:
        tick()
        time.sleep(min(TICK_SECONDS, left))
