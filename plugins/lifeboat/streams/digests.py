"""Hashing and counting on the way: what a stream was is known when it has passed, without reading it twice."""

from __future__ import annotations

import hashlib
import zlib

from lifeboat.targets.target import Readable


class DigestingReader:
    """Passes a stream on and remembers its size, SHA-256 and CRC-32.

    SHA-256 is what a copy is judged by; CRC-32 is kept beside it because it is what S3 computes over a whole object of
    many parts (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._sha256 = hashlib.sha256()
        self.size = 0
        self.crc32 = 0

    def read(self, size: int = -1, /) -> bytes:
        """As the source gives it."""
        data = self._source.read(size)
        if data:
            self._sha256.update(data)
            self.crc32 = zlib.crc32(data, self.crc32)
            self.size += len(data)
        return data

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of what has passed so far."""
        return self._sha256.hexdigest()
