"""One file on its way into a pack: read once where it is small, and not at all where its bytes are stored already."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from typing import NamedTuple

from lifeboat.files.entries import Place
from lifeboat.files.known import KnownBytes
from lifeboat.files.packing import Packer
from lifeboat.files.walking import Seen

AT_ONCE = 4 * 1024 * 1024
"""Files up to this size are read whole: their digest is known before their first byte is stored."""
_PIECE = 1024 * 1024
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Bytes(NamedTuple):
    """A file's bytes, once they are stored.

    Attributes:
        sha256: of what is stored.
        size: of it.
        place: where; ``None`` for an empty file.
        stat: of the file when its reading began.
        new: whether they were stored just now.
        changed: whether the file changed while it was read, at both tries.
        xattrs: its extended attributes.
    """

    sha256: str
    size: int
    place: Place | None
    stat: os.stat_result
    new: bool
    changed: bool
    xattrs: dict[str, bytes]


class FileReader:
    """Reads files into packs.

    Args:
        packer: takes what is new.
        recovery_point: whose packs these are.
        known: what is stored already; asked at the first file that is read.
        tick: called for each MiB; may raise to cancel.
    """

    def __init__(
        self, packer: Packer, recovery_point: str, known: Callable[[], KnownBytes], tick: Callable[[], None]
    ) -> None:
        self._packer = packer
        self._recovery_point = recovery_point
        self._known = known
        self._tick = tick
        self.read_size = 0

    def read(self, seen: Seen) -> Bytes | None:
        """Read and store a file; one that changes meanwhile is read a second time.

        Returns:
            ``None`` when it is gone, or no plain file any more.

        Raises:
            OSError: it can't be read.
        """
        done: Bytes | None = None
        for _ in range(2):
            try:
                descriptor = os.open(seen.name, _FLAGS, dir_fd=seen.folder)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP):
                    return None
                raise
            try:
                done = self._read(seen, descriptor)
            finally:
                os.close(descriptor)
            if done is None or not done.changed:
                break
        return done

    def _read(self, seen: Seen, descriptor: int) -> Bytes | None:
        before = os.fstat(descriptor)
        if (before.st_mode & 0o170000) != 0o100000:
            return None
        if before.st_size <= AT_ONCE:
            return self._at_once(seen, descriptor, before)
        if self._known().may_have(before.st_size):
            digest, size = self._digest(descriptor)
            if (place := self._known().place(digest, size)) is not None:
                changed = _changed(descriptor, before, size)
                return Bytes(digest, size, place, before, False, changed, xattrs_of(descriptor))
            os.lseek(descriptor, 0, os.SEEK_SET)
        return self._in_pieces(seen, descriptor, before)

    def _at_once(self, seen: Seen, descriptor: int, before: os.stat_result) -> Bytes:
        size = before.st_size
        data = os.read(descriptor, size + 1)  # one more shows that it has grown
        while len(data) < size and (piece := os.read(descriptor, size + 1 - len(data))):
            data += piece
        changed = len(data) > size or _changed(descriptor, before, len(data))
        data = data[:size]
        self._tick_for(len(data))
        # On a thread of its own, beside the reading of the next file, it took a whole snapshot a little longer.
        sha256 = hashlib.sha256(data).hexdigest()
        xattrs = xattrs_of(descriptor)
        if not data:
            return Bytes(sha256, 0, None, before, False, changed, xattrs)
        known = self._known()
        if (place := known.place(sha256, len(data))) is not None:
            return Bytes(sha256, len(data), place, before, False, changed, xattrs)
        pack = self._packer.put(seen.path, before, data)
        place = Place(pack, self._recovery_point, seen.path)
        known.add(sha256, len(data), place)
        return Bytes(sha256, len(data), place, before, True, changed, xattrs)

    def _in_pieces(self, seen: Seen, descriptor: int, before: os.stat_result) -> Bytes:
        digest = hashlib.sha256()
        member = self._packer.begin(seen.path, before, before.st_size)
        size = 0
        while member.left and (piece := os.read(descriptor, min(_PIECE, member.left))):
            digest.update(piece)
            member.write(piece)
            size += len(piece)
            self._tick_for(len(piece))
        changed = _changed(descriptor, before, size)
        lacking = member.left
        member.end()
        while lacking:
            # What the header promised and the file no longer has was filled up: the digest is of what is stored.
            digest.update(bytes(step := min(lacking, _PIECE)))
            lacking -= step
        sha256 = digest.hexdigest()
        place = Place(member.pack, self._recovery_point, seen.path)
        self._known().add(sha256, before.st_size, place)
        return Bytes(sha256, before.st_size, place, before, True, changed, xattrs_of(descriptor))

    def _digest(self, descriptor: int) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        while piece := os.read(descriptor, _PIECE):
            digest.update(piece)
            size += len(piece)
            self._tick_for(len(piece))
        return digest.hexdigest(), size

    def _tick_for(self, size: int) -> None:
        self.read_size += size
        self._tick()


def xattrs_of(path: str | int) -> dict[str, bytes]:
    """The extended attributes of a path, not of what it points to, or of a descriptor; a file system that has none has
    none to lose."""
    follow = isinstance(path, int)
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError:
        return {}
    found = {}
    for name in names:
        try:
            found[name] = os.getxattr(path, name, follow_symlinks=follow)
        except OSError:
            continue
    return found


def _changed(descriptor: int, before: os.stat_result, read: int) -> bool:
    after = os.fstat(descriptor)
    return (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or read != before.st_size
