"""What collecting WAL asks of the server by SQL: its clock, how far it has written, and to end its segment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

from lifeboat.errors import BackupFailed, PostgresError
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.slot import Session
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.postgres.wal_pages import LONG_HEADER


@dataclass(frozen=True)
class WalServer:
    """Which server wrote the WAL.

    Attributes:
        system_identifier: of the cluster.
        segment_size: bytes of a segment.
        version: in PostgreSQL's words.
    """

    system_identifier: int
    segment_size: int
    version: str

    @classmethod
    def asked(cls, session: Session, system_identifier: int) -> WalServer:
        """Ask it; raises ``BackupFailed``."""
        size = value(session, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'")
        version = value(session, "SELECT pg_catalog.current_setting('server_version')")
        return cls(system_identifier, int(str(size)), str(version))


def clock(session: Session) -> datetime:
    """The server's clock; raises ``BackupFailed``."""
    moment = value(session, "SELECT pg_catalog.clock_timestamp()")
    assert isinstance(moment, datetime)
    return moment


def written(session: Session) -> tuple[datetime, Lsn]:
    """A moment by the server's clock, and how far it had written then: what was committed by that moment lies before
    that position. The clock is read first.

    Raises:
        BackupFailed: it gave no answer.
    """
    moment = clock(session)
    return moment, Lsn.parse(str(value(session, "SELECT pg_catalog.pg_current_wal_insert_lsn()::text")))


def is_idle(segment_start: Lsn, position: Lsn) -> bool:
    """Whether a server that has written up to ``position`` has written nothing since ``segment_start``, the beginning
    of a segment: an empty one has its page header and nothing else."""
    return position <= segment_start + LONG_HEADER


def switch_segment(session: Session, segment_size: int) -> Lsn:
    """End the segment that the server writes to, and return the position behind it. Nothing happens on an idle server:
    it stands at the beginning of a segment, and everything before is complete.

    Raises:
        PostgresError: the role may not, or the server can't.
    """
    try:
        row = session.execute("SELECT pg_catalog.pg_switch_wal()::text").fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        raise PostgresError(
            "The backup role may not switch WAL segments.",
            "Run as a superuser, in the database that the connection names: "
            "GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO <role>;",
        ) from error
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        raise PostgresError(
            f"The server did not switch its WAL segment: {_reason(error)}.",
            "A standby can't: let the connection lead to the primary.",
        ) from error
    except psycopg.Error as error:
        raise _broken(error) from error
    position = Lsn.parse(str(row[0] if row is not None else ""))
    return Lsn(-(-position // segment_size) * segment_size)


def server_history(connection: ReplicationConnection) -> tuple[TimelineHistory, bytes | None]:
    """The history of the server's timeline, and the file that tells it; raises ``PostgresError``."""
    timeline = connection.identify_system().timeline
    if timeline == 1:
        return TimelineHistory(1), None
    rows = connection.query(f"TIMELINE_HISTORY {timeline}")
    content = (rows[0][1] or "").encode()
    return TimelineHistory.parse(timeline, content), content


def value(session: Session, statement: str, *values: object) -> object:
    """The one value that a statement gives; ``None`` when it gives no row. Raises ``BackupFailed``."""
    try:
        row = session.execute(statement.encode(), values or None).fetchone()
    except psycopg.Error as error:
        raise _broken(error) from error
    return row[0] if row is not None else None


def _broken(error: psycopg.Error) -> BackupFailed:
    return BackupFailed(
        f"The server did not answer while its WAL was collected: {_reason(error)}.",
        "Look at the server's log: it was stopped, or the network was cut. The next run goes on from what was "
        "committed.",
    )


def _reason(error: psycopg.Error) -> str:
    lines = str(error).strip().splitlines()
    return (error.diag.message_primary or (lines[0] if lines else type(error).__name__)).rstrip(".")
