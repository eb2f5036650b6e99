"""zstd on the way: several threads when writing, bounded memory when reading.

Frames are ordinary zstd frames (RFC 8878) with a content checksum, one a volume; any zstd opens them.
"""

from __future__ import annotations

from typing import IO, cast

import zstandard

from lifeboat.errors import ObjectDamaged
from lifeboat.streams.channel import Channel
from lifeboat.targets.target import Readable

PIECE_BYTES = 1024 * 1024
SMALLEST_JOB_BYTES = 2 * 1024 * 1024
"""What a thread compresses at a time, or the frame's window where that is larger. Measured at level 3 on two threads:
zstd's own choice, four windows, takes 60 MiB more and saves half a part in a thousand."""

LARGEST_WINDOW_BYTES = 128 * 1024 * 1024
"""What a reader accepts, as the zstd tool does by default: the bound on the memory that a frame can ask for."""


def compress(plain: Channel, compressed: Channel, *, level: int, threads: int) -> None:
    """Carry everything from one channel to the other through one zstd frame; end or fail the latter as the former."""
    try:
        frame = zstandard.ZstdCompressor(compression_params=_parameters(level, threads)).compressobj()
        while piece := plain.next_chunk():
            if smaller := frame.compress(piece):
                compressed.write(smaller)
        compressed.write(frame.flush())
        compressed.end()
    except BaseException as failure:
        plain.fail(failure)
        compressed.fail(failure)


def _parameters(level: int, threads: int) -> zstandard.ZstdCompressionParameters:
    if not 1 <= level <= zstandard.MAX_COMPRESSION_LEVEL:
        # zstd would silently take the nearest one.
        raise ValueError(f"zstd has no level {level}")
    if threads == 1:
        # zstd's own single-threaded path, which needs no copies of its input.
        return zstandard.ZstdCompressionParameters.from_level(level, write_checksum=True)
    window: int = 1 << zstandard.ZstdCompressionParameters.from_level(level).window_log
    return zstandard.ZstdCompressionParameters.from_level(
        level, threads=threads, job_size=max(SMALLEST_JOB_BYTES, window), write_checksum=True
    )


class Decompressed:
    """The plain bytes of a compressed stream. Memory is bounded by the frame's window, whatever it expands to.

    What stands behind a frame is read as another frame, so that it is found and not passed over.
    """

    def __init__(self, compressed: Readable, what: str) -> None:
        self._what = what
        self._reader = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW_BYTES).stream_reader(
            cast("IO[bytes]", compressed), read_size=PIECE_BYTES, read_across_frames=True
        )

    def read(self, size: int = -1, /) -> bytes:
        """Plain bytes; ``b""`` at the end of the frame, and also where a frame breaks off: callers know the size."""
        try:
            return self._reader.read(size)
        except zstandard.ZstdError as error:
            raise ObjectDamaged(
                f"{self._what} can't be decompressed: {error}.",
                "Restore from another target, and verify this one's other copies.",
            ) from error
