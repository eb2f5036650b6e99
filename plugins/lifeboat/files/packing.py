"""Packs: tars of the files that are new, each a stream of its own, so that one file comes back without the others.

A member has the path, mode, owner and time of the first file with these bytes; everything else stands in the index. A
pack is uploaded while the next one fills.
Source of the format: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_01
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lifeboat.errors import TargetError
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter, abort_all, one_of_many

PACK_BYTES = 64 * 1024 * 1024
"""A pack is ended when it has so much: what one file's restore fetches at most, unless the file itself is larger."""
ENDING = 2
"""Packs whose upload may be under way beside the one that fills; each takes the memory of a stream."""
BLOCK = 512
_ZEROS = bytes(BLOCK)


class Described(Protocol):
    """What a member's header says of a file: an ``os.stat_result`` is such."""

    @property
    def st_mode(self) -> int: ...

    @property
    def st_uid(self) -> int: ...

    @property
    def st_gid(self) -> int: ...

    @property
    def st_mtime_ns(self) -> int: ...


@dataclass
class _Pack:
    name: str
    writer: StreamWriter

    def write(self, *pieces: bytes) -> None:
        try:
            self.writer.write(*pieces)
        except OSError as error:
            raise self._not_stored(error) from error

    def finish(self) -> StoredStream:
        try:
            return self.writer.finish()
        except OSError as error:
            raise self._not_stored(error) from error

    def _not_stored(self, error: OSError) -> TargetError:
        """An error of the system on a pack's way, which must not be taken for one of the file that is being read."""
        return TargetError(
            f"{self.name} could not be stored: {error}.",
            "Nothing was committed. Look at the target, and at the worker's log.",
        )


class Packer:
    """Writes packs to one recovery point.

    Args:
        destination: the attempt's folder.
        settings: the pipeline's figures.
        tick: called while a call has to wait; may raise to cancel.
    """

    def __init__(self, destination: Destination, settings: StreamSettings, *, tick: Callable[[], None]) -> None:
        self._destination = destination
        self._settings = one_of_many(settings)
        self._tick = tick
        self._pack: _Pack | None = None
        self._ending: list[_Pack] = []
        self._stored: list[StoredStream] = []
        self._number = 0

    def begin(self, path: str, found: Described, size: int) -> Member:
        """Begin a member of so many bytes; they are written to what is returned, which then must be ended."""
        pack = self._filling()
        pack.write(_header(path, found, size))
        return Member(self, pack, size)

    def put(self, path: str, found: Described, data: bytes) -> str:
        """Write a whole member; says in which pack."""
        pack = self._filling()
        pack.write(_header(path, found, len(data)), data, _ZEROS[: -len(data) % BLOCK])
        self.end_member()
        return pack.name

    def _filling(self) -> _Pack:
        if self._pack is None:
            self._number += 1
            name = f"pack-{self._number:05d}.tar"
            self._pack = _Pack(name, StreamWriter(name, self._destination, self._settings, tick=self._tick))
        return self._pack

    def end_member(self) -> None:
        """What was begun is whole: a pack that is full is ended."""
        assert self._pack is not None
        if self._pack.writer.plain_size >= PACK_BYTES:
            self._end_pack()

    def _end_pack(self) -> None:
        pack = self._pack
        assert pack is not None
        # Two blocks of zeros end a tar.
        pack.write(_ZEROS * 2)
        # In one list or the other at any moment: what is in none would be missing from the manifest, and an abort.
        self._ending.append(pack)
        self._pack = None
        pack.writer.end()
        while len(self._ending) > ENDING:
            self._settle()

    def _settle(self) -> None:
        # Not taken out of the list before it is done: an abort must reach it.
        self._stored.append(self._ending[0].finish())
        del self._ending[0]

    def finish(self) -> tuple[StoredStream, ...]:
        """Wait for all packs, and say what was stored."""
        if self._pack is not None:
            self._end_pack()
        while self._ending:
            self._settle()
        return tuple(self._stored)

    def abort(self, failure: BaseException) -> None:
        """Give everything up."""
        under_way = [*self._ending, *([self._pack] if self._pack is not None else [])]
        abort_all([pack.writer for pack in under_way], failure)


class Member:
    """A file on its way into a pack: exactly as many bytes as its header says."""

    def __init__(self, packer: Packer, pack: _Pack, size: int) -> None:
        self.pack = pack.name
        self._packer = packer
        self._to = pack
        self._left = size
        self._padding = -size % BLOCK

    @property
    def left(self) -> int:
        """Bytes that are still wanted."""
        return self._left

    def write(self, data: bytes) -> None:
        """Take more of the file."""
        assert len(data) <= self._left
        self._left -= len(data)
        self._to.write(data)

    def end(self) -> None:
        """End it; what a file lacks that became shorter meanwhile is filled with zeros."""
        while self._left:
            piece = bytes(min(self._left, 1024 * 1024))
            self.write(piece)
        if self._padding:
            self._to.write(_ZEROS[: self._padding])
        self._packer.end_member()


_MOST_OCTAL = 0o7777777


def _header(path: str, found: Described, size: int) -> bytes:
    """A member's header, as :mod:`tarfile` makes it; a plain one in a fifth of its time."""
    name = path.encode("utf-8", "surrogateescape")
    mtime = found.st_mtime_ns // 1_000_000_000
    plain = (
        path.isascii() and len(name) <= 100 and size < 8**11 and 0 <= mtime < 8**11
        and found.st_uid <= _MOST_OCTAL and found.st_gid <= _MOST_OCTAL
    )  # fmt: skip
    if not plain:
        return _any_header(path, found, size, mtime)
    front = b"%b%07o\x00%07o\x00%07o\x00%011o\x00%011o\x00" % (
        name.ljust(100, b"\0"), found.st_mode & 0o7777, found.st_uid, found.st_gid, size, mtime,
    )  # fmt: skip
    # The sum is made as if blanks stood in its own place.
    checksum = sum(front) + _SUM_OF_THE_REST
    return b"%b%06o\x00 %b" % (front, checksum, _TAIL)


def _any_header(path: str, found: Described, size: int, mtime: int) -> bytes:
    member = tarfile.TarInfo(path)
    member.mode = found.st_mode & 0o7777
    member.uid, member.gid = found.st_uid, found.st_gid
    member.mtime = mtime
    member.size = size
    try:
        # What fits into a plain header needs no more; asking for an extended one takes four times as long.
        return member.create_ustar_header(member.get_info(), "ascii", "strict")
    except ValueError:
        return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


_BEFORE_TAIL = 156
# From the type on, a plain header is the same for every file: no link, no names of owners, no device.
_TAIL = _any_header("any", os.stat_result((0o100000,) + (0,) * 9), 0, 0)[_BEFORE_TAIL:]
_SUM_OF_THE_REST = 8 * ord(" ") + sum(_TAIL)
