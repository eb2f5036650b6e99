"""Files' bytes onto a disk, several files at once: making a file costs more than filling it.

Small files are handed over in batches to threads, which compare them with their digests first; what is large is written
by its reader, piece by piece.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self, TypeAlias

from lifeboat.errors import Cancelled
from lifeboat.files.attributes import Born, give
from lifeboat.files.destination import RestoredFiles
from lifeboat.files.entries import Entry
from lifeboat.files.folders import Folders

SMALL = 256 * 1024
"""Files up to this size are handed over to a thread."""
_BATCH_BYTES, _BATCH_FILES = 1024 * 1024, 32
_WAITING = 6
"""Batches under way at most, which bounds the memory."""
_THREADS = 2
_PIECE = 1024 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PROBE = ".lifeboat-probe"

_Handed: TypeAlias = tuple[list[Entry], bytes]
"""The paths that should have certain bytes, and these."""


@dataclass(frozen=True)
class _Written:
    """What became of a batch."""

    restored: RestoredFiles
    unwritten: list[Entry]


class FileWriting:
    """Writes files below a directory that nobody else writes to; an ending without an error waits for all of them.

    Args:
        root: the directory; the folders in it are made by others before a file in them is asked for.
        folders: those of the thread that calls.
        restored: told of what was written, and of attributes that could not be given.

    Attributes:
        unwritten: what was handed over with bytes that are not its own, as far as it is known by now.
    """

    def __init__(self, root: Path, folders: Folders, restored: RestoredFiles) -> None:
        self.born = _probe(folders)
        self._folders = folders
        self._restored = restored
        self.unwritten: list[Entry] = []
        self._stopped = Event()
        self._batch: list[_Handed] = []
        self._batch_size = 0
        self._under_way: list[Future[_Written]] = []
        self._threads = ThreadPoolExecutor(_THREADS, "write files")
        # Descriptors are not shared: a thread's folders are closed while another one still needs them.
        self._idle = [Folders(root) for _ in range(_THREADS)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.settle()
        finally:
            self._stopped.set()
            self._threads.shutdown(cancel_futures=True)
            for folders in self._idle:
                folders.close()

    def put(self, entries: list[Entry], data: bytes) -> None:
        """Write a small file to those of the paths whose bytes these are, now or soon.

        Raises:
            OSError: this or an earlier one could not be written.
        """
        self._batch.append((entries, data))
        self._batch_size += len(data)
        if self._batch_size >= _BATCH_BYTES or len(self._batch) >= _BATCH_FILES:
            self._hand_over()

    def settle(self) -> None:
        """Wait until every file is written; raises as :meth:`put`."""
        self._hand_over()
        while self._under_way:
            self._take_one()

    def _hand_over(self) -> None:
        while len(self._under_way) >= _WAITING:
            self._take_one()
        if self._batch:
            self._under_way.append(self._threads.submit(self._write, self._batch))
        self._batch, self._batch_size = [], 0

    def _take_one(self) -> None:
        written = self._under_way.pop(0).result()
        self._restored.add(written.restored)
        self.unwritten += written.unwritten

    def _write(self, batch: list[_Handed]) -> _Written:
        written = _Written(RestoredFiles(Path()), [])
        folders = self._idle.pop()
        try:
            for entries, data in batch:
                digest = hashlib.sha256(data).hexdigest()
                for entry in entries:
                    if self._stopped.is_set():
                        raise Cancelled("Writing was given up.")
                    if entry.sha256 != digest:
                        written.unwritten.append(entry)
                        continue
                    with self._new(entry, folders, written.restored) as descriptor:
                        put(descriptor, data, entry)
                    written.restored.files += 1
                    written.restored.size += entry.size
        finally:
            self._idle.append(folders)
        return written

    @contextmanager
    def new(self, entry: Entry) -> Iterator[int]:
        """A file to be written by the caller, which gets its attributes afterwards."""
        with self._new(entry, self._folders, self._restored) as descriptor:
            yield descriptor

    @contextmanager
    def _new(self, entry: Entry, folders: Folders, restored: RestoredFiles) -> Iterator[int]:
        folder, name = folders.parent(entry.path)
        descriptor = os.open(name, _NEW_FILE, self.born.mode_for(entry), dir_fd=folder)
        try:
            yield descriptor
            if entry.sparse:
                os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
            give(entry, None, descriptor, restored, self.born)
        finally:
            os.close(descriptor)


def put(descriptor: int, data: bytes, entry: Entry) -> None:
    """Write a piece of a file; zeros of one that had holes become a hole."""
    if entry.sparse and not data.strip(b"\0"):
        os.lseek(descriptor, len(data), os.SEEK_CUR)
        return
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _probe(folders: Folders) -> Born:
    """What a new file here is born with: whatever the process, the folder and the file system have a say in."""
    folder, name = folders.parent(_PROBE)
    descriptor = os.open(name, _NEW_FILE, 0o777, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
    return Born(found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode) & 0o777)
