"""What a standby means for the backups that are read from it.

Source: https://www.postgresql.org/docs/current/hot-standby.html and
https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-WAL-RECEIVER-VIEW
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import PostgresError
from lifeboat.postgres.standby import PROMOTED, REFUSED_REMEDY, replayed
from lifeboat.targets.target import Finding

Session = psycopg.Connection[TupleRow]
FAR_BEHIND_BYTES = 256 * 1024 * 1024
SHORT_DELAY_SECONDS = 3600
"""A read of a whole database that begins while a conflict is pending gets what is left of the delay."""


def role_findings(sql: Session, *, allowed: bool, reads_tables: bool = False) -> list[Finding]:
    """Whether the server is what the policy says, and how a standby fares.

    Args:
        allowed: whether the policy says that a standby may be read.
        reads_tables: whether rows are read by SQL, which replay may have to interrupt.
    """
    if not in_recovery(sql):
        if allowed:
            return [Finding("warning", "server role", PROMOTED)]
        return [Finding("ok", "server role", "The server is a primary.")]
    if not allowed:
        what = "The server is a standby (in recovery), and the policy names no standby to be read."
        return [Finding("error", "server role", what, REFUSED_REMEDY)]
    return [_progress(sql), *_source(sql), *_held_back(sql), *(_conflicts(sql) if reads_tables else [])]


def in_recovery(sql: Session) -> bool:
    """Whether the server is a standby; raises ``psycopg.Error``, as all questions of a preflight do."""
    return bool(_one(sql, "SELECT pg_is_in_recovery()"))


def full_page_writes(sql: Session) -> str:
    """The primary's setting, as the last checkpoint that a standby has replayed says it: ``on`` or ``off``."""
    return "on" if _one(sql, "SELECT full_page_writes FROM pg_control_checkpoint()") else "off"


def _progress(sql: Session) -> Finding:
    try:
        mark = replayed(sql)
    except PostgresError as error:
        return Finding("error", "server role", error.what, error.remedy)
    behind = _one(sql, "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::int8") or 0
    what = (
        f"The server is a standby, as the policy says. It has replayed up to {mark.position}, what was committed by "
        f"{mark.moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC at the latest; {max(behind, 0):,} bytes wait for replay."
    )
    if behind > FAR_BEHIND_BYTES:
        remedy = "Its backups are as old as that: look what holds its replay up (a long query, its disks)."
        return Finding("warning", "server role", what, remedy)
    return Finding("ok", "server role", what)


def _source(sql: Session) -> list[Finding]:
    if _one(sql, "SELECT count(*) FROM pg_stat_wal_receiver WHERE pid IS NOT NULL"):
        return []
    what = "The standby does not stream from its primary: it gets WAL from an archive, late, or none at all."
    remedy = "Look at primary_conninfo and at the standby's log. What it does not get is in no backup."
    return [Finding("warning", "wal receiver", what, remedy)]


def _held_back(sql: Session) -> list[Finding]:
    findings = []
    if _one(sql, "SELECT pg_is_wal_replay_paused()"):
        what = "Replay is paused on the standby: its backups stay where it stands."
        findings.append(Finding("warning", "replay", what, "SELECT pg_wal_replay_resume(); on the standby."))
    delay = int(_one(sql, "SELECT setting FROM pg_settings WHERE name = 'recovery_min_apply_delay'") or 0)
    if delay:
        what = f"The standby replays {delay / 1000:,.0f} s late (recovery_min_apply_delay): its backups are as old."
        remedy = "Read another standby where that is more than the objective allows."
        findings.append(Finding("warning", "replay", what, remedy))
    return findings


def _conflicts(sql: Session) -> list[Finding]:
    rows = sql.execute(
        "SELECT name, setting FROM pg_settings WHERE name IN ('hot_standby_feedback', 'max_standby_streaming_delay')"
    ).fetchall()
    settings: dict[str, str] = dict(rows)
    delay = int(settings["max_standby_streaming_delay"])
    if settings["hot_standby_feedback"] == "on" or delay == -1 or delay >= SHORT_DELAY_SECONDS * 1000:
        return [Finding("ok", "recovery conflicts", "The standby lets long reads go on.")]
    what = (
        "hot_standby_feedback is off, and max_standby_streaming_delay is "
        f"{delay / 1000:,.0f} s: a read that takes longer may be cancelled by what the standby has to replay."
    )
    remedy = (
        "On the standby: ALTER SYSTEM SET max_standby_streaming_delay = '6h' (replay then waits for the read), or "
        "hot_standby_feedback = on (the primary then keeps old rows for it); SELECT pg_reload_conf();"
    )
    return [Finding("warning", "recovery conflicts", what, remedy)]


def _one(sql: Session, query: str) -> Any:
    row = sql.execute(query.encode()).fetchone()
    return None if row is None else row[0]
