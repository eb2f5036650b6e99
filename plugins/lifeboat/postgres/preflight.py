"""Everything that a physical backup needs of a server, looked at before it begins; nothing on the server is changed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import LifeboatError, PostgresError
from lifeboat.outside import utc_now
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.preflight_settings import (
    capacity_findings,
    incremental_findings,
    setting_findings,
    synchronous_findings,
    version_findings,
)
from lifeboat.postgres.preflight_slot import slot_findings, slot_state
from lifeboat.postgres.preflight_standby import full_page_writes, in_recovery, role_findings
from lifeboat.postgres.refusals import clean_message, quoted
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.server_facts import IN_PLACE_SINCE, LEFT_OUT_REMEDY, files_outside, tablespaces_of
from lifeboat.targets.target import Finding

Session = psycopg.Connection[TupleRow]
CLOCK_TOLERANCE = timedelta(seconds=5)
_PASSWORD_ENDS_SOON = timedelta(days=14)
_SETTINGS = (
    "archive_mode",
    "data_checksums",
    "fsync",
    "full_page_writes",
    "idle_replication_slot_timeout",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "wal_level",
)


def preflight(
    sql: Session,
    open_replication: Callable[[], ReplicationConnection],
    *,
    parameters: ConnectionParameters,
    slot_name: str,
    tiers: Collection[str] = ("wal", "daily"),
    tier: str = "daily",
    instead_full: bool = False,
    standby: bool = False,
    interval: timedelta | None = None,
    receiver: str = "",
    clock: Callable[[], datetime] = utc_now,
) -> list[Finding]:
    """Look at version, settings, privileges, slot, encryption and clock of a server.

    Args:
        sql: an autocommit session of the backup role.
        open_replication: opens a replication connection as the backup will; raises ``PostgresError``.
        parameters: of the connection: what was asked for of its encryption.
        slot_name: the slot that the policy's WAL tier uses.
        tiers: the policy's tiers; ``wal`` asks for more privileges than a full backup does, ``incremental`` for WAL
            summaries.
        tier: the one that is about to run.
        instead_full: whether the policy takes a full where the server makes no incrementals.
        standby: whether the policy says that a standby is read.
        interval: the longest time between two incrementals; ``None`` where they have no schedule.
        receiver: what the session that collects WAL calls itself; empty where none does.
        clock: this worker's clock.

    Returns:
        All findings, errors first, each with its remedy. A question that the server refused is a warning of its own.
    """
    checks: tuple[Callable[[], list[Finding]], ...] = (
        lambda: version_findings(sql.info.server_version),
        lambda: role_findings(sql, allowed=standby),
        lambda: _settings(sql, slot_name),
        lambda: _incremental(sql, tiers, tier, instead_full=instead_full, interval=interval),
        lambda: _synchronous(sql, receiver),
        lambda: _role(sql, parameters, clock()),
        lambda: _privileges(sql, parameters, tiers),
        lambda: slot_findings(slot_name, slot_state(sql, slot_name)),
        lambda: _replication(sql, open_replication),
        lambda: encryption_findings(sql, parameters),
        lambda: _places(sql),
        lambda: _unlogged(sql),
        lambda: clock_findings(sql, clock),
    )
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except psycopg.OperationalError as error:
            if sql.closed or sql.broken:
                raise PostgresError(f"The connection was lost in preflight: {clean_message(str(error))}.") from error
            findings.append(_refused(error))
        except psycopg.Error as error:
            findings.append(_refused(error))
    return sorted(findings, key=lambda finding: ("error", "warning", "ok").index(finding.severity))


def _refused(error: psycopg.Error) -> Finding:
    remedy = "Look at the server's log, and at the role's privileges (pg_monitor)."
    return Finding("warning", "preflight", f"The server refused a question: {clean_message(str(error))}.", remedy)


def _settings(sql: Session, slot_name: str) -> list[Finding]:
    rows = sql.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(_SETTINGS)]).fetchall()
    settings: dict[str, str] = dict(rows)
    senders = int(_one(sql, "SELECT count(*) FROM pg_stat_replication"))
    slots = int(_one(sql, "SELECT count(*) FROM pg_replication_slots"))
    exists = slot_state(sql, slot_name) is not None
    if in_recovery(sql):
        settings["full_page_writes"] = full_page_writes(sql)
    return setting_findings(settings) + capacity_findings(settings, senders, slots, slot_exists=exists)


def _synchronous(sql: Session, receiver: str) -> list[Finding]:
    if not receiver:
        return []
    names = str(_one(sql, "SELECT pg_catalog.current_setting('synchronous_standby_names')"))
    return synchronous_findings(names, receiver)


def _incremental(
    sql: Session, tiers: Collection[str], tier: str, *, instead_full: bool, interval: timedelta | None
) -> list[Finding]:
    if "incremental" not in tiers:
        return []
    names = ["summarize_wal", "wal_summary_keep_time"]
    settings: dict[str, str] = dict(
        sql.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [names]).fetchall()
    )
    major = sql.info.server_version // 10000
    return incremental_findings(
        major, settings, runs=tier == "incremental", instead_full=instead_full, interval=interval
    )


def _role(sql: Session, parameters: ConnectionParameters, now: datetime) -> list[Finding]:
    role = quoted(parameters.keywords["user"])
    row = sql.execute(
        "SELECT rolreplication, rolsuper, CASE WHEN isfinite(rolvaliduntil) THEN rolvaliduntil END"
        " FROM pg_roles WHERE rolname = session_user"
    ).fetchone()
    replication, superuser, until = row if row is not None else (False, False, None)
    findings = []
    if not (replication or superuser):
        what = f"Role {role} lacks the attribute REPLICATION."
        findings.append(Finding("error", "role", what, f"ALTER ROLE {role} REPLICATION;"))
    elif superuser:
        what = f"Role {role} is a superuser: whoever steals its password owns the server."
        remedy = (
            "Make a role of its own: CREATE ROLE lifeboat LOGIN REPLICATION PASSWORD '…'; GRANT pg_monitor TO lifeboat;"
        )
        findings.append(Finding("warning", "role", what, remedy))
    else:
        findings.append(Finding("ok", "role", f"Role {role} has the attribute REPLICATION."))
    if until is not None and until - now < _PASSWORD_ENDS_SOON:
        what = f"The password of role {role} is valid until {until:%Y-%m-%d %H:%M} UTC only."
        remedy = f"ALTER ROLE {role} VALID UNTIL 'infinity'; or give it a new password and date."
        findings.append(Finding("warning", "role", what, remedy))
    if _one(sql, "SELECT count(*) FROM pg_roles WHERE rolname = 'rds_superuser'"):
        what = "This is Amazon RDS or Aurora, which has no physical replication protocol."
        findings.append(Finding("error", "server", what, "Use snapshots, its own PITR and logical dumps instead."))
    return findings


def _privileges(sql: Session, parameters: ConnectionParameters, tiers: Collection[str]) -> list[Finding]:
    role = quoted(parameters.keywords["user"])
    findings = []
    if "wal" in tiers:
        if _one(sql, "SELECT has_function_privilege('pg_switch_wal()', 'EXECUTE')"):
            findings.append(Finding("ok", "pg_switch_wal", f"Role {role} may switch WAL segments."))
        else:
            database = quoted(str(sql.info.dbname))
            what = (
                f"Role {role} may not execute pg_switch_wal() in database {database}; its newest WAL would stay there."
            )
            remedy = f"In database {database}: GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO {role};"
            if standby := in_recovery(sql):
                what += " A standby needs no such right, until it is promoted."
            findings.append(Finding("warning" if standby else "error", "pg_switch_wal", what, remedy))
    if not _one(sql, "SELECT pg_has_role('pg_read_all_settings', 'USAGE')"):
        what = f"Role {role} may not read all settings: the manifest can't tell what lies outside the data directory."
        findings.append(Finding("warning", "pg_read_all_settings", what, f"GRANT pg_monitor TO {role};"))
    return findings


def _replication(sql: Session, open_replication: Callable[[], ReplicationConnection]) -> list[Finding]:
    try:
        with open_replication() as replication:
            there = replication.identify_system()
    except LifeboatError as error:
        if not isinstance(error, PostgresError):
            raise
        return [Finding("error", "replication connection", error.what, error.remedy)]
    here = _one(sql, "SELECT system_identifier FROM pg_control_system()")
    if there.system_identifier != here:
        what = (
            f"SQL reaches the server with system identifier {here}, replication {there.system_identifier}: "
            "two servers answer at this address."
        )
        return [Finding("error", "replication connection", what, "Connect to one server directly, past any balancer.")]
    what = f"Replication connections are let in; system identifier {here}, timeline {there.timeline}."
    return [Finding("ok", "replication connection", what)]


def encryption_findings(sql: Session, parameters: ConnectionParameters) -> list[Finding]:
    """Whether the connection is encrypted, all the way."""
    row = sql.execute("SELECT ssl, version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    used, version, cipher = row if row is not None else (False, None, None)
    wanted = parameters.keywords.get("sslmode", "disable")
    if parameters.is_socket:
        return [Finding("ok", "tls", "The server is reached through a socket of this machine.")]
    if used:
        return [Finding("ok", "tls", f"The connection uses {version} ({cipher}), certificate check: {wanted}.")]
    if wanted != "disable":
        # libpq made sure that the connection as far as it goes is encrypted: the rest of the way is not.
        what = "The connection is encrypted up to something between us and the server, and plain from there."
        return [Finding("warning", "tls", what, "Connect to the server directly.")]
    what = "The connection is not encrypted: the whole database crosses the network in plain text."
    remedy = "Switch TLS on at the server (ssl = on) and set tls: verify-full in the policy."
    return [Finding("warning", "tls", what, remedy)]


def _places(sql: Session) -> list[Finding]:
    findings = []
    for space in tablespaces_of(sql):
        if space.in_place and sql.info.server_version < IN_PLACE_SINCE:
            what = (
                f"Tablespace {space.name} lies inside the data directory; PostgreSQL 15 leaves it out of every backup."
            )
            findings.append(Finding("error", "tablespace", what, LEFT_OUT_REMEDY))
            continue
        where = f"inside the data directory ({space.location})" if space.in_place else f"at {space.location}"
        findings.append(Finding("ok", "tablespace", f"Tablespace {space.name} ({space.oid}) lies {where}."))
    for setting, path in files_outside(sql, []).items():
        what = f"{setting} is {path}, outside the data directory: a physical backup does not hold it."
        remedy = "Protect it as a configuration source; its path is recorded in every manifest."
        findings.append(Finding("warning", "configuration", what, remedy))
    return findings


def _unlogged(sql: Session) -> list[Finding]:
    count = _one(sql, "SELECT count(*) FROM pg_class WHERE relpersistence = 'u' AND relkind IN ('r', 'm')")
    if not count:
        return []
    what = f"{count} unlogged tables of database {sql.info.dbname} come back empty from every physical backup."
    return [Finding("ok", "unlogged tables", what, "Where their rows matter: ALTER TABLE … SET LOGGED;")]


def clock_findings(sql: Session, clock: Callable[[], datetime]) -> list[Finding]:
    """Whether server and worker have the same time."""
    before = clock()
    server: datetime = _one(sql, "SELECT clock_timestamp()")
    after = clock()
    difference = max(before - server, server - after, timedelta(0))
    if difference <= CLOCK_TOLERANCE:
        return [Finding("ok", "clock", "The clocks of server and worker agree.")]
    seconds = difference.total_seconds()
    what = f"The clocks of server and worker differ by {seconds:.0f} s: times to restore to would mean another moment."
    return [Finding("warning", "clock", what, "Let both keep time by NTP.")]


def _one(sql: Session, query: str) -> Any:
    row = sql.execute(query.encode()).fetchone()
    return None if row is None else row[0]
