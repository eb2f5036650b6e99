"""A recovered server while it is open: what may be asked of it before it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.unpacking import Owner


@dataclass(frozen=True)
class OpenServer:
    """It listens on a socket in a directory of its own, and nowhere else.

    Attributes:
        binaries: the directory with PostgreSQL's programs, of its major version.
        room: the directory with its socket.
        port: the number in the socket's name.
        superuser: who may do everything in it.
        databases: those that answered, by name.
        owner: the user that its programs run as; ``None``: ourselves.
        session_options: libpq's ``options`` for a program's sessions.
        session: a session of the superuser in a database, outside any transaction.
        stopped_at: where recovery left the WAL; ``None`` for a server that recovered nothing.
    """

    binaries: Path
    room: Path
    port: int
    superuser: str
    databases: tuple[str, ...]
    owner: Owner | None
    session_options: str
    session: Callable[[str], psycopg.Connection[TupleRow]]
    stopped_at: Lsn | None = None
