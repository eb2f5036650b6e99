"""A server that recovers one data directory and harms nobody: no archiving, no subscriptions, no upstream, no network.

It takes nothing from the configuration that came with the data: all its settings are on files of its own, and a
``postgresql.auto.conf`` is set aside while it runs.

Sources: https://www.postgresql.org/docs/current/runtime-config-wal.html#RUNTIME-CONFIG-WAL-RECOVERY-TARGET,
https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-ADMIN
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import RestoreError
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.server_facts import ServerFacts
from lifeboat.postgres.server_programs import dies_with_us, identity
from lifeboat.postgres.unpacking import Owner

TICK_SECONDS = 0.1
STOP_SECONDS = 120.0
END_SECONDS = 10.0
"""After an immediate shutdown the server gives its own processes 5 s before it kills them."""
PORT = 5432
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
_SESSION = {"session_preload_libraries": "", "local_preload_libraries": "", "statement_timeout": "0"}
"""For our own sessions: stronger than what ALTER DATABASE or ALTER ROLE has set."""
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


class RecoveryServer:
    """One server process for one data directory; a context that leaves no process behind.

    Args:
        binaries: the directory with ``postgres``.
        data: the data directory.
        room: an empty directory for its configuration, socket and log; its path must be short enough for a socket.
        facts: of the server that was backed up.
        owner: the user to run as.
    """

    def __init__(self, binaries: Path, data: Path, room: Path, facts: ServerFacts, owner: Owner | None) -> None:
        self._binaries = binaries
        self._data = data
        self._room = room
        self._facts = facts
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None
        self._database = "postgres"
        self._log = room / "server.log"

    def __enter__(self) -> RecoveryServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        aside = self._data / ASIDE
        if aside.exists():
            aside.replace(self._data / AUTO_CONF)

    def recover(
        self,
        *,
        staging: Path,
        timeline: int,
        target: Mapping[str, str],
        superuser: str,
        tick: Callable[[], None],
        limit_seconds: float,
    ) -> Recovered:
        """Start the server, let it replay, and wait until it is open on a new timeline and answers a query.

        Raises:
            EndedBeforeTarget: the target was not reached; the data directory can be started again without it.
            RestoreError: anything else; the server's own last words are in the text.
        """
        self._set_foreign_settings_aside()
        self._write("recovery.signal", "", self._data)
        self._configure(staging, timeline, target)
        self._log.unlink(missing_ok=True)
        self._start()
        deadline = time.monotonic() + limit_seconds
        while not self._open(superuser):
            tick()
            if self._process is None or self._process.poll() is not None:
                raise self._died()
            if time.monotonic() > deadline:
                raise RestoreError(
                    f"Recovery did not end within {limit_seconds:.0f} s.",
                    f"The server's last words: {self._last_words()}",
                )
            time.sleep(TICK_SECONDS)
        return self._outcome(superuser, timeline)

    def session(self, user: str, database: str | None = None) -> psycopg.Connection[TupleRow]:
        """A session on the open server; in a database that surely lets one in, unless one is named."""
        settings = _SESSION | ({"event_triggers": "off"} if self._facts.major >= 17 else {})
        return psycopg.connect(
            host=str(self._room),
            port=PORT,
            user=user,
            dbname=database or self._database,
            autocommit=True,
            connect_timeout=10,
            options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
        )

    def stop_cleanly(self) -> None:
        """Stop it, and insist on its having written everything.

        Raises:
            RestoreError: it did not; its last words are in the text.
        """
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        if process is None or process.returncode != 0:
            raise RestoreError(
                "The recovered server did not shut down cleanly.", f"Its last words: {self._last_words()}"
            )

    def _end(self) -> None:
        """End it at once if it still runs: nobody will use what it did, and a stopped task has few seconds."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _set_foreign_settings_aside(self) -> None:
        auto = self._data / AUTO_CONF
        if auto.exists() and not (self._data / ASIDE).exists():
            auto.replace(self._data / ASIDE)
        (self._data / "standby.signal").unlink(missing_ok=True)

    def _configure(self, staging: Path, timeline: int, target: Mapping[str, str]) -> None:
        settings = {name: self._facts.settings[name] for name in _KEPT_AS_THEY_WERE if name in self._facts.settings}
        settings |= {
            "data_directory": str(self._data),
            "hba_file": str(self._room / "pg_hba.conf"),
            "ident_file": str(self._room / "pg_ident.conf"),
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self._room),
            "unix_socket_permissions": "0700",
            "archive_mode": "off",
            "wal_level": "replica",
            "primary_conninfo": "",
            "primary_slot_name": "",
            "shared_preload_libraries": "",
            "session_preload_libraries": "",
            "local_preload_libraries": "",
            "max_logical_replication_workers": "0",
            "max_replication_slots": _MANY,
            **({"max_active_replication_origins": _MANY} if self._facts.major >= 18 else {}),
            # The defaults suit segments of 16 MiB; with larger ones the server would not start.
            "min_wal_size": f"{5 * self._facts.wal_segment_size // 1024}kB",
            "max_wal_size": f"{64 * self._facts.wal_segment_size // 1024}kB",
            "autovacuum": "off",
            "hot_standby": "off",
            "huge_pages": "off",
            "jit": "off",
            "shared_buffers": "128MB",
            "lc_messages": "C",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_timezone": "UTC",
            "TimeZone": "UTC",
            "recovery_target_action": "promote",
            "recovery_target_timeline": str(timeline),
            "restore_command": f"cp {_shell(staging)}/%f %p",
            **target,
        }
        text = "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        self._write("postgresql.conf", text, self._room)
        self._write("pg_hba.conf", "local all all trust\n", self._room)
        self._write("pg_ident.conf", "", self._room)

    def _write(self, name: str, text: str, place: Path) -> None:
        path = place / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        if self._owner is not None:
            os.chown(path, self._owner.uid, self._owner.gid)

    def _start(self) -> None:
        arguments = [
            str(self._binaries / "postgres"),
            "-D",
            str(self._data),
            "-c",
            f"config_file={self._room}/postgresql.conf",
        ]
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self._room,
                    env={"PATH": "/usr/bin:/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC"},
                    preexec_fn=dies_with_us(os.getpid(), signal.SIGQUIT),
                    **identity(self._owner),
                )
        except OSError as error:
            raise RestoreError(
                f"{arguments[0]} can't be started: {error.strerror}.",
                f"PostgreSQL {self._facts.major}'s server programs must be there, and the user that runs them must be "
                "able to reach them; name their directory with `binaries` in the policy or --binaries.",
            ) from error

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
                f"It did not recover from the archive. Its last words: {self._last_words()}",
            )
        history = (self._data / "pg_wal" / f"{timeline:08X}.history").read_text(encoding="utf-8")
        last = [line for line in history.splitlines() if line.strip()][-1].split("\t")
        told = _LAST_COMMIT.findall(self._log.read_text(encoding="utf-8", errors="replace"))
        return Recovered(
            timeline,
            Lsn.parse(last[1].strip()),
            last[2].strip() if len(last) > 2 else "",
            datetime.fromisoformat(told[-1]).replace(tzinfo=UTC) if told else None,
        )

    def _died(self) -> RestoreError:
        words = self._last_words()
        if ENDED_EARLY in words:
            return EndedBeforeTarget(f"The WAL at hand ended before the moment asked for. {words}")
        return RestoreError(
            f"The server that was to recover the data ended: {words}",
            "Look at the whole of its log, kept beside the destination.",
        )

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "none"
        telling = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "ERROR", "HINT"))]
        return " | ".join((telling or lines)[-4:]) or "none"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _shell(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return "'" + text.replace("'", "'\\''") + "'"
