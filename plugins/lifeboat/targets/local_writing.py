"""How a file appears whole or not at all: written under a hidden name, synced, then renamed."""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from lifeboat.errors import TargetError
from lifeboat.targets.keys import RESERVED
from lifeboat.targets.local_places import Place, Tree
from lifeboat.targets.target import Readable

_UPLOAD = re.compile(rf"{re.escape(RESERVED)}upload-[0-9a-f]{{16}}-(?P<name>.+)", re.DOTALL)
_PIECE = 1024 * 1024
_SYNC_EVERY = 32 * 1024 * 1024


def upload_name(name: str) -> str:
    """A hidden name for an upload in progress of the file ``name``; no two are the same."""
    return f"{RESERVED}upload-{secrets.token_hex(8)}-{name}"


def name_of_upload(hidden: str) -> str | None:
    """The name that an upload in progress will get; ``None`` when ``hidden`` is not one."""
    found = _UPLOAD.fullmatch(hidden)
    return found["name"] if found else None


class _Syncing:
    """Sends written bytes to the disk while more are coming, so that the last sync is short.

    A process that waits in ``fsync`` for gigabytes can't be stopped; at most some 64 MiB are ever left to sync.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None
        self._unsynced = 0

    def _run(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._failure = error

    def wrote(self, count: int) -> None:
        """Take note of bytes written; the kernel reports a failed sync once, so it is raised here and not lost."""
        self._unsynced += count
        if self._unsynced >= _SYNC_EVERY:
            self.settle()
            self._unsynced = 0
            self._thread = threading.Thread(target=self._run, name="lifeboat-sync", daemon=True)
            self._thread.start()

    def leave(self) -> None:
        """The file will be thrown away: what the sync says is of no interest, and a slow disk must not hold us."""
        if self._thread is not None:
            self._thread.join(timeout=2)

    def settle(self) -> None:
        """Wait for the sync under way; raise what it failed with."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            raise self._failure


def _write_all(descriptor: int, body: Readable) -> int:
    syncing = _Syncing(descriptor)
    size = 0
    try:
        while piece := body.read(_PIECE):
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            size += len(piece)
            syncing.wrote(len(piece))
    except BaseException:
        syncing.leave()
        raise
    syncing.settle()
    os.fsync(descriptor)
    return size


@contextmanager
def _hidden_file(tree: Tree, key: str) -> Iterator[tuple[Place, str, int]]:
    """A new hidden file beside where ``key`` will be: its place, its name, its descriptor. Gone afterwards."""
    for _ in range(20):
        with ExitStack() as stack:
            try:
                place = stack.enter_context(tree.place(key, make=True))
                assert place is not None
                hidden = upload_name(place.name)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(hidden, flags, 0o600, dir_fd=place.directory)
            except FileNotFoundError:
                continue  # somebody's clean-up removed the empty folder between its making and this
            try:
                yield place, hidden, descriptor
            finally:
                os.close(descriptor)
                with suppress(FileNotFoundError):
                    os.unlink(hidden, dir_fd=place.directory)
            return
    raise TargetError(f"Target {tree.target}: the folder of {key} is removed again and again while it is written to.")


def write(tree: Tree, key: str, body: Readable, commit: Callable[[Place, str], None]) -> int:
    """Write ``body`` to its end, sync it, and let ``commit`` give it its name; return its size in bytes.

    ``commit`` gets the place and the hidden name. Whatever fails, the hidden file is removed, and so are the folders
    that were made for it and are empty.
    """
    try:
        with _hidden_file(tree, key) as (place, hidden, descriptor):
            size = _write_all(descriptor, body)
            commit(place, hidden)
            os.fsync(place.directory)
    except BaseException:
        with suppress(OSError, TargetError):
            tree.prune(key.split("/")[:-1])
        raise
    return size


def rename(place: Place, hidden: str) -> None:
    """Commit by giving the file its name, in the place of any file that has it."""
    os.rename(hidden, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)


def link(place: Place, hidden: str) -> None:
    """Commit only if nothing has the name; atomic.

    Raises:
        FileExistsError: something has it.
    """
    os.link(hidden, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory, follow_symlinks=False)
