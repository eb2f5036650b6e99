"""The replication slot: the server's promise to keep the WAL that Lifeboat has not committed yet.

Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import PostgresError, SlotLost
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.lsn import Lsn

BUSY_SECONDS = 120.0
"""How long a slot that another session holds is waited for: the server needs up to wal_sender_timeout, a minute by
default, to notice that a worker is dead."""

Session = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Slot:
    """A physical replication slot as the server shows it.

    Attributes:
        name: its name.
        restart_lsn: from here on the server keeps WAL; ``None`` when it was made without reserving any.
        active_pid: the session that uses it at the moment.
        wal_status: ``reserved``, ``extended``, ``unreserved`` or ``lost``.
        safe_wal_size: bytes that may still be written before it is lost; ``None`` without a limit.
    """

    name: str
    restart_lsn: Lsn | None
    active_pid: int | None
    wal_status: str | None
    safe_wal_size: int | None


def find_slot(session: Session, name: str) -> Slot | None:
    """The slot of that name; ``None`` when there is none.

    Raises:
        SlotLost: it is there but can no longer be used.
        PostgresError: a slot of that name is there but is not a physical one.
    """
    row = _one(
        session,
        "SELECT slot_type, restart_lsn::text, active_pid, wal_status, safe_wal_size "
        "FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
        (name,),
    )
    if row is None:
        return None
    kind, restart, pid, status, safe = row
    if kind != "physical":
        raise PostgresError(
            f"The replication slot {name!r} is a {kind} one; Lifeboat needs a physical one.",
            "Name another slot in the source's policy (slot: …).",
        )
    if status == "lost":
        raise SlotLost(
            f"The replication slot {name!r} has lost WAL: the server removed segments that were not collected yet.",
            "Run a daily backup now: it drops the lost slot, makes a new one and begins a new chain. Raise "
            "max_slot_wal_keep_size, or collect WAL more often, so that it does not happen again.",
        )
    return Slot(name, Lsn.parse(restart) if restart else None, pid, status, safe)


def create_slot(session: Session, name: str) -> Slot:
    """Make the slot, with WAL reserved from this moment on; raises ``PostgresError``."""
    _one(session, "SELECT pg_catalog.pg_create_physical_replication_slot(%s, true)", (name,))
    slot = find_slot(session, name)
    if slot is None:
        raise PostgresError(f"The server made no replication slot {name!r}.", "Look at the server's log.")
    return slot


def drop_slot(session: Session, name: str) -> None:
    """Drop the slot; raises ``PostgresError``, also while a session uses it."""
    _one(session, "SELECT pg_catalog.pg_drop_replication_slot(%s)", (name,))


def wait_until_free(session: Session, name: str, *, tick: Callable[[], None], seconds: float | None = None) -> None:
    """Wait until no session uses the slot: one may be left over from a worker that died. A slot that is lost, or not
    there, is free.

    Args:
        seconds: how long; ``BUSY_SECONDS`` unless told.

    Raises:
        PostgresError: it is still in use after that time.
    """
    limit = BUSY_SECONDS if seconds is None else seconds
    deadline = time.monotonic() + limit
    statement = "SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
    while (row := _one(session, statement, (name,))) is not None and row[0] is not None:
        if time.monotonic() > deadline:
            raise PostgresError(
                f"The replication slot {name!r} is still used by the server's process {row[0]} after {limit:.0f} s.",
                "Another run collects WAL at this moment, or something else uses our slot: look for that process in "
                "pg_stat_replication.",
            )
        tick()
        time.sleep(TICK_SECONDS)


def held_by(session: Session, name: str, application: str) -> bool:
    """Whether the slot is used by a session that calls itself so; raises ``PostgresError``."""
    # NAMEDATALEN - 1 bytes of an application's name are kept.
    row = _one(
        session,
        "SELECT application_name FROM pg_catalog.pg_replication_slots JOIN pg_catalog.pg_stat_activity"
        " ON pid = active_pid WHERE slot_name = %s",
        (name,),
    )
    return row is not None and row[0] == application.encode()[:63].decode(errors="ignore")


def advance_slot(session: Session, name: str, to: Lsn) -> None:
    """Let the server forget the WAL before ``to``. Only when that WAL is committed; raises ``PostgresError``."""
    _one(session, "SELECT pg_catalog.pg_replication_slot_advance(%s, %s::pg_lsn)", (name, str(to)))


def _one(session: Session, statement: str, values: tuple[Any, ...]) -> TupleRow | None:
    try:
        return session.execute(statement.encode(), values).fetchone()
    except psycopg.Error as error:
        reason = error.diag.message_primary or str(error).splitlines()[0]
        raise PostgresError(
            f"The server refused what concerns the replication slot {values[0]!r}: {reason}.",
            "`lifeboat backup` checks privileges and free slots before it begins; see pg_replication_slots.",
        ) from error
