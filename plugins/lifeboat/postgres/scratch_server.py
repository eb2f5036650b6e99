"""An empty server for a while: made, worked with over its own socket, and thrown away.

Source: https://www.postgresql.org/docs/current/app-initdb.html
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from lifeboat.errors import RestoreError
from lifeboat.outside import Connection
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.server_process import PORT, ServerProcess
from lifeboat.postgres.server_programs import run_program
from lifeboat.postgres.unpacking import Owner

SUPERUSER = "postgres"
OPEN_SECONDS = 60.0
TICK_SECONDS = 0.1
_THROWN_AWAY = {
    # Nothing of it outlives its process: what a crash would lose is lost anyway.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "max_locks_per_transaction": "1024",
}


@contextmanager
def scratch_server(
    binaries: Path, place: Path, room: Path, major: int, owner: Owner | None, tick: Callable[[], None]
) -> Iterator[ServerProcess]:
    """A server with nothing in it, open.

    Args:
        binaries: the directory with its programs.
        place: an empty directory for its data; whoever made it removes it.
        room: an empty directory for its socket; its path must be short.
        owner: the user to run it as; both directories are that user's.
        tick: called often; may raise to stop.

    Raises:
        RestoreError: it could not be made, or does not open; its own words are in the text.
    """
    data = place / "cluster"
    _initialise(binaries, data, place / "initdb.log", owner, tick)
    with ServerProcess(binaries, data, room, major, owner) as server:
        server.start(_THROWN_AWAY)
        _wait_until_open(server, tick)
        yield server


def parameters_of(server: ServerProcess, database: str | None = None) -> ConnectionParameters:
    """libpq's parameters for its superuser in a database."""
    connection = Connection("scratch", "postgres", str(server.room), PORT, SUPERUSER)
    return connection_parameters(connection, Tls("off"), application_name="lifeboat test", database=database)


def _initialise(binaries: Path, data: Path, log: Path, owner: Owner | None, tick: Callable[[], None]) -> None:
    arguments = [
        str(binaries / "initdb"), "-D", str(data), "--username", SUPERUSER, "--auth=trust", "--encoding=UTF8",
        "--locale=C", "--no-sync",
    ]  # fmt: skip
    code = run_program(arguments, log, owner, tick)
    if code != 0:
        told = " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-4:])
        raise RestoreError(
            f"No scratch server could be made: {told or f'initdb ended with code {code}'}.",
            "Look at the scratch directory: its user, its room, and whether programs may run from `binaries`.",
        )
    if owner is not None:
        os.chown(log, owner.uid, owner.gid)


def _wait_until_open(server: ServerProcess, tick: Callable[[], None]) -> None:
    deadline = time.monotonic() + OPEN_SECONDS
    while True:
        try:
            server.connect(SUPERUSER, "postgres").close()
        except psycopg.OperationalError:
            pass
        else:
            return
        tick()
        if not server.running or time.monotonic() > deadline:
            raise RestoreError("The scratch server does not open.", f"Its last words: {server.last_words()}")
        time.sleep(TICK_SECONDS)
