"""A directory as a target: ``file://``."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from lifeboat.errors import TargetError, TargetUnavailable
from lifeboat.targets.keys import RESERVED, check_key, check_prefix, fault_of_key
from lifeboat.targets.local_disposal import dispose
from lifeboat.targets.local_marker import MARKER, insist_on_marker
from lifeboat.targets.local_places import Place, Tree, already_there, translated
from lifeboat.targets.local_writing import link, name_of_upload, rename, write
from lifeboat.targets.target import Finding, Kept, ObjectInfo, Readable, no_locks

_LITTLE_SPACE = 0.05


class LocalTarget:
    """Objects as files of mode 0600 in folders of mode 0700 below one directory.

    What it does with things that Lifeboat did not put there: plain files are listed like objects; symbolic links,
    devices, pipes, sockets and files whose names can't be keys are never listed, and reading them is an error; links on
    the way to an object are refused. ``lost+found`` in the root is passed over.

    Args:
        name: the target's name in the policy.
        root: the directory; it must exist. Lifeboat makes folders below it, never the root itself.
        marker: the id that the file ``.lifeboat-target`` in the root must hold, so that a path where nothing is
            mounted is never written to; ``None``: no such file is asked for.
    """

    def __init__(self, name: str, root: Path, *, marker: str | None = None) -> None:
        if not root.is_absolute():
            raise TargetError(f"Target {name}: {root} is not an absolute path.", "Write file:///path in the policy.")
        self._name = name
        self._marker = marker
        self._tree = Tree(name, root)
        self._links: bool | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def url(self) -> str:
        return self._tree.root.as_uri()

    @property
    def conditional_writes(self) -> bool:
        """True where the file system has hard links; found out by making one."""
        if self._links is None:
            self._insist_on_marker()
            with translated(self._name, f"writing to {self._tree.root}"):
                self._links = self._try_linking()
        return self._links

    def check(self, kept: Kept | None = None) -> list[Finding]:
        """Findings on: the directory, its marker, whether it can be written to, hard links, free space."""
        subject = f"target {self._name}"
        try:
            self._insist_on_marker()
            with translated(self._name, f"writing to {self._tree.root}"):
                self._links = self._try_linking()
                space = os.statvfs(self._tree.root)
        except TargetError as error:
            return [Finding("error", subject, error.what, error.remedy)]
        findings = [Finding("ok", subject, f"{self.url} can be written to.")]
        if not self._links:
            findings.append(
                Finding(
                    "warning",
                    subject,
                    f"The file system of {self.url} has no hard links: two writers of one object can't be kept apart.",
                    "Use a file system with hard links (ext4, XFS, ZFS, NFS).",
                )
            )
        free, whole = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
        what = f"{free / 2**30:,.1f} GiB of {whole / 2**30:,.1f} GiB are free."
        scarce = free < whole * _LITTLE_SPACE
        findings.append(
            Finding("warning", subject, what, "Make room, or shorten the retention.")
            if scarce
            else Finding("ok", subject, what)
        )
        return findings

    def put(self, key: str, body: Readable, *, retain_until: datetime | None = None, shared: bool = False) -> int:
        """As the protocol says. A file system keeps no object locks, and a file that has its name is never removed
        here: neither ``retain_until`` nor ``shared`` makes a difference."""
        check_key(self._name, key)
        self._insist_on_marker()

        def commit(place: Place, hidden: str) -> None:
            self._tree.is_object(place, key)
            rename(place, hidden)

        return self._write(key, body, commit)

    def put_new(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        """As the protocol says, without a lock."""
        check_key(self._name, key)
        self._insist_on_marker()
        self._write(key, io.BytesIO(data), lambda place, hidden: self._commit_new(key, place, hidden))

    def _write(self, key: str, body: Readable, commit: Callable[[Place, str], None]) -> int:
        # An OSError of the body itself (its source was a socket, say) is not the target's: it passes as it is.
        guarded = _Guarded(body)
        try:
            with translated(self._name, f"writing {key}"):
                return write(self._tree, key, guarded, commit)
        except TargetError as error:
            if guarded.failure is not None and error.__cause__ is guarded.failure:
                raise guarded.failure from None
            raise

    def _commit_new(self, key: str, place: Place, hidden: str) -> None:
        try:
            link(place, hidden)
            self._links = True
        except FileExistsError as error:
            raise already_there(self._name, key) from error
        except OSError as error:
            if not _no_links(error):
                raise
            self._links = False
            try:
                os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            except FileNotFoundError:
                rename(place, hidden)
            else:
                raise already_there(self._name, key) from error

    @contextmanager
    def open(self, key: str) -> Iterator[Readable]:
        check_key(self._name, key)
        self._insist_on_marker()
        with translated(self._name, f"reading {key}"):
            descriptor = self._tree.open_file(key)
        with os.fdopen(descriptor, "rb") as file:
            yield _Reading(self._name, key, file)

    def read(self, key: str, *, limit: int = 64 * 1024 * 1024) -> bytes:
        with self.open(key) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise TargetError(f"Target {self._name}: {key} is larger than {limit} bytes, which can't be right.")
        return data

    def stat(self, key: str) -> ObjectInfo | None:
        check_key(self._name, key)
        self._insist_on_marker()
        with translated(self._name, f"looking at {key}"), self._tree.place(key) as place:
            if place is None or not self._tree.is_object(place, key):
                return None
            try:
                found = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False)
            except FileNotFoundError:
                return None
            return _info(key, found)

    def stat_each(self, keys: Sequence[str]) -> dict[str, ObjectInfo]:
        found = {}
        for key in keys:
            check_key(self._name, key)
        for key in keys:
            try:
                info = self.stat(key)
            except TargetUnavailable:
                raise
            except TargetError:
                continue
            if info is not None:
                found[key] = info
        return found

    def list_folders(self, prefix: str) -> list[str]:
        check_prefix(self._name, prefix)
        self._insist_on_marker()
        with translated(self._name, f"listing {prefix or self._tree.root}"):
            names = [name for name, found in self._tree.entries(prefix) if stat.S_ISDIR(found.st_mode)]
        return sorted(name for name in names if fault_of_key(name) is None)

    def delete(self, key: str) -> None:
        """As the protocol says; folders that become empty go as well."""
        check_key(self._name, key)
        self._insist_on_marker()
        with translated(self._name, f"deleting {key}"):
            with self._tree.place(key) as place:
                if place is not None and self._tree.is_object(place, key):
                    with suppress(FileNotFoundError):
                        os.unlink(place.name, dir_fd=place.directory)
                    os.fsync(place.directory)
            self._tree.prune(key.split("/")[:-1])

    def dispose(self, key: str) -> None:
        """As the protocol says: the bytes are overwritten once before the file goes; see ``local_disposal``."""
        check_key(self._name, key)
        self._insist_on_marker()
        with translated(self._name, f"removing {key}"):
            with self._tree.place(key) as place:
                if place is not None and self._tree.is_object(place, key):
                    dispose(place)
            self._tree.prune(key.split("/")[:-1])

    def locked_until(self, key: str) -> datetime | None:
        """``None``: nothing is locked here."""
        check_key(self._name, key)
        return None

    def extend_lock(self, key: str, until: datetime) -> bool:
        """Raises ``TargetError``: nothing can be locked here."""
        check_key(self._name, key)
        raise no_locks(self._name, key)

    def store_crc32(self, key: str) -> int | None:
        """``None``: a file system keeps no checksum of a file."""
        check_key(self._name, key)
        return None

    def abandon_uploads(self, prefix: str, *, older_than: datetime) -> list[str]:
        """As the protocol says. An upload that was written to after ``older_than`` is alive and stays."""
        check_prefix(self._name, prefix)
        self._insist_on_marker()
        keys = []
        with translated(self._name, f"cleaning up {prefix or self._tree.root}"):
            for hidden, found in list(self._tree.walk(prefix)):
                folder, _, last = hidden.rpartition("/")
                name = name_of_upload(last)
                if name is None or datetime.fromtimestamp(found.st_mtime, UTC) >= older_than:
                    continue
                parts = folder.split("/") if folder else []
                with self._tree.folder(parts) as directory:
                    if directory is not None:
                        with suppress(FileNotFoundError):
                            os.unlink(last, dir_fd=directory)
                self._tree.prune(parts)
                keys.append(f"{folder}/{name}" if folder else name)
        return keys

    def mark(self, identity: str) -> None:
        """Make the marker file that says: this directory is the target with the id ``identity``.

        Raises:
            ObjectExists: the directory is marked already; the mark stays as it is.
            TargetError: the directory can't be written to, or the id is not one line of text.
        """
        if not identity.strip() or "\n" in identity:
            raise TargetError(f"Target {self._name}: the id {identity!r} is not one line of text.")
        with translated(self._name, f"marking {self._tree.root}"):
            data = io.BytesIO(f"{identity.strip()}\n".encode())
            write(self._tree, MARKER, data, lambda place, hidden: self._commit_new(MARKER, place, hidden))

    def _insist_on_marker(self) -> None:
        if self._marker is not None:
            insist_on_marker(self._tree, self._marker)

    def _try_linking(self) -> bool:
        """Write an object and look whether it could be linked; raises ``OSError`` when it can't be written at all."""
        linked = False

        def commit(place: Place, hidden: str) -> None:
            nonlocal linked
            second = f"{hidden}-link"
            try:
                os.link(hidden, second, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            except OSError as error:
                if not _no_links(error):
                    raise
                return
            os.unlink(second, dir_fd=place.directory)
            linked = True

        write(self._tree, f"{RESERVED}check", io.BytesIO(b"Lifeboat looks whether it can write here.\n"), commit)
        return linked

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(self._name, prefix)
        self._insist_on_marker()
        with translated(self._name, f"listing {prefix or self._tree.root}"):
            for key, found in self._tree.walk(prefix):
                if fault_of_key(key) is None:
                    yield _info(key, found)


class _Guarded:
    """A body that remembers what its own reading failed with."""

    def __init__(self, body: Readable) -> None:
        self._body = body
        self.failure: OSError | None = None

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._body.read(size)
        except OSError as error:
            self.failure = error
            raise


class _Reading:
    """A file whose system errors are errors of the target."""

    def __init__(self, target: str, key: str, file: io.BufferedReader) -> None:
        self._target = target
        self._key = key
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        with translated(self._target, f"reading {self._key}"):
            return self._file.read(size)


def _no_links(error: OSError) -> bool:
    return error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
