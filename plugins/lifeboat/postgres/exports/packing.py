"""Where the files of an export go: small ones side by side in tars, each large one in a stream of its own.

Every stored object costs requests, a header, threads for a moment, and a place in the manifest; ten thousand small
tables in two formats would be twenty thousand of them. So a file of up to 8 MiB waits in memory until its size is known
(a tar says it first) and goes into a pack of about 64 MiB: to fetch one table is to read one pack. A larger file is a
stream.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from datetime import datetime
from urllib.parse import quote

from lifeboat.policy.export import ExportFormat
from lifeboat.postgres.exports.records import FileRecord
from lifeboat.postgres.exports.rows import Fingerprint
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter, abort_all

SMALL_BYTES = 8 * 1024 * 1024
PACK_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 256 * 1024
SUFFIXES: dict[ExportFormat, str] = {"json": ".jsonl", "csv": ".csv"}
_LONGEST_NAME = 120


def file_path(database: str, schema: str, table: str, format_name: ExportFormat) -> str:
    """A table's file in a pack, or below a directory: ``shop/public/users.jsonl``.

    What a name holds besides letters, digits, ``_`` and ``-`` is written as in a URL: no name leaves its directory.
    """
    parts = [quote(part, safe="").replace(".", "%2E").replace("~", "%7E") for part in (database, schema, table)]
    return "/".join(parts) + SUFFIXES[format_name]


class Packer:
    """Writes the files of one attempt.

    Args:
        destination: where the streams go.
        settings: the pipeline's figures.
        modified: the time that the tars give to their files.
        tick: called while a call has to wait.
    """

    def __init__(
        self, destination: Destination, settings: StreamSettings, modified: datetime, *, tick: Callable[[], None]
    ) -> None:
        self._destination = destination
        self._settings = settings
        self._modified = modified
        self._tick = tick
        self._ending: list[StreamWriter] = []
        self._stored: list[StoredStream] = []
        self._pack: StreamWriter | None = None
        self._packs = 0
        self._own = 0
        self.plain_size = 0

    def file(self, database: str, schema: str, table: str, format_name: ExportFormat) -> TableFile:
        """Begin a file."""
        return TableFile(self, file_path(database, schema, table, format_name), f"{schema}.{table}", format_name)

    def own_stream(self, table: str, format_name: ExportFormat) -> StreamWriter:
        """A stream for a large file. The pack ends before it: no upload lies idle for the hours that a table takes."""
        self._end_pack()
        self._own += 1
        readable = re.sub(r"[^A-Za-z0-9_.-]", "_", table)[:_LONGEST_NAME]
        return self._begin(f"{self._own:05d}-{readable}{SUFFIXES[format_name]}")

    def records(self, name: str, content: bytes) -> None:
        """Put what is recorded of all tables into a stream of its own, as the last one."""
        self._end_pack()
        writer = self._begin(name, plain_digest=True)
        writer.write(content)
        writer.end()

    def _begin(self, name: str, *, plain_digest: bool = False) -> StreamWriter:
        # One stream may finish its upload while the next begins; all of them have ended when another one does.
        while len(self._ending) > 1:
            self._stored.append(self._ending[0].finish())
            # Not before it is done: an abort must reach it.
            del self._ending[0]
        writer = StreamWriter(name, self._destination, self._settings, tick=self._tick, plain_digest=plain_digest)
        self._ending.append(writer)
        return writer

    def add(self, member: str, content: bytes) -> str:
        """Put a small file into the present pack, and return that stream's name."""
        if self._pack is None:
            self._packs += 1
            self._pack = self._begin(f"tables-{self._packs:04d}.tar")
        info = tarfile.TarInfo(member)
        info.size, info.mode, info.mtime = len(content), 0o600, int(self._modified.timestamp())
        padding = bytes(-len(content) % tarfile.BLOCKSIZE)
        self._pack.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        self._pack.write(content)
        self._pack.write(padding)
        name = self._pack.name
        if self._pack.plain_size >= PACK_BYTES:
            self._end_pack()
        return name

    def _end_pack(self) -> None:
        if self._pack is not None:
            self._pack.write(bytes(2 * tarfile.BLOCKSIZE))
            self._pack.end()
            self._pack = None

    def finish(self) -> tuple[StoredStream, ...]:
        """Wait until everything is stored."""
        self._end_pack()
        self._stored.extend(writer.finish() for writer in self._ending)
        return tuple(self._stored)

    def abort(self, failure: BaseException) -> None:
        """Give everything up."""
        abort_all(self._ending, failure)


class TableFile:
    """One table in one format, on its way."""

    def __init__(self, packer: Packer, member: str, table: str, format_name: ExportFormat) -> None:
        self._packer = packer
        self._member = member
        self._table = table
        self._format = format_name
        self._pending = bytearray()
        self._own: StreamWriter | None = None
        self._size = 0
        self.fingerprint = Fingerprint()

    def write(self, row: memoryview, *, header: bool = False) -> None:
        """One row with its line end, as the server sent it; a header is no row."""
        if not header:
            self.fingerprint.add(row[:-1])
        self._size += len(row)
        self._packer.plain_size += len(row)
        self._pending += row
        if len(self._pending) > (SMALL_BYTES if self._own is None else PIECE_BYTES):
            if self._own is None:
                self._own = self._packer.own_stream(self._table, self._format)
            self._own.write(bytes(self._pending))
            self._pending.clear()

    def end(self) -> FileRecord:
        """The file is complete."""
        if self._own is not None:
            if self._pending:
                self._own.write(bytes(self._pending))
            self._own.end()
            stream, member = self._own.name, None
        else:
            stream, member = self._packer.add(self._member, bytes(self._pending)), self._member
        return FileRecord(
            format=self._format, stream=stream, member=member, size=self._size, fingerprint=self.fingerprint.hex
        )
