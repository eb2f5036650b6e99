"""What a server's settings mean for its backups.

Source: https://www.postgresql.org/docs/current/runtime-config-replication.html and
https://www.postgresql.org/docs/current/runtime-config-wal.html
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta

from lifeboat.policy.duration import Duration
from lifeboat.postgres.parent_choice import INCREMENTAL_SINCE, SWITCH_ON, TOO_OLD_REMEDY
from lifeboat.targets.target import Finding

OLDEST_MAJOR = 15
NEWEST_MAJOR = 18
_RESTART = "then restart the server."


def version_findings(version_num: int) -> list[Finding]:
    """Whether this major version can be backed up."""
    major = version_num // 10000
    if OLDEST_MAJOR <= major <= NEWEST_MAJOR:
        return [Finding("ok", "version", f"PostgreSQL {major} ({version_num}).")]
    what = f"PostgreSQL {major} ({version_num}) is not supported: {OLDEST_MAJOR} to {NEWEST_MAJOR} are."
    remedy = "Upgrade the server." if major < OLDEST_MAJOR else "Upgrade Lifeboat."
    return [Finding("error", "version", what, remedy)]


def setting_findings(settings: Mapping[str, str]) -> list[Finding]:
    """What the settings allow and what they put at risk; ``settings`` are values as ``pg_settings`` has them."""
    return [
        _wal_level(settings["wal_level"]),
        _full_page_writes(settings["full_page_writes"]),
        *_fsync(settings["fsync"]),
        _checksums(settings["data_checksums"]),
        *_slot_limits(settings),
        Finding("ok", "archive_mode", f"archive_mode is {settings['archive_mode']}; the backups do not need it."),
    ]


def capacity_findings(settings: Mapping[str, str], senders: int, slots: int, *, slot_exists: bool) -> list[Finding]:
    """Whether a base backup and a WAL stream find a free sender each, and the slot a place."""
    return [
        _senders(int(settings["max_wal_senders"]), senders),
        _slots(int(settings["max_replication_slots"]), slots, slot_exists=slot_exists),
    ]


def _wal_level(level: str) -> Finding:
    if level in ("replica", "logical"):
        return Finding("ok", "wal_level", f"wal_level is {level}.")
    return Finding(
        "error",
        "wal_level",
        f"wal_level is {level}: the WAL does not hold what a restore needs.",
        f"ALTER SYSTEM SET wal_level = 'replica'; {_RESTART}",
    )


def _full_page_writes(value: str) -> Finding:
    if value == "on":
        return Finding("ok", "full_page_writes", "full_page_writes is on.")
    return Finding(
        "error",
        "full_page_writes",
        "full_page_writes is off on the primary: pages that change while they are read can't be repaired from the WAL.",
        "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();",
    )


def _fsync(value: str) -> list[Finding]:
    if value == "on":
        return []
    what = "fsync is off: a crash of the machine can damage the database, and its backups from then on."
    return [Finding("warning", "fsync", what, "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();")]


def _checksums(value: str) -> Finding:
    if value == "on":
        return Finding("ok", "data_checksums", "Data pages carry checksums; every backup checks them.")
    return Finding(
        "warning",
        "data_checksums",
        f"data_checksums is {value}: a page damaged on the server's disk is backed up unnoticed.",
        "Stop the server at a good moment and run: pg_checksums --enable -D <data directory>",
    )


def _slot_limits(settings: Mapping[str, str]) -> list[Finding]:
    limit = int(settings["max_slot_wal_keep_size"])
    findings = []
    if limit == -1:
        findings.append(
            Finding(
                "warning",
                "max_slot_wal_keep_size",
                "max_slot_wal_keep_size is -1: while WAL collection stands still, kept WAL can fill the server's disk.",
                "Choose what the disk can spare, such as: ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; "
                "SELECT pg_reload_conf();",
            )
        )
    else:
        what = f"The slot keeps at most {limit} MB of WAL; collection that stands still for longer loses it."
        findings.append(Finding("ok", "max_slot_wal_keep_size", what))
    idle = settings.get("idle_replication_slot_timeout", "0")
    if idle != "0":
        findings.append(
            Finding(
                "warning",
                "idle_replication_slot_timeout",
                f"idle_replication_slot_timeout is {idle} s: a slot that is not used for so long is invalidated, "
                "and its WAL is lost to the backups.",
                "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
            )
        )
    return findings


def incremental_findings(
    major: int, settings: Mapping[str, str], *, runs: bool, instead_full: bool, interval: timedelta | None = None
) -> list[Finding]:
    """Whether the server can make incrementals, for a policy that has that tier.

    Args:
        runs: whether it is the tier that is about to run: then what it can't do without is an error.
        instead_full: whether the policy takes a full on a server that can't make them at all.
        interval: the longest time between two runs of the tier; ``None`` where it has no schedule.
    """
    if major < INCREMENTAL_SINCE:
        what = f"PostgreSQL {major} makes no incremental backups"
        if instead_full:
            return [Finding("ok", "incremental", f"{what}; the policy takes a full instead (`instead: full`).")]
        return [Finding("error" if runs else "warning", "incremental", f"{what}.", TOO_OLD_REMEDY)]
    if settings.get("summarize_wal") == "on":
        on = Finding("ok", "summarize_wal", "summarize_wal is on; incremental backups need it.")
        return [on, *_summaries_kept(settings, interval)]
    what = "summarize_wal is off: the server can't tell what has changed, and each incremental becomes a full."
    return [Finding("warning", "summarize_wal", what, SWITCH_ON)]


def _summaries_kept(settings: Mapping[str, str], interval: timedelta | None) -> list[Finding]:
    """Summaries must reach back to the parent: to the run before, and where that failed, to the one before it."""
    kept = timedelta(minutes=int(settings.get("wal_summary_keep_time", "0")))
    if not kept or interval is None or kept >= 2 * interval:
        return []  # 0: they are kept for ever
    needed = Duration.of(2 * interval)
    what = (
        f"wal_summary_keep_time is {Duration.of(kept)}: with incrementals up to {Duration.of(interval)} apart, one "
        "that fails leaves the next without a parent, and it becomes a full."
    )
    minutes = math.ceil(2 * interval / timedelta(minutes=1))
    remedy = (
        f"Keep summaries for {needed} or longer, such as: ALTER SYSTEM SET wal_summary_keep_time = "
        f"'{max(minutes, 10 * 24 * 60)}min'; SELECT pg_reload_conf();"
    )
    return [Finding("warning", "wal_summary_keep_time", what, remedy)]


def synchronous_findings(names: str, application: str) -> list[Finding]:
    """Whether the server may take our WAL receiver for a synchronous standby, and let every commit wait for it.

    Args:
        names: the value of ``synchronous_standby_names``.
        application: what the receiver calls itself.
    """
    if not _names(names, application):
        return []
    return [
        Finding(
            "warning",
            "synchronous_standby_names",
            f"synchronous_standby_names is {names!r}, which names our WAL receiver ({application}), too: commits could "
            "wait for the backup, and WAL is not followed.",
            "Name the standbys themselves, such as: ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby1, "
            "standby2)'; SELECT pg_reload_conf();",
        )
    ]


_COUNTED = re.compile(r"^(?:(?:FIRST|ANY)\s+)?\d+\s*\((.*)\)$", re.IGNORECASE | re.DOTALL)
_STANDBY = re.compile(r'"((?:[^"]|"")*)"|([^\s,]+)')


def _names(names: str, application: str) -> bool:
    """Names are compared without regard to case, and ``*`` is everybody; a server keeps 63 bytes of a name."""
    text = names.strip()
    counted = _COUNTED.match(text)
    found = _STANDBY.finditer(counted[1] if counted is not None else text)
    own = application.encode()[:63].decode(errors="ignore").lower()
    listed = {(one[1].replace('""', '"') if one[1] is not None else one[2]).lower() for one in found}
    return "*" in listed or own in listed


def _senders(maximum: int, used: int) -> Finding:
    free = maximum - used
    what = f"{free} of {maximum} WAL senders (max_wal_senders) are free"
    remedy = f"ALTER SYSTEM SET max_wal_senders = {max(10, maximum + 4)}; {_RESTART}"
    if free >= 2:
        return Finding("ok", "max_wal_senders", what + ".")
    severity = "warning" if free == 1 else "error"
    return Finding(severity, "max_wal_senders", what + "; a base backup and WAL collection need one each.", remedy)


def _slots(maximum: int, used: int, *, slot_exists: bool) -> Finding:
    free = maximum - used
    what = f"{free} of {maximum} replication slots (max_replication_slots) are free"
    if slot_exists or free >= 1:
        return Finding("ok", "max_replication_slots", what + ".")
    remedy = (
        f"ALTER SYSTEM SET max_replication_slots = {max(10, maximum + 4)}; {_RESTART} "
        "Or drop a slot that nobody needs: SELECT pg_drop_replication_slot('…');"
    )
    return Finding("error", "max_replication_slots", what + "; ours has no place.", remedy)
