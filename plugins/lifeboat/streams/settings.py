"""How streams are written: the policy's choices, and the bounds on what waits in memory."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True)
class StreamSettings:
    """The figures of one pipeline.

    Attributes:
        level: zstd's level, 1 to 19.
        threads: zstd's worker threads.
        volume_size: plain bytes of a volume; the stored object is smaller, or larger by a few parts in a thousand where
            nothing could be compressed.
        waiting: plain bytes that may wait for the compressor.
    """

    level: int = 2
    threads: int = 2
    volume_size: int = 4 * GIB
    waiting: int = 4 * 1024 * 1024
