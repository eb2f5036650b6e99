"""One file on its way into a pack: read once where it is small, and not at all where its bytes are stored already."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from lifeboat.files.entries import Place
from lifeboat.files.known import KnownBytes
from lifeboat.files.packing import Packer
from lifeboat.files.walking import Seen

AT_ONCE = 4 * 1024 * 1024
"""Files up to this size are read whole: their digest is known before their first byte is stored."""
_PIECE = 1024 * 1024
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class Bytes:
    """A file's bytes, once they are stored.

    Attributes:
        sha256: of what is stored.
        size: of it.
        place: where; ``None`` for an empty file.
        stat: of the file when its reading began.
        new: whether they were stored just now.
        changed: whether the file changed while it was read, at both tries.
    """

    sha256: str
    size: int
    place: Place | None
    stat: os.stat_result
    new: bool
    changed: bool


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
                return Bytes(digest, size, place, before, False, _changed(descriptor, before, size))
            os.lseek(descriptor, 0, os.SEEK_SET)
        return self._in_pieces(seen, descriptor, before)

    def _at_once(self, seen: Seen, descriptor: int, before: os.stat_result) -> Bytes:
        pieces = []
        left = before.st_size + 1  # one more shows that it has grown
        while left and (piece := os.read(descriptor, left)):
            pieces.append(piece)
            left -= len(piece)
            if left == 1:
                # One byte more was asked for, and was not there.
                break
        data = (pieces[0] if len(pieces) == 1 else b"".join(pieces))[: before.st_size]
        self._tick_for(len(data))
        changed = left == 0 or _changed(descriptor, before, len(data))
        if not data:
            return Bytes(hashlib.sha256().hexdigest(), 0, None, before, False, changed)
        digest = hashlib.sha256(data).hexdigest()
        if (place := self._known().place(digest, len(data))) is not None:
            return Bytes(digest, len(data), place, before, False, changed)
        member = self._packer.begin(seen.path, before, len(data))
        member.write(data)
        member.end()
        place = Place(member.pack, self._recovery_point, seen.path)
        self._known().add(digest, len(data), place)
        return Bytes(digest, len(data), place, before, True, changed)

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
        return Bytes(sha256, before.st_size, place, before, True, changed)

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


def _changed(descriptor: int, before: os.stat_result, read: int) -> bool:
    after = os.fstat(descriptor)
    return (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or read != before.st_size
