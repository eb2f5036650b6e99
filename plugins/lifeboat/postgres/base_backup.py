"""``BASE_BACKUP``, read from the server's replication protocol.

The server sends, in this order: where the backup starts; the list of tablespaces; one COPY stream with a tar archive of
each tablespace, the main one last, and the backup manifest; where the backup stops; and its word that all went well.
Only after that last word, and the end of results behind it, has the backup succeeded: a page whose checksum is wrong is
reported after everything else was sent.

Source: https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-BASE-BACKUP
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal, Protocol

from psycopg import Error as PsycopgError
from psycopg import pq
from psycopg.pq.abc import PGresult

from lifeboat.errors import BackupFailed
from lifeboat.postgres.copy_stream import CopyStream, failure_of, is_error
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.replication import ReplicationConnection

MANIFEST_STREAM = "backup_manifest"
MAIN_ARCHIVE = "base.tar"
SILENCE_SECONDS = 3600.0
"""How long the server may send nothing: a spread checkpoint takes up to checkpoint_timeout, at most a day; an hour
covers what is sensible."""
RESULT_SECONDS = 300.0
DATA_CORRUPTED = "XX001"
NOT_IN_PREREQUISITE_STATE = "55000"


class ParentRefused(BackupFailed):
    """Nothing can be built upon the parent that was chosen; a full can be taken.

    Args:
        reason: why, in words that follow a colon.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason.rstrip(".")
        super().__init__(
            f"The server can't make a backup in this state: {self.reason}.",
            "Nothing of this attempt was committed. Look at the server's log.",
        )


class Archives(Protocol):
    """Takes the streams of a base backup, one after the other."""

    def begin(self, name: str) -> None:
        """A new stream: ``<oid>.tar``, ``base.tar`` or ``backup_manifest``."""

    def write(self, data: memoryview) -> None:
        """More of the stream that was begun last."""

    def progress(self, done: int, total: int) -> None:
        """How many bytes the server has sent of how many it expects to send."""


@dataclass(frozen=True)
class SentTablespace:
    """A tablespace as the server announced it.

    Attributes:
        oid: ``None`` for the main one, which has ``pg_default`` and ``pg_global`` in it.
        location: its path on the server.
        size: expected bytes.
    """

    oid: int | None
    location: str | None
    size: int

    @property
    def archive(self) -> str:
        """The stream it comes in."""
        return MAIN_ARCHIVE if self.oid is None else f"{self.oid}.tar"


@dataclass(frozen=True)
class BaseBackup:
    """How a base backup ended.

    Attributes:
        start, start_timeline, stop, stop_timeline: the WAL it needs lies between these.
        tablespaces: what was sent, in order.
        damage: empty, or the server's report of pages with wrong checksums: the backup is whole but the data is not.
        notices: the server's warnings, in order.
    """

    start: Lsn
    start_timeline: int
    stop: Lsn
    stop_timeline: int
    tablespaces: tuple[SentTablespace, ...]
    damage: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class BaseBackupOptions:
    """What is asked of the server."""

    label: str
    checkpoint: Literal["fast", "spread"] = "fast"
    manifest_checksums: Literal["crc32c", "sha256"] = "crc32c"
    max_rate: int | None = None
    incremental: bool = False

    def command(self) -> str:
        """The replication command.

        ``WAIT false``: with a failing ``archive_command`` the server would wait for ever; the WAL is in the archive.
        """
        label = self.label.replace("'", "''")
        options = [
            f"LABEL '{label}'",
            "PROGRESS true",
            f"CHECKPOINT '{self.checkpoint}'",
            "WAL true",
            "WAIT false",
            "TABLESPACE_MAP true",
            "MANIFEST 'yes'",
            f"MANIFEST_CHECKSUMS '{self.manifest_checksums}'",
            "VERIFY_CHECKSUMS true",
        ]
        if self.incremental:
            options.append("INCREMENTAL")
        if self.max_rate is not None:
            options.append(f"MAX_RATE {max(32, self.max_rate // 1024)}")
        return f"BASE_BACKUP ({', '.join(options)})"


@dataclass
class _Notices:
    texts: list[str] = field(default_factory=list)
    most: int = 50

    def take(self, result: PGresult) -> None:
        text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
        if text and len(self.texts) < self.most:
            self.texts.append(text.decode("utf-8", "replace"))


def stream_base_backup(
    connection: ReplicationConnection,
    options: BaseBackupOptions,
    archives: Archives,
    *,
    tick: Callable[[], None],
) -> BaseBackup:
    """Run ``BASE_BACKUP`` and hand its streams to ``archives``.

    Returns only when the server has confirmed the end of the whole backup.

    Raises:
        BackupFailed: the server refused, failed, went away, or ended the backup early.
    """
    pgconn = connection.pgconn
    notices = _Notices()
    pgconn.notice_handler = notices.take
    try:
        return _streamed(connection, options, archives, notices, tick)
    except PsycopgError as error:
        raise BackupFailed(
            f"The connection to the server broke: {failure_of(str(error).encode())}.",
            "Look at the server's log. Nothing of this attempt was committed; the next try starts anew.",
        ) from error


