"""``UPLOAD_MANIFEST``: tells the server which backup the next one is to be incremental to.

The parent's ``backup_manifest`` is streamed from the target to the server as it is opened; it counts for the server
only after its end, and that is sent only after the stream was proven to its own.

Source: https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-UPLOAD-MANIFEST
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from time import monotonic

from psycopg import Error as PsycopgError
from psycopg import pq

from lifeboat.errors import BackupFailed, ObjectDamaged, ObjectMissing
from lifeboat.postgres.base_backup import MANIFEST_STREAM, NOT_IN_PREREQUISITE_STATE, RESULT_SECONDS, ParentRefused
from lifeboat.postgres.connecting import wait_for
from lifeboat.postgres.copy_stream import failure_of, is_error
from lifeboat.postgres.reach import Base
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.system import PRIMARY, SystemRepository
from lifeboat.streams.reading import opened
from lifeboat.targets.target import Readable

PIECE_BYTES = 256 * 1024


def upload_manifest_of(
    repository: SystemRepository, parent: Base, connection: ReplicationConnection, *, tick: Callable[[], None]
) -> None:
    """Hand the parent's ``backup_manifest`` from the primary target to the server.

    Raises:
        ParentRefused: also when it can't be read there.
        PostgresError, TargetError, KeyUnavailable: the server or the target failed, or no key opens it.
    """
    stored = parent.manifest.stream(MANIFEST_STREAM)
    try:
        with opened(stored, origin_of(repository, PRIMARY, parent.copy)) as manifest:
            upload_manifest(connection, manifest, tick=tick)
    except (ObjectDamaged, ObjectMissing) as error:
        raise ParentRefused(f"its manifest can't be read on the primary target: {error.what}") from error


def upload_manifest(connection: ReplicationConnection, manifest: Readable, *, tick: Callable[[], None]) -> None:
    """Hand a ``backup_manifest`` to the server, for the ``BASE_BACKUP`` that follows in the same session.

    Args:
        manifest: read to its end; what reading it raises is raised on, and the server forgets what it was given.
        tick: called in every wait; may raise to cancel.

    Raises:
        ParentRefused: the server can't build upon it, for a reason that a full does not have.
        BackupFailed: the server took no manifest, or went away.
    """
    upload = _Upload(connection, tick)
    try:
        upload.begin()
        while piece := manifest.read(PIECE_BYTES):
            upload.send(piece)
        upload.end()
    except PsycopgError as error:
        raise BackupFailed(
            f"The connection to the server broke: {failure_of(str(error).encode())}.",
            "Look at the server's log. Nothing of this attempt was committed; the next try starts anew.",
        ) from error


class _Upload:
    def __init__(self, connection: ReplicationConnection, tick: Callable[[], None]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._tick = tick

    def begin(self) -> None:
        self._pgconn.send_query(b"UPLOAD_MANIFEST")
        result = self._connection.next_result(monotonic() + RESULT_SECONDS)
        if result is None or result.status != pq.ExecStatus.COPY_IN:
            raise _refused(b"it asked for no manifest" if result is None else result.error_message, "")

    def send(self, piece: bytes) -> None:
        self._pgconn.put_copy_data(piece)
        self._flush()
        # Nothing waits in memory for a server that reads slowly; one that has given up says so at the end.
        self._tick()

    def end(self) -> None:
        self._pgconn.put_copy_end()
        self._flush()
        refused: BackupFailed | None = None
        while (result := self._connection.next_result(monotonic() + RESULT_SECONDS)) is not None:
            if is_error(result.status):
                state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
                refused = _refused(result.error_message, state)
        if refused is not None:
            raise refused

    def _flush(self) -> None:
        deadline = monotonic() + RESULT_SECONDS
        while self._pgconn.flush():
            ready = wait_for(
                self._pgconn.socket,
                selectors.EVENT_READ | selectors.EVENT_WRITE,
                deadline,
                self._tick,
                "The server did not take the parent's manifest",
            )
            if ready & selectors.EVENT_READ:
                self._pgconn.consume_input()


def _refused(message: bytes, state: str) -> BackupFailed:
    reason = failure_of(message)
    if state == NOT_IN_PREREQUISITE_STATE:
        return ParentRefused(reason)
    return BackupFailed(
        f"The server took no manifest for an incremental backup: {reason}.",
        "Nothing of this attempt was committed. Look at the server's log.",
    )
