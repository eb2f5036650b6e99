"""One PostgreSQL server of ours: a process, a private directory with its configuration, socket and log, and no network.

It is ended with the context that it runs in, and dies with the process that started it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import RestoreError
from lifeboat.postgres.server_programs import dies_with_us, identity
from lifeboat.postgres.unpacking import Owner

STOP_SECONDS = 120.0
END_SECONDS = 10.0
"""After an immediate shutdown the server gives its own processes 5 s before it kills them."""
PORT = 5432
_ISOLATED = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "archive_mode": "off",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "max_logical_replication_workers": "0",
    "autovacuum": "off",
    "huge_pages": "off",
    "jit": "off",
    "shared_buffers": "128MB",
    "lc_messages": "C",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_timezone": "UTC",
    "TimeZone": "UTC",
}
_SESSION = {"session_preload_libraries": "", "local_preload_libraries": "", "statement_timeout": "0"}
"""For our own sessions: stronger than what ALTER DATABASE or ALTER ROLE has set."""


class ServerProcess:
    """A server for one data directory; a context that leaves no process behind.

    Args:
        binaries: the directory with ``postgres``.
        data: the data directory.
        room: an empty directory for its configuration, socket and log; its path must be short enough for a socket.
        major: its major version.
        owner: the user to run as.
    """

    def __init__(self, binaries: Path, data: Path, room: Path, major: int, owner: Owner | None) -> None:
        self.room = room
        self._binaries = binaries
        self._data = data
        self._major = major
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None
        self._log = room / "server.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(self, settings: Mapping[str, str]) -> None:
        """Start it with these settings beside those that keep it apart from everything; it may not be open yet.

        Raises:
            RestoreError: its program can't be started.
        """
        settings = _ISOLATED | {
            "data_directory": str(self._data),
            "hba_file": str(self.room / "pg_hba.conf"),
            "ident_file": str(self.room / "pg_ident.conf"),
            "unix_socket_directories": str(self.room),
            **settings,
        }
        text = "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        self.write("postgresql.conf", text, self.room)
        self.write("pg_hba.conf", "local all all trust\n", self.room)
        self.write("pg_ident.conf", "", self.room)
        self._log.unlink(missing_ok=True)
        arguments = [
            str(self._binaries / "postgres"),
            "-D",
            str(self._data),
            "-c",
            f"config_file={self.room}/postgresql.conf",
        ]
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.room,
                    env={"PATH": "/usr/bin:/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC"},
                    preexec_fn=dies_with_us(os.getpid(), signal.SIGQUIT),
                    **identity(self._owner),
                )
        except OSError as error:
            raise RestoreError(
                f"{arguments[0]} can't be started: {error.strerror}.",
                f"PostgreSQL {self._major}'s server programs must be there, and the user that runs them must be "
                "able to reach them; name their directory with `binaries` in the policy or --binaries.",
            ) from error

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def write(self, name: str, text: str, place: Path) -> None:
        """Write a file that the server reads, and nobody else can."""
        path = place / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        if self._owner is not None:
            os.chown(path, self._owner.uid, self._owner.gid)

    @property
    def session_options(self) -> str:
        """libpq's ``options`` for every session of ours, a program's too: nothing that a database or a role has set
        loads a library, ends a long look, or, from PostgreSQL 17 on, fires an event trigger."""
        settings = _SESSION | ({"event_triggers": "off"} if self._major >= 17 else {})
        return " ".join(f"-c {name}={value}" for name, value in settings.items())

    def connect(self, user: str, database: str) -> psycopg.Connection[TupleRow]:
        """A session in a database, outside any transaction."""
        return psycopg.connect(
            host=str(self.room),
            port=PORT,
            user=user,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
            options=self.session_options,
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
                "The recovered server did not shut down cleanly.", f"Its last words: {self.last_words()}"
            )

    def end(self) -> None:
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

    def log(self) -> str:
        """All that it said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def last_words(self) -> str:
        """What it said last, errors before anything else."""
        try:
            lines = self.log().splitlines()
        except OSError:
            return "none"
        telling = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "ERROR", "HINT"))]
        return " | ".join((telling or lines)[-4:]) or "none"


@contextmanager
def server_room(owner: Owner | None) -> Iterator[Path]:
    """A private directory for a server's socket and settings: short, since a socket's path has at most 107 bytes."""
    room = Path(tempfile.mkdtemp(prefix="lifeboat-"))
    if owner is not None:
        os.chown(room, owner.uid, owner.gid)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
