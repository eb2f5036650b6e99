"""The replication slot that keeps WAL for us until it is stored.

Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from lifeboat.postgres.lsn import Lsn
from lifeboat.targets.target import Finding


@dataclass(frozen=True)
class SlotState:
    """A replication slot as the server describes it.

    Attributes:
        name: of the slot.
        kind: ``physical`` or ``logical``.
        temporary: gone with the session that made it.
        active_pid: the server process that uses it now; ``None`` when nobody does.
        active_by: application and address of that user, as far as the role may see.
        restart: the oldest WAL it keeps; ``None`` when it keeps none.
        wal_status: ``reserved``, ``extended``, ``unreserved`` or ``lost``; ``None`` when it keeps none.
        safe_bytes: how much WAL may still be written before it is lost; ``None`` when there is no limit.
        lag_bytes: WAL between ``restart`` and now.
    """

    name: str
    kind: str
    temporary: bool
    active_pid: int | None
    active_by: str
    restart: Lsn | None
    wal_status: str | None
    safe_bytes: int | None
    lag_bytes: int | None


def slot_state(sql: psycopg.Connection[TupleRow], name: str) -> SlotState | None:
    """The slot's present state; ``None`` when there is none of that name. Raises ``psycopg.Error``."""
    row = sql.execute(
        "SELECT s.slot_type, s.temporary, s.active_pid, concat_ws(' from ', nullif(a.application_name, ''),"
        " coalesce(a.client_addr::text, 'a socket')), s.restart_lsn::text, s.wal_status, s.safe_wal_size,"
        " pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,"
        " s.restart_lsn)::bigint"
        " FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = %s",
        [name],
    ).fetchone()
    if row is None:
        return None
    kind, temporary, pid, by, restart, status, safe, lag = row
    return SlotState(name, kind, temporary, pid, by, Lsn.parse(restart) if restart else None, status, safe, lag)


def slot_findings(name: str, slot: SlotState | None) -> list[Finding]:
    """Whether the slot is there, ours to use, and still keeps the WAL that it must keep."""
    if slot is None:
        return [Finding("ok", "slot", f"There is no replication slot {name!r} yet: the first backup makes it.")]
    wrong = _wrong_kind(slot)
    if wrong is not None:
        return [wrong]
    drop = f"SELECT pg_drop_replication_slot('{name}'); then take a new full backup."
    if slot.wal_status == "lost":
        what = f"Replication slot {name!r} is lost: WAL that was not stored yet has been removed by the server."
        return [Finding("error", "slot", what, drop)]
    if slot.restart is None:
        what = f"Replication slot {name!r} keeps no WAL: it was made without reserving any."
        return [Finding("error", "slot", what, drop)]
    return [_room(slot), *_use(slot)]


def _wrong_kind(slot: SlotState) -> Finding | None:
    if slot.kind != "physical" or slot.temporary:
        kind = f"{'temporary ' if slot.temporary else ''}{slot.kind}"
        return Finding(
            "error",
            "slot",
            f"Replication slot {slot.name!r} is a {kind} slot of somebody else; ours is physical and permanent.",
            "Name another slot in the policy.",
        )
    return None


def _room(slot: SlotState) -> Finding:
    lag = "" if slot.lag_bytes is None else f", {slot.lag_bytes:,} bytes behind"
    safe = "" if slot.safe_bytes is None else f"; {slot.safe_bytes:,} more bytes of WAL are safe"
    what = f"Replication slot {slot.name!r} keeps WAL from {slot.restart} ({slot.wal_status}{lag}{safe})."
    if slot.wal_status == "unreserved":
        return Finding(
            "warning",
            "slot",
            what + " The server removes it at its next checkpoint.",
            "Run WAL collection now, and raise max_slot_wal_keep_size.",
        )
    return Finding("ok", "slot", what)


def _use(slot: SlotState) -> list[Finding]:
    if slot.active_pid is None:
        return []
    return [
        Finding(
            "warning",
            "slot",
            f"Replication slot {slot.name!r} is in use by server process {slot.active_pid} ({slot.active_by}).",
            "A run under way ends by itself. If none is: "
            f"SELECT pg_terminate_backend({slot.active_pid}); as a superuser or with pg_signal_backend.",
        )
    ]
