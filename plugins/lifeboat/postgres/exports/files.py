"""Tables of an export as plain files: all of them or none, each proven before it gets its name.

What is not finished lies in ``.lifeboat-unfinished`` inside the destination; a restore that was killed leaves that and
nothing else, and the next one empties it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lifeboat.errors import DestinationInUse, NotEnoughDisk, RestoreError
from lifeboat.policy.export import ExportFormat
from lifeboat.postgres.exports.loading import file_of
from lifeboat.postgres.exports.packing import file_path
from lifeboat.postgres.exports.reading import Passed, TableReader, table_file
from lifeboat.postgres.exports.records import FileRecord, TableRecord
from lifeboat.repository.manifest import Manifest
from lifeboat.streams.reading import Origin
from lifeboat.targets.target import Readable

UNFINISHED = ".lifeboat-unfinished"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def files_of(records: Sequence[TableRecord], format_name: ExportFormat | None) -> list[tuple[TableRecord, FileRecord]]:
    """The files to write: every format of each table, or the one asked for."""
    if format_name is None:
        return [(record, file) for record in records for file in record.files]
    return [(record, file_of(record, format_name)) for record in records]


def place_of(record: TableRecord, file: FileRecord) -> str:
    """A file's place below the destination: ``shop/public/users.jsonl``."""
    return file_path(record.database, record.schema_name, record.name, file.format)


def check_files(into: Path, files: Sequence[tuple[TableRecord, FileRecord]]) -> None:
    """Insist on nothing's being in the way, and on room; nothing is touched.

    Raises:
        DestinationInUse: a file is there already.
        NotEnoughDisk: there is too little room.
        RestoreError: the destination is no directory.
    """
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise RestoreError(f"{into} is there and is no directory.", "Name another destination.")
    if not into.parent.is_dir():
        raise RestoreError(f"{into.parent} is no directory.", "Make it, or mount it, first.")
    there = [place for record, file in files if os.path.lexists(into / (place := place_of(record, file)))]
    if there:
        raise DestinationInUse(
            f"{into / there[0]} is there already; nothing was touched.", "Name another directory, or move it aside."
        )
    wanted = sum(file.size for _, file in files)
    free = shutil.disk_usage(into if into.is_dir() else into.parent).free
    if wanted > free:
        raise NotEnoughDisk(
            f"The files need {wanted:,} bytes, and {into} has {free:,} bytes free.",
            "Name another directory, or restore fewer tables with --only.",
        )


def write_files(
    manifest: Manifest,
    origin: Origin,
    into: Path,
    files: Sequence[tuple[TableRecord, FileRecord]],
    *,
    passed: Passed = lambda _: None,
    tick: Callable[[], None],
) -> list[Path]:
    """Write files of tables below a directory, for their owner's eyes alone.

    Raises:
        DestinationInUse, NotEnoughDisk, RestoreError: as :func:`check_files`, or the disk filled meanwhile.
        ObjectDamaged, VerificationFailed: the copy is not good. No file got its name.
    """
    check_files(into, files)
    try:
        with _room(into) as room:
            for number, (record, file) in enumerate(files):
                tick()
                _write_one(manifest, origin, room / str(number), record, file, passed, tick)
            written = []
            for number, (record, file) in enumerate(files):
                place = into / place_of(record, file)
                _make_directories(into, place.parent)
                _name(room / str(number), place)
                written.append(place)
            for directory in {path for place in written for path in (place.parent, *place.parent.parents)}:
                if directory == into or into in directory.parents:
                    _sync(directory)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in _NO_ROOM:
            raise NotEnoughDisk(
                f"{into} took no more: {reason}. No file was kept.", "Make room, or name another directory."
            ) from error
        raise RestoreError(f"{into} can't be written: {reason}.", "Look at the directory and its disk.") from error
    return written


@contextmanager
def _room(into: Path) -> Iterator[Path]:
    made = not into.exists()
    if made:
        into.mkdir(mode=0o700)
    room = into / UNFINISHED
    lock = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DestinationInUse(f"Another restore writes into {into}.", "Let it end, or name another.") from None
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir(mode=0o700)
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)
            if made:
                with suppress(OSError):
                    into.rmdir()  # it stays where files came into it
    finally:
        os.close(lock)


def _write_one(
    manifest: Manifest,
    origin: Origin,
    path: Path,
    record: TableRecord,
    file: FileRecord,
    passed: Passed,
    tick: Callable[[], None],
) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        with table_file(manifest, origin, file, passed) as content:
            for number, _ in enumerate(TableReader(record, file).rows(_Kept(content, out.write))):
                if number % 1000 == 0:
                    tick()
        out.flush()
        os.fsync(out.fileno())


class _Kept:
    """Passes a stream on, and writes it down."""

    def __init__(self, content: Readable, write: Callable[[bytes], object]) -> None:
        self._content = content
        self._write = write

    def read(self, size: int = -1, /) -> bytes:
        data = self._content.read(size)
        if data:
            self._write(data)
        return data


def _make_directories(into: Path, directory: Path) -> None:
    for path in reversed([directory, *directory.parents]):
        if into in path.parents and not path.is_dir():
            path.mkdir(mode=0o700)


def _name(path: Path, place: Path) -> None:
    """Give a file its name, never another's."""
    try:
        os.link(path, place)
    except FileExistsError:
        raise DestinationInUse(
            f"{place} came to be meanwhile, and was left alone.", "Name another directory."
        ) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # A file system without hard links.
        if os.path.lexists(place):
            raise DestinationInUse(f"{place} came to be meanwhile.", "Name another directory.") from None
        path.rename(place)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
