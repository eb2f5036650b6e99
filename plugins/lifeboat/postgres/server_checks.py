"""What must be true of a server while it is backed up, asked before and after."""

from __future__ import annotations

from datetime import datetime

import psycopg

from lifeboat.errors import BackupFailed, PostgresError, TimelineConflict
from lifeboat.postgres.base_backup import MAIN_ARCHIVE, BaseBackup, ParentRefused
from lifeboat.postgres.details import full_details
from lifeboat.postgres.reach import Base
from lifeboat.postgres.server_facts import LEFT_OUT_REMEDY, ServerFacts
from lifeboat.postgres.slot import Session
from lifeboat.repository.catalogue import Copy

BUILT_IN = (1663, 1664)
"""pg_default and pg_global: they lie in the main archive, and their oids are the same in every cluster."""


def server_clock(session: Session) -> datetime:
    """The server's own clock; raises ``PostgresError``."""
    row = session.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
    if row is None or not isinstance(row[0], datetime):
        raise PostgresError("The server did not tell the time.", "Look at the server's log.")
    return row[0]


def insist_on_same_cluster(facts: ServerFacts, earlier: list[Copy]) -> None:
    """Raise ``TimelineConflict`` when the newest of ``earlier``, fulls, was made of another cluster."""
    newest = max(earlier, key=lambda copy: copy.manifest.sequence, default=None)
    if newest is None or (known := full_details(newest.manifest).system_identifier) == facts.system_identifier:
        return
    raise TimelineConflict(
        f"The newest full, {newest.manifest.recovery_point}, was made of the cluster {known}; this server is "
        f"{facts.system_identifier}.",
        "The connection leads to another server, or the cluster was made anew (pg_upgrade does that). For a new "
        "cluster name a new source in the policy, so that the old one's recovery points stay apart.",
    )


def tablespace_names(session: Session) -> dict[int, str]:
    """The tablespaces besides the built-in ones, by oid."""
    rows = session.execute("SELECT oid::int8, spcname FROM pg_catalog.pg_tablespace")
    return {int(oid): str(name) for oid, name in rows if oid not in BUILT_IN}


def insist_on_all_tablespaces(before: dict[int, str], session: Session, backup: BaseBackup) -> None:
    """A tablespace that was made meanwhile is in the WAL, and one that was dropped is gone; all others were sent.

    PostgreSQL 15 leaves those that lie in the data directory out of a base backup, and says nothing; the preflight
    names them before anything is read.
    """
    sent = {tablespace.oid for tablespace in backup.tablespaces}
    left_out = sorted(name for oid, name in tablespace_names(session).items() if oid in before and oid not in sent)
    if left_out:
        raise BackupFailed(
            f"The server left tablespaces out of its base backup: {', '.join(left_out)}.",
            LEFT_OUT_REMEDY,
        )


def insist_on_same_timeline(facts: ServerFacts, backup: BaseBackup) -> None:
    """Raise ``BackupFailed`` when the server, or the primary that it follows, was promoted meanwhile."""
    if not facts.timeline == backup.start_timeline == backup.stop_timeline:
        raise BackupFailed(
            f"The server changed its timeline during the backup (from {facts.timeline} to {backup.stop_timeline}).",
            "It was promoted, or follows a server that was. Nothing of this attempt was committed; the next try makes "
            "a full on the new timeline.",
        )


def bootstrap_superuser(session: Session) -> str:
    """The name of the role that ``initdb`` made."""
    # BOOTSTRAP_SUPERUSERID: the role that initdb made has this oid in every cluster, whatever it is called.
    row = session.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10").fetchone()
    return str(row[0]) if row is not None else "postgres"


def insist_on_parents_server(facts: ServerFacts, parent: Base) -> None:
    """Raise ``ParentRefused`` when the server is not on the parent's history any more."""
    known = parent.details
    if (known.system_identifier, known.timeline) != (facts.system_identifier, facts.timeline):
        raise ParentRefused(
            f"the server is on timeline {facts.timeline} now, and {parent.manifest.recovery_point} on {known.timeline}"
        )


def whole_sizes(session: Session, backup: BaseBackup) -> dict[str, int]:
    """Bytes of each archive's part of the server, as far as the role may know them (``pg_monitor`` may)."""
    try:
        rows = session.execute("SELECT oid::int8, pg_catalog.pg_tablespace_size(oid) FROM pg_catalog.pg_tablespace")
        sizes = {int(oid): int(size) for oid, size in rows if size is not None}
    except psycopg.Error:
        return {}
    whole = {space.archive: sizes[space.oid] for space in backup.tablespaces if space.oid in sizes}
    return whole | {MAIN_ARCHIVE: sum(sizes.get(oid, 0) for oid in BUILT_IN)}