def _streamed(
    connection: ReplicationConnection,
    options: BaseBackupOptions,
    archives: Archives,
    notices: _Notices,
    tick: Callable[[], None],
) -> BaseBackup:
    pgconn = connection.pgconn
    pgconn.send_query(options.command().encode())
    start, start_timeline = _position(_expect(connection, pq.ExecStatus.TUPLES_OK, seconds=SILENCE_SECONDS))
    tablespaces = _tablespaces(_expect(connection, pq.ExecStatus.TUPLES_OK))
    _expect(connection, pq.ExecStatus.COPY_OUT)
    missing = _read_archives(CopyStream(pgconn, tick=tick, silence_seconds=SILENCE_SECONDS), archives, tablespaces)
    if missing:
        # The reason comes behind the stream that it ended.
        _expect(connection, pq.ExecStatus.TUPLES_OK)
        raise BackupFailed(f"The server ended the base backup before {missing}.", "Look at the server's log.")
    stop, stop_timeline = _position(_expect(connection, pq.ExecStatus.TUPLES_OK))
    damage = _final_word(connection)
    return BaseBackup(start, start_timeline, stop, stop_timeline, tablespaces, damage, tuple(notices.texts))


def _expect(connection: ReplicationConnection, status: pq.ExecStatus, *, seconds: float = RESULT_SECONDS) -> PGresult:
    result = connection.next_result(monotonic() + seconds)
    if result is None:
        raise BackupFailed("The server ended the base backup early, without an error.", "Look at the server's log.")
    if result.status != status:
        reason = failure_of(result.error_message) or f"it answered with {pq.ExecStatus(result.status).name}"
        if result.error_field(pq.DiagnosticField.SQLSTATE) == NOT_IN_PREREQUISITE_STATE.encode():
            raise ParentRefused(reason)
        raise BackupFailed(
            f"The server did not make the base backup: {reason}.",
            "Nothing of this attempt was committed. Look at the server's log; `lifeboat backup` checks the settings "
            "and privileges before it begins.",
        )
    return result


def _final_word(connection: ReplicationConnection) -> str:
    """Empty when the server is content; its report when pages are damaged; any other error is raised."""
    damage = ""
    result = connection.next_result(monotonic() + RESULT_SECONDS)
    if result is None:
        raise BackupFailed("The server never confirmed the end of the base backup.", "Look at the server's log.")
    while result is not None:
        if is_error(result.status):
            reason = failure_of(result.error_message)
            if result.error_field(pq.DiagnosticField.SQLSTATE) != DATA_CORRUPTED.encode():
                raise BackupFailed(f"The base backup failed at its end: {reason}.", "Look at the server's log.")
            damage = reason
        result = connection.next_result(monotonic() + RESULT_SECONDS)
    return damage


def _position(result: PGresult) -> tuple[Lsn, int]:
    return Lsn.parse(_text(result, 0, 0)), int(_text(result, 0, 1))


def _tablespaces(result: PGresult) -> tuple[SentTablespace, ...]:
    return tuple(
        SentTablespace(
            oid=int(_text(result, row, 0)) if result.get_value(row, 0) is not None else None,
            location=_text(result, row, 1) if result.get_value(row, 1) is not None else None,
            # The server counts in KiB; without a value it did not estimate.
            size=int(_text(result, row, 2) or 0) * 1024,
        )
        for row in range(result.ntuples)
    )


def _text(result: PGresult, row: int, column: int) -> str:
    return (result.get_value(row, column) or b"").decode()


def _read_archives(stream: CopyStream, archives: Archives, tablespaces: tuple[SentTablespace, ...]) -> str:
    """Hand all streams on; returns the name of the first one that did not come, empty when all did."""
    total = sum(tablespace.size for tablespace in tablespaces)
    expected = iter([*(tablespace.archive for tablespace in tablespaces), MANIFEST_STREAM])
    begun: list[str] = []
    while (message := stream.next_message()) is not None:
        kind = message[0]
        if kind == ord("d"):
            if not begun:
                raise BackupFailed("The server sent data before the name of an archive.", "Is this PostgreSQL?")
            archives.write(message[1:])
        elif kind == ord("n"):
            begun.append(next(expected, ""))
            archives.begin(_checked(begun[-1], bytes(message[1:]).split(b"\0", 1)[0].decode("utf-8", "replace")))
        elif kind == ord("m"):
            begun.append(next(expected, ""))
            archives.begin(_checked(begun[-1], MANIFEST_STREAM))
        elif kind == ord("p"):
            archives.progress(struct.unpack("!Q", message[1:9])[0], total)
        else:
            raise BackupFailed(f"The server sent a message of an unknown kind, {kind}.", "Update Lifeboat.")
    return next(expected, "")


def _checked(expected: str, announced: str) -> str:
    if announced != expected:
        raise BackupFailed(
            f"The server sent the archive {announced!r} where {expected!r} was announced.",
            "A tablespace was made or dropped meanwhile? The next try starts anew.",
        )
    return expected
