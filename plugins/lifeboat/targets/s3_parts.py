"""How a stream of unknown length becomes the parts of a multipart upload."""

from __future__ import annotations

import base64
import io
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from lifeboat.targets.target import Readable

MIB = 1024 * 1024
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MOST_PARTS = 10_000
LARGEST_OBJECT = 5 * 1024 * 1024 * MIB
_FIRST_SIZE = 8 * MIB
_SAME_SIZE_UNTIL = 1_000
_GROWTH = 131 * 1024
_PIECE = MIB // 4
_LARGEST_READ = 64 * 1024
_BYTES_IN_FLIGHT = 96 * MIB


def part_size(number: int) -> int:
    """The size in bytes of part ``number`` (from 1).

    8 MiB for the first 1,000 parts, almost 8 GiB: memory is what counts there. Every later part is 131 KiB larger than
    the one before it, so that 10,000 parts hold 5 TiB, the largest object that S3 takes; the last one has 1.1 GiB.
    """
    return _FIRST_SIZE + max(0, number - _SAME_SIZE_UNTIL) * _GROWTH


def parts_in_flight(number: int, most: int) -> int:
    """How many parts may be under way when part ``number`` is sent: ``most`` while parts are small, one at the end."""
    return max(1, min(most, _BYTES_IN_FLIGHT // part_size(number)))


class Stopped(BaseException):
    """Ends the sending of a part. No ``Exception``: botocore would take it for a broken connection and send again."""


class PartBody(io.RawIOBase):
    """The bytes of one part as boto3 sends them: can be read again for a retry, and stopped in mid-part."""

    def __init__(self, view: memoryview, stop: threading.Event) -> None:
        super().__init__()
        self._view = view
        self._position = 0
        self._stop = stop

    def __len__(self) -> int:
        return len(self._view)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if self._stop.is_set():
            raise Stopped
        # Little at a time, whatever is asked for: pieces in flight count as memory, and a stop is noticed sooner.
        size = _LARGEST_READ if size is None or size < 0 else min(size, _LARGEST_READ)
        piece = bytes(self._view[self._position : self._position + size])
        self._position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._view)}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position


@dataclass
class Part:
    """One part of a stream.

    Attributes:
        number: from 1.
        view: its bytes, in a buffer that is used again after :meth:`Parts.give_back`.
        last: whether the stream ends with it.
    """

    number: int
    view: memoryview
    buffer: bytearray
    last: bool

    @property
    def crc32(self) -> str:
        """Its CRC-32 as S3 writes it: base64 of four bytes, the highest first."""
        return crc32_text(zlib.crc32(self.view))


class Parts:
    """Cuts a body into parts, one at a time, and keeps the CRC-32 and the length of the whole.

    Never holds more than the part being filled; buffers given back are used again.
    """

    def __init__(self, body: Readable) -> None:
        self._body = body
        self._spare: list[bytearray] = []
        self._lock = threading.Lock()
        self._ahead = b""
        self.size = 0
        self.crc32 = 0

    def give_back(self, part: Part) -> None:
        """The part was sent: its buffer may be filled anew."""
        part.view.release()
        with self._lock:
            self._spare.append(part.buffer)

    def _buffer(self, size: int) -> bytearray:
        with self._lock:
            while self._spare:
                buffer = self._spare.pop()
                if len(buffer) >= size:
                    return buffer
        return bytearray(size)

    def __iter__(self) -> Iterator[Part]:
        """The parts in order; at least one, which is empty for an empty body. The last one says so."""
        for number in range(1, MOST_PARTS + 1):
            part = self._fill(number)
            yield part
            if part.last:
                return

    def _fill(self, number: int) -> Part:
        size = part_size(number)
        buffer = self._buffer(size)
        filled = len(self._ahead)
        buffer[:filled] = self._ahead
        self._ahead = b""
        while filled < size:
            piece = self._body.read(min(_PIECE, size - filled))
            if not piece:
                break
            self.crc32 = zlib.crc32(piece, self.crc32)
            self.size += len(piece)
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        else:
            # A full part may still be the last one: only a further byte tells.
            self._ahead = self._body.read(1)
            self.crc32 = zlib.crc32(self._ahead, self.crc32)
            self.size += len(self._ahead)
        return Part(number, memoryview(buffer)[:filled], buffer, last=not self._ahead)


def crc32_text(value: int) -> str:
    """A CRC-32 as S3 writes it in headers."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def crc32_value(text: str) -> int | None:
    """The CRC-32 that S3 wrote; ``None`` for one of parts (``…-3``) or of another form."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return int.from_bytes(data, "big") if len(data) == 4 else None
