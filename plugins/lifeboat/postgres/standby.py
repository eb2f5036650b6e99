"""A hot standby as the server that is read: whether it may be, and how much of the primary's work it surely has.

A standby can't end a segment, and its clock says nothing about the data: what it has replayed may be seconds or hours
old. What surely lies before a position is told by the WAL itself. A transaction takes its moment before its record is
written, so everything that was committed by the moment of a replayed transaction was written before that one's record.
A checkpoint's moment is taken before its record in the same way.
Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import BackupFailed, PostgresError
from lifeboat.postgres.advisory_lock import wait_for_lock
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.refusals import clean_message
from lifeboat.postgres.server_checks import server_clock

Session = psycopg.Connection[TupleRow]

REFUSED_REMEDY = (
    "Let the connection lead to the primary; or, where this standby is to be read, say `standby: true` for the source "
    "in the policy."
)
PROMOTED = (
    "The policy says that a standby is read, and the server is a primary: it was promoted. It is backed up as one. Say "
    "`standby: false` in the policy, or let the connection lead to a standby of it."
)
CATCH_UP_SECONDS = 60.0
"""How long a standby that was restarted is waited for: it begins at an older position, and replays up to the one where
it was."""
_KEEPALIVES = {"tcp_keepalives_idle": "20", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
_CHECKPOINT = "SELECT checkpoint_time FROM pg_catalog.pg_control_checkpoint()"
CONFLICT = "conflict with recovery"
CONFLICT_REMEDY = (
    "The standby had to replay what took away rows or tables that were being read. On the standby set "
    "max_standby_streaming_delay (and max_standby_archive_delay) above the time that a read takes, or "
    "hot_standby_feedback = on; or run it at a quieter time."
)


@dataclass(frozen=True)
class Replayed:
    """How far a standby has come.

    Attributes:
        moment: by the primary's clock; what was committed by then lies before ``position``. Without new transactions
            it stays where it is.
        position: up to where it has replayed: the end of a record.
    """

    moment: datetime
    position: Lsn


def in_recovery(session: Session) -> bool:
    """Whether the server is a standby; raises ``PostgresError``."""
    return bool(_value(session, "SELECT pg_catalog.pg_is_in_recovery()"))


def is_standby(session: Session, *, allowed: bool) -> bool:
    """Whether the server is a standby.

    Args:
        allowed: whether the policy says that one may be read.

    Raises:
        BackupFailed: it is one, and may not be read.
    """
    standby = in_recovery(session)
    if standby and not allowed:
        raise BackupFailed("The server is a standby, and the policy names no standby to be read.", REFUSED_REMEDY)
    return standby


def replayed(session: Session) -> Replayed:
    """How far the standby has come; of one that was promoted meanwhile, how far it came as a standby.

    Raises:
        PostgresError: it gave no answer.
    """
    # The moments first: what they stand for lies before the position that is read after them.
    moment = _value(
        session,
        "SELECT greatest(pg_catalog.pg_last_xact_replay_timestamp(), checkpoint_time)"
        " FROM pg_catalog.pg_control_checkpoint()",
    )
    position = _value(session, "SELECT pg_catalog.pg_last_wal_replay_lsn()::text")
    if not isinstance(moment, datetime) or position is None:
        raise PostgresError("The standby did not tell how far it has replayed.", "Look at the server's log.")
    return Replayed(moment, Lsn.parse(str(position)))


def replayed_up_to(session: Session, wanted: Lsn, *, tick: Callable[[], None]) -> Replayed:
    """The same, once the standby has replayed up to ``wanted``, which is in the repository already.

    Raises:
        BackupFailed: it does not come there.
    """
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while (mark := replayed(session)).position < wanted:
        if time.monotonic() > deadline:
            raise BackupFailed(
                f"The standby has replayed up to {mark.position}, and the repository has the WAL up to {wanted}.",
                "It is far behind, its replay is paused or delayed, or it was put back to an older state: look at "
                "pg_stat_wal_receiver and pg_get_wal_replay_pause_state() there. Nothing is lost: the next run goes on "
                "once it is there.",
            )
        tick()
        time.sleep(TICK_SECONDS)
    return mark


class Bounds:
    """Between which moments a physical backup's data lies: one is in it for certain, nothing later than the other is.

    Made just before the backup begins.

    Args:
        standby: whether the server is one. By its own clock it can't tell.
    """

    def __init__(self, session: Session, *, standby: bool) -> None:
        self._session = session
        self._standby = standby
        # A backup on a standby begins at the checkpoint that is known now, or at a later one, and goes beyond it.
        self._surely = _value(session, _CHECKPOINT) if standby else server_clock(session)
        self._marks = [replayed(session)] if standby else []
        self._stopped = server_clock(session)

    def end(self) -> None:
        """The server has sent everything."""
        self._stopped = server_clock(self._session)
        if self._standby:
            self._marks.append(replayed(self._session))
            # Where the two clocks differ, the later one bounds what is in it.
            self._stopped = max(self._stopped, self._marks[-1].moment)

    def around(self, stop: Lsn) -> tuple[datetime, datetime]:
        """Both moments of a backup that holds the WAL up to ``stop``."""
        assert isinstance(self._surely, datetime)
        reached = [mark.moment for mark in self._marks if mark.position <= stop]
        return max([self._surely, *reached]), self._stopped


def hold_alone(session: Session, words: str, *, seconds: float, tick: Callable[[], None]) -> None:
    """Hold a lock of that name until the session ends; wait while another session of ours has it.

    Raises:
        PostgresError: it still has it after that time.
    """
    # The server notices a dead worker's machine within a minute; by itself it would take hours.
    for setting, value in _KEEPALIVES.items():
        _value(session, f"SELECT pg_catalog.set_config('{setting}', '{value}', false)")
    if not wait_for_lock(session, words, tick=tick, seconds=seconds):
        raise PostgresError(
            f"Another run collects the WAL of this server, and did not end within {seconds:.0f} s.",
            "Look for its session in pg_stat_activity there: its application_name begins with 'lifeboat'.",
        )


def promoted(standby_wanted: bool, standby: bool) -> str:
    """What a person should know where the policy says that a standby is read, and the server is none; else empty."""
    return PROMOTED if standby_wanted and not standby else ""


def _value(session: Session, statement: str) -> object:
    try:
        row = session.execute(statement.encode()).fetchone()
    except psycopg.Error as error:
        raise PostgresError(
            f"The server could not be asked about its recovery: {clean_message(str(error))}.", "Look at its log."
        ) from error
    return row[0] if row is not None else None
