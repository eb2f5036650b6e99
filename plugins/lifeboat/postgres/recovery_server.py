"""A server that recovers one data directory and harms nobody: no archiving, no subscriptions, no upstream, no network.

It takes nothing from the configuration that came with the data: all its settings are on files of its own, and a
``postgresql.auto.conf`` is set aside while it runs.

Sources: https://www.postgresql.org/docs/current/runtime-config-wal.html#RUNTIME-CONFIG-WAL-RECOVERY-TARGET,
https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-ADMIN
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import RestoreError
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.room import KEPT_SEGMENTS
from lifeboat.postgres.server_facts import ServerFacts
from lifeboat.postgres.server_process import ServerProcess
from lifeboat.postgres.unpacking import Owner

TICK_SECONDS = 0.1
ENDED_EARLY = "recovery ended before configured recovery target was reached"
AUTO_CONF = "postgresql.auto.conf"
ASIDE = "postgresql.auto.conf.set-aside"
_LAST_COMMIT = re.compile(r"last completed transaction was at log time (\S+ \S+)")
_KEPT_AS_THEY_WERE = (
    "track_commit_timestamp",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "allow_in_place_tablespaces",
)
"""Recovery refuses to go on when one of these is lower than it was on the server; and a server that opens without
``track_commit_timestamp`` throws away what was recorded."""
_MANY = "1000"
"""More replication origins than any server has: recovery ends when their places do not suffice."""
_NO_SUCH_DATABASE = re.compile(r'database "[^"]*" does not exist|not currently accepting connections')
_NEVER = re.compile(r"FATAL: .*(does not exist|is not permitted to log in|too many connections|could not access file)")
"""What a session is refused with for good; everything else may pass while the server recovers."""


@dataclass(frozen=True)
class Recovered:
    """How recovery ended.

    Attributes:
        timeline: the new timeline that the server is on.
        stopped_at: the position at which it left the old one.
        reason: PostgreSQL's own words for why it stopped there.
        last_commit: the moment of the last transaction that was replayed, by the lost server's clock; ``None`` when
            there was none to replay.
    """

    timeline: int
    stopped_at: Lsn
    reason: str
    last_commit: datetime | None


class EndedBeforeTarget(RestoreError):
    """The WAL at hand ended before the moment that recovery was to stop at."""


class RecoveryServer(ServerProcess):
    """A server that recovers one data directory.

    Args:
        binaries: the directory with ``postgres``.
        data: the data directory.
        room: an empty directory for its configuration, socket and log; its path must be short enough for a socket.
        facts: of the server that was backed up.
        owner: the user to run as.
        synced_later: somebody sees to it that all of it reaches the disk, once the server has stopped.
    """

    def __init__(
        self,
        binaries: Path,
        data: Path,
        room: Path,
        facts: ServerFacts,
        owner: Owner | None,
        *,
        synced_later: bool = False,
    ) -> None:
        super().__init__(binaries, data, room, facts.major, owner)
        self._facts = facts
        self._synced_later = synced_later
        self._database = "postgres"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        aside = self._data / ASIDE
        if aside.exists():
            aside.replace(self._data / AUTO_CONF)

    def recover(
        self,
        *,
        restore_command: str,
        timeline: int,
        target: Mapping[str, str],
        superuser: str,
        tick: Callable[[], None],
        limit_seconds: float,
    ) -> Recovered:
        """Start the server, let it replay, and wait until it is open on a new timeline and answers a query.

        Args:
            restore_command: what gets it the next WAL, as PostgreSQL has it.

        Raises:
            EndedBeforeTarget: the target was not reached; the data directory can be started again without it.
            RestoreError: anything else; the server's own last words are in the text.
        """
        self._set_foreign_settings_aside()
        self.write("recovery.signal", "", self._data)
        self.start(self._settings(restore_command, timeline, target))
        deadline = time.monotonic() + limit_seconds
        while not self._open(superuser):
            tick()
            if not self.running:
                raise self._died()
            if time.monotonic() > deadline:
                raise RestoreError(
                    f"Recovery did not end within {limit_seconds:.0f} s.",
                    f"The server's last words: {self.last_words()}",
                )
            time.sleep(TICK_SECONDS)
        return self._outcome(superuser, timeline)

    def session(self, user: str, database: str | None = None) -> psycopg.Connection[TupleRow]:
        """A session on the open server; in a database that surely lets one in, unless one is named."""
        return self.connect(user, database or self._database)

    def _set_foreign_settings_aside(self) -> None:
        auto = self._data / AUTO_CONF
        if auto.exists() and not (self._data / ASIDE).exists():
            auto.replace(self._data / ASIDE)
        (self._data / "standby.signal").unlink(missing_ok=True)

    def _settings(self, restore_command: str, timeline: int, target: Mapping[str, str]) -> dict[str, str]:
        kept = {name: self._facts.settings[name] for name in _KEPT_AS_THEY_WERE if name in self._facts.settings}
        return kept | {
            "wal_level": "replica",
            "fsync": "off" if self._synced_later else "on",
            "max_replication_slots": _MANY,
            **({"max_active_replication_origins": _MANY} if self._facts.major >= 18 else {}),
            # The defaults suit segments of 16 MiB; with larger ones the server would not start.
            "min_wal_size": f"{5 * self._facts.wal_segment_size // 1024}kB",
            "max_wal_size": f"{KEPT_SEGMENTS * self._facts.wal_segment_size // 1024}kB",
            # What is replayed would be kept under the names of segments to come, and have to reach the disk as well.
            "wal_recycle": "off",
            "hot_standby": "off",
            "recovery_target_action": "promote",
            "recovery_target_timeline": str(timeline),
            "restore_command": restore_command,
            **target,
        }

    def _open(self, user: str) -> bool:
        try:
            with self.session(user) as session:
                row = session.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
                return row is not None and row[0] is False
        except psycopg.OperationalError as error:
            if _NO_SUCH_DATABASE.search(str(error)) and (another := self._another_database()) is not None:
                self._database = another
            elif _NEVER.search(str(error)):
                raise RestoreError(
                    f"The recovered server lets nobody in: {str(error).strip()}",
                    "A bootstrap superuser that was renamed or barred from logging in after the full was taken does "
                    "this: restore to an earlier moment, or from a later full.",
                ) from error
            # Not open yet; a server that died is noticed by its process.
            return False

    def _another_database(self) -> str | None:
        names = ["postgres", "template1", *(database.name for database in self._facts.databases)]
        left = names[names.index(self._database) + 1 :]
        return next((name for name in left if name != self._database), None)

    def _outcome(self, user: str, followed: int) -> Recovered:
        with self.session(user) as session:
            row = session.execute(
                "SELECT substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)"
            ).fetchone()
        timeline = int(str(row[0]), 16) if row is not None else 0
        if timeline <= followed:
            raise RestoreError(
                f"The recovered server is on timeline {timeline}, not on a new one after {followed}.",
                f"It did not recover from the archive. Its last words: {self.last_words()}",
            )
        history = (self._data / "pg_wal" / f"{timeline:08X}.history").read_text(encoding="utf-8")
        last = [line for line in history.splitlines() if line.strip()][-1].split("\t")
        told = _LAST_COMMIT.findall(self.log())
        return Recovered(
            timeline,
            Lsn.parse(last[1].strip()),
            last[2].strip() if len(last) > 2 else "",
            datetime.fromisoformat(told[-1]).replace(tzinfo=UTC) if told else None,
        )

    def _died(self) -> RestoreError:
        words = self.last_words()
        if ENDED_EARLY in words:
            return EndedBeforeTarget(f"The WAL at hand ended before the moment asked for. {words}")
        return RestoreError(
            f"The server that was to recover the data ended: {words}",
            "Look at the whole of its log, kept beside the destination.",
        )
