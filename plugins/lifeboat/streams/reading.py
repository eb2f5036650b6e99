"""The way back: a stream's objects become its plain bytes again, proven as they pass.

    target.open ─▶ digest ─▶ open message ─▶ channel ─▶ unzstd ─▶ channel ─▶ read

Nothing of a volume is proven before its end was reached: whoever reads must not let the bytes into anything live before
the stream has ended without an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

from lifeboat.errors import Cancelled, ObjectDamaged
from lifeboat.streams.channel import Channel
from lifeboat.streams.compression import PIECE_BYTES, Decompressed
from lifeboat.streams.context import ObjectContext
from lifeboat.streams.digests import DigestingReader
from lifeboat.streams.encryption import OpenedObject
from lifeboat.streams.handing_over import hand_over_sooner
from lifeboat.streams.keys import Keyring
from lifeboat.streams.memory import share_one_heap
from lifeboat.streams.metering import TimedReader
from lifeboat.streams.stored import StoredStream, StoredVolume
from lifeboat.streams.waking import Stage
from lifeboat.targets.target import Readable, Target

WAITING_BYTES = 4 * 1024 * 1024
PLAIN_PIECE_BYTES = 512 * 1024
"""What the reader gets at a time. A reader that asks for as much gets it without a copy; with a quarter of it a restore
took a fifth longer, for the threads waited more often for each other (measured)."""

ABORT_SECONDS = 3.0
"""How long a reader that gives up waits for its threads; they hold nothing but memory and a connection."""

_ELSEWHERE = "Restore from another target, and verify this one's other copies."


@dataclass(frozen=True)
class Origin:
    """Where the streams of one recovery point are read from.

    Attributes:
        target: the target read from.
        folder: the attempt's folder on it, ending in ``/``.
        system, source, recovery_point: what the objects must say of themselves.
        keyring: what opens them.
    """

    target: Target
    folder: str
    system: str
    source: str
    recovery_point: str
    keyring: Keyring


@contextmanager
def opened(stream: StoredStream, origin: Origin, passed: Callable[[int], None] | None = None) -> Iterator[Readable]:
    """The plain bytes of a stream, fetched and opened ahead of the reader.

    Args:
        stream: what the manifest says of it.
        origin: where it is.
        passed: told the number of stored bytes as they arrive, for progress.

    Raises:
        ObjectDamaged: while reading: anything is not as the manifest, the message and the context say.
        KeyUnavailable: no key at hand opens it.
        TargetError: the target failed.
    """
    share_one_heap()
    hand_over_sooner()
    plain = Channel(WAITING_BYTES)
    under_way = [plain]
    abandoned = Cancelled(f"Reading {stream.name} was given up.")

    def run() -> None:
        try:
            for volume in stream.volumes:
                compressed = Channel(WAITING_BYTES)
                under_way[:] = [plain, compressed]
                _pass_volume(stream, volume, origin, compressed, plain, passed)
            plain.end()
        except BaseException as failure:
            plain.fail(failure)

    stage = Stage(f"open {stream.name}", run)
    try:
        stage.start()
        yield plain
    finally:
        for channel in list(under_way):
            channel.fail(abandoned)
        stage.wait(ABORT_SECONDS)


def _pass_volume(
    stream: StoredStream,
    volume: StoredVolume,
    origin: Origin,
    compressed: Channel,
    plain: Channel,
    passed: Callable[[int], None] | None,
) -> None:
    key = origin.folder + volume.file
    what = f"{key} on {origin.target.name}"
    context = ObjectContext(origin.system, origin.source, origin.recovery_point, stream.name, volume.number)
    unsealing = Thread(
        target=_unseal, args=(key, what, volume, context, origin, compressed, passed), name=f"unseal {key}", daemon=True
    )
    unsealing.start()
    try:
        _decompress(compressed, plain, volume, what)
    except BaseException as failure:
        compressed.fail(failure)
        raise
    finally:
        unsealing.join()


def _decompress(compressed: Channel, plain: Channel, volume: StoredVolume, what: str) -> None:
    reader = Decompressed(compressed, what)
    size = 0
    while piece := reader.read(PLAIN_PIECE_BYTES):
        size += len(piece)
        if size > volume.plain_size:
            break
        plain.write(piece)
    # Read on to the end of the message: only then has the fetching side compared size and digest, and its failure says
    # more than a count that came out wrong.
    trailing = False
    while compressed.next_chunk():
        trailing = True
    if size != volume.plain_size:
        raise ObjectDamaged(
            f"{what} holds {'more' if size > volume.plain_size else 'fewer'} than the {volume.plain_size} plain "
            "bytes that its manifest says.",
            _ELSEWHERE,
        )
    if trailing:
        raise ObjectDamaged(f"{what} has bytes after the end of its zstd frame.", _ELSEWHERE)


def _unseal(
    key: str,
    what: str,
    volume: StoredVolume,
    context: ObjectContext,
    origin: Origin,
    compressed: Channel,
    passed: Callable[[int], None] | None,
) -> None:
    try:
        waiting = 0.0  # for the thread that decompresses
        with origin.target.open(key) as body:
            begun = time.perf_counter()
            arriving = TimedReader(body)
            stored = DigestingReader(arriving)
            message = OpenedObject(stored, context, origin.keyring, what)
            before = 0
            while piece := message.read(PIECE_BYTES):
                handing = time.perf_counter()
                compressed.write(piece)
                waiting += time.perf_counter() - handing
                if passed is not None:
                    passed(stored.size - before)
                    before = stored.size
            message.finish()
            taken = time.perf_counter() - begun - waiting
            origin.keyring.meter.add(arriving.seconds, max(0.0, taken - arriving.seconds))
        if passed is not None:
            passed(stored.size - before)
        compare(stored, volume, what)
        compressed.end()
    except BaseException as failure:
        compressed.fail(failure)


def compare(stored: DigestingReader, volume: StoredVolume, what: str) -> None:
    """Insist on the stored bytes being those that were written.

    Raises:
        ObjectDamaged: size or SHA-256 differ.
    """
    if stored.size != volume.stored_size:
        raise ObjectDamaged(f"{what} has {stored.size} bytes; {volume.stored_size} were written.", _ELSEWHERE)
    if stored.sha256 != volume.sha256:
        raise ObjectDamaged(f"{what} is not what was written: its SHA-256 differs.", _ELSEWHERE)
