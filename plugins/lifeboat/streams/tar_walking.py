"""Tar archives, read once, as they come: a base backup's, and the packs of a set of files.

The standard library understands the headers; the walk from one to the next is ours, because ``tarfile`` copies every
byte of a stream four times, keeps every member it has seen, and takes a header that it can't read for the end.

Source: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_01. PostgreSQL writes plain
ustar headers (``src/port/tar.c``) and an end mark of two empty blocks, and no byte after it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from lifeboat.errors import VerificationFailed
from lifeboat.streams.reading import PLAIN_PIECE_BYTES
from lifeboat.targets.target import Readable

_HEADER = tarfile.BLOCKSIZE
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_LARGEST_RECORDS = 1024 * 1024
_REMEDY = "Use another copy of this recovery point."


class TarDamaged(VerificationFailed):
    """An archive that is cut short, or holds what its writer does not put there."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    Attributes:
        path: as the archive says; bytes that are no UTF-8 are kept as surrogates (``os.fsdecode``'s way).
        link: where a symbolic link points to; ``None`` for anything else.
        content: of a file, to be read before the next member is asked for; ``None`` for anything else.
    """

    path: str
    link: str | None
    content: Content | None


class Content:
    """The bytes of one file.

    Attributes:
        size: in bytes, as its header says.
    """

    def __init__(self, blocks: _Blocks, size: int) -> None:
        self.size = size
        self._blocks = blocks
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; fewer only at the end of the file."""
        missing = self._left if size < 0 else min(size, self._left)
        pieces: list[bytes] = []
        while missing:
            pieces.append(self.read_some(missing))
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def read_some(self, most: int = PLAIN_PIECE_BYTES) -> bytes:
        """What is at hand, mostly without a copy; empty only at the end of the file.

        Raises:
            TarDamaged: the archive ends before the file does.
        """
        piece = self._blocks.some(min(most, self._left))
        self._left -= len(piece)
        return piece


def members(archive: Readable, *, extended: bool = False) -> Iterator[Member]:
    """The entries of an archive, in order; what is not read of a file is passed over.

    Args:
        extended: whether its writer uses extended headers, for long names and such as are no ASCII.

    Raises:
        TarDamaged: while iterating or reading a content: a header or the end mark is missing or damaged, or something
            stands behind the end mark.
    """
    blocks = _Blocks(archive)
    told: dict[str, bytes] = {}
    while True:
        begin = blocks.position
        block = blocks.exactly(_HEADER)
        if not told and (plain := _plain_file(block)) is not None:
            name, size = plain
            content = Content(blocks, size)
            yield Member(name, None, content)
            while content.read_some():
                pass
            blocks.exactly(-size % tarfile.BLOCKSIZE)
            continue
        header = _header(block, begin, extended)
        if header is None:
            _insist_on_end(blocks, begin)
            return
        if header.type == tarfile.XHDTYPE:
            told = _records(blocks, header.size, begin)
            continue
        if told:
            header.name = told.get("path", header.name.encode("utf-8", "surrogateescape")).decode(
                "utf-8", "surrogateescape"
            )
            header.size = int(told.get("size", header.size))
            told = {}
        if header.type not in _FILES:
            yield Member(header.name, header.linkname if header.issym() else None, None)
            continue
        content = Content(blocks, header.size)
        yield Member(header.name, None, content)
        while content.read_some():
            pass
        blocks.exactly(-header.size % tarfile.BLOCKSIZE)


def _records(blocks: _Blocks, size: int, begin: int) -> dict[str, bytes]:
    """What an extended header says: records of ``length key=value``, each with an end of line."""
    if size > _LARGEST_RECORDS:
        raise _no_file(begin)
    data = blocks.exactly(size)
    blocks.exactly(-size % tarfile.BLOCKSIZE)
    found: dict[str, bytes] = {}
    while data:
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or not len(length) + 1 < int(length) <= len(data):
            raise _no_file(begin)
        record, data = rest[: int(length) - len(length) - 1], data[int(length) :]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise _no_file(begin)
        found[key.decode("utf-8", "replace")] = value[:-1]
    return found


def _plain_file(block: bytes) -> tuple[str, int] | None:
    """Name and size in the header of a file as most are, those of PostgreSQL and those of packs; ``None``: it takes the
    library, which is five times slower."""
    if block[156:157] != b"0" or block[257:265] != b"ustar\x0000" or block[345] or not block.isascii():
        return None
    size, told = block[124:135], block[148:156]
    if not size.isdigit() or b"8" in size or b"9" in size or block[135] not in b"\0 ":
        return None
    # The sum is made as if blanks stood in its own place.
    expected = sum(block) - sum(told) + 8 * ord(" ")
    if told not in (b"%06o\0 " % expected, b"%07o " % expected):
        return None
    return block[:100].partition(b"\0")[0].decode("ascii"), int(size, 8)


def _header(block: bytes, begin: int, extended: bool) -> tarfile.TarInfo | None:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if block.count(0) == len(block):
            return None
        raise _no_file(begin) from error
    known = (*_FILES, tarfile.DIRTYPE, tarfile.SYMTYPE)
    if header.type not in known and not (extended and header.type == tarfile.XHDTYPE):
        raise TarDamaged(
            f"damaged at byte {begin}: {header.name} is neither a file, a directory nor a symbolic link", _REMEDY
        )
    return header


def _insist_on_end(blocks: _Blocks, begin: int) -> None:
    rest = blocks.exactly(_HEADER)
    while rest:
        if rest.count(0) != len(rest):
            raise _no_file(begin)
        rest = blocks.some(PLAIN_PIECE_BYTES, at_end=True)


def _no_file(begin: int) -> TarDamaged:
    return TarDamaged(f"damaged at byte {begin}: what follows is no file", _REMEDY)


class _Blocks:
    """A stream that is read in pieces of one size and given out in pieces of any."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._held = b""
        self._given = 0
        self.position = 0

    def some(self, most: int, *, at_end: bool = False) -> bytes:
        """At least one byte when ``most`` is not 0; none at the end of the stream where that is allowed."""
        if not most:
            return b""
        if self._given == len(self._held):
            self._held, self._given = self._stream.read(PLAIN_PIECE_BYTES), 0
            if not self._held and not at_end:
                raise TarDamaged("cut short: it ends without its end mark", _REMEDY)
        # A slice of all is the same object: most pieces of a large file are whole, and are not copied.
        piece = self._held[self._given : self._given + most]
        self._given += len(piece)
        self.position += len(piece)
        return piece

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        piece = self.some(size)
        while len(piece) < size:
            piece += self.some(size - len(piece))
        return piece
