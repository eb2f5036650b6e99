"""The way out: one stream becomes numbered objects on a target, in one pass.

    write ─▶ channel ─▶ [zstd] ─▶ channel ─▶ [seal] ─▶ channel ─▶ [digest ─▶ target.put]

Each bracket is a thread; all the work in them happens outside Python's global lock. SHA-256 costs more than all of the
encryption, so these two don't share one. The caller's thread only hands bytes over, so that it is free to speak its
server's protocol in time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from lifeboat.errors import Cancelled, StreamError
from lifeboat.streams.channel import TICK_SECONDS, Channel, no_tick
from lifeboat.streams.compression import PIECE_BYTES, compress
from lifeboat.streams.context import ObjectContext
from lifeboat.streams.digests import DigestingReader
from lifeboat.streams.encryption import seal
from lifeboat.streams.handing_over import hand_over_sooner
from lifeboat.streams.keys import Keyring
from lifeboat.streams.memory import share_one_heap
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream, StoredVolume, volume_file
from lifeboat.streams.waking import Stage
from lifeboat.targets.target import Target

ABORT_SECONDS = 3.0
"""How long an abort waits for its threads, for all of them together: a stopped task is killed 5 s after it was told."""


_WAITING_STORED = 2 * 1024 * 1024
"""Bytes that may wait behind the compressor. They do only where the target stalls; one that needs more at hand, for
parts side by side, has room of its own."""


@dataclass(frozen=True)
class Destination:
    """Where the streams of one attempt go.

    Attributes:
        target: the target written to.
        folder: the attempt's folder on it, ending in ``/``.
        system, source, recovery_point: what the objects say of themselves.
        keyring: what seals them.
        retain_until: the object lock asked for, if any.
    """

    target: Target
    folder: str
    system: str
    source: str
    recovery_point: str
    keyring: Keyring
    retain_until: datetime | None = None


class _Volume:
    """One object being written by three threads."""

    def __init__(self, context: ObjectContext, to: Destination, settings: StreamSettings) -> None:
        self.plain_size = 0
        self._context = context
        self._to = to
        self._file = volume_file(context.stream, context.volume)
        self._plain = Channel(settings.waiting)
        self._compressed = Channel(min(settings.waiting, _WAITING_STORED))
        self._sealed = Channel(min(settings.waiting, _WAITING_STORED))
        self._stored: StoredVolume | None = None
        self._failure: BaseException | None = None
        name = f"{context.stream}.{context.volume}"
        compressing = partial(compress, self._plain, self._compressed, level=settings.level, threads=settings.threads)
        self._stages = [
            Stage(f"compress {name}", compressing),
            Stage(f"seal {name}", self._seal),
            Stage(f"store {name}", self._store),
        ]
        self._begun = False

    def begin(self) -> None:
        """Start the threads, unless they are: not before somebody holds the volume who gives it up when that fails."""
        if not self._begun:
            self._begun = True
            for stage in self._stages:
                stage.start()

    def write(self, piece: bytes, tick: Callable[[], None]) -> None:
        self._plain.write(piece, tick)
        self.plain_size += len(piece)

    def end(self) -> None:
        self._plain.end()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def finish(self, tick: Callable[[], None]) -> StoredVolume:
        for stage in self._stages:
            while not stage.wait(TICK_SECONDS):
                tick()
        self.raise_failure()
        assert self._stored is not None
        return self._stored.model_copy(update={"plain_size": self.plain_size})

    def abort(self, failure: BaseException) -> None:
        for channel in (self._plain, self._compressed, self._sealed):
            channel.fail(failure)

    def wait_for_abort(self, deadline: float) -> None:
        for stage in self._stages:
            stage.wait(max(0.0, deadline - time.monotonic()))

    def _seal(self) -> None:
        try:
            message = seal(self._compressed, self._context, self._to.keyring)
            while piece := message.read(PIECE_BYTES):
                self._sealed.write(piece)
            self._insist_on_end(self._compressed.exhausted)
            self._sealed.end()
        except BaseException as failure:
            self.abort(failure)

    def _store(self) -> None:
        try:
            body = DigestingReader(self._sealed)
            size = self._to.target.put(self._to.folder + self._file, body, retain_until=self._to.retain_until)
            self._insist_on_end(size == body.size and self._sealed.exhausted)
            self._stored = StoredVolume(
                number=self._context.volume,
                file=self._file,
                stored_size=size,
                sha256=body.sha256,
                crc32=body.crc32,
                plain_size=0,
            )
        except BaseException as failure:
            self._failure = failure
            self.abort(failure)

    def _insist_on_end(self, reached: bool) -> None:
        if not reached:
            raise StreamError(
                f"Target {self._to.target.name} took {self._to.folder}{self._file} for complete before its end.",
                "Nothing of it was committed; run the backup again.",
            )


class StreamWriter:
    """Writes one stream to a target as one or more volumes.

    Nothing of it counts before :meth:`finish` has returned; :meth:`abort` leaves no object that was not complete. A
    writer that has raised once raises ever after: a stream with a hole can't be finished. It has given itself up, so
    that no thread of it waits for what never comes; :meth:`abort` still waits for the uploads to be aborted.

    Args:
        name: the stream's name, as in :class:`StoredStream`.
        to: where it goes.
        settings: the pipeline's figures.
        tick: called about four times a second while a call has to wait for slower stages: keeps protocols alive.
        plain_digest: whether the plain bytes' SHA-256 is wanted, too.
    """

    def __init__(
        self,
        name: str,
        to: Destination,
        settings: StreamSettings,
        *,
        tick: Callable[[], None] = no_tick,
        plain_digest: bool = False,
    ) -> None:
        share_one_heap()
        hand_over_sooner()
        self.name = name
        self.plain_size = 0
        self._to = to
        self._settings = settings
        self._tick = tick
        self._pending: list[bytes | memoryview] = []
        self._pending_size = 0
        self._stored: list[StoredVolume] = []
        self._ending: list[_Volume] = []
        self._broken: BaseException | None = None
        self._finished: StoredStream | None = None
        self._plain_sha256 = hashlib.sha256() if plain_digest else None
        self._number = 1
        self._volume = self._next_volume()

    def write(self, *pieces: bytes | memoryview) -> None:
        """Take more of the stream; waits while the later stages are busy.

        Args:
            pieces: kept as they are until the next MiB is full: their memory must not be used for anything else.

        Raises:
            LifeboatError: whatever stopped a later stage: the target, a key service, the disk.
        """
        self._insist_on_whole()
        try:
            self._volume.begin()
            for data in pieces:
                if self._plain_sha256 is not None:
                    self._plain_sha256.update(data)
                self.plain_size += len(data)
                self._pending.append(data)
                self._pending_size += len(data)
            if self._pending_size >= PIECE_BYTES:
                self._hand_over()
        except BaseException as failure:
            self._give_up(failure)
            raise

    def end(self) -> None:
        """Say that the stream is complete, without waiting for the target; :meth:`finish` does that."""
        self._insist_on_whole()
        try:
            self._volume.begin()
            self._hand_over()
            self._volume.end()
        except BaseException as failure:
            self._give_up(failure)
            raise

    def finish(self) -> StoredStream:
        """Wait until all of it is stored, and say what was stored; :meth:`end` has been called or is implied."""
        if self._finished is not None:
            return self._finished
        self.end()
        try:
            self._finished = self._finish()
        except BaseException as failure:
            self._give_up(failure)
            raise
        return self._finished

    def abort(self, failure: BaseException | None = None) -> None:
        """Give the stream up: uploads under way are aborted; volumes that are complete stay, uncommitted.

        Waits at most 3 s for them. Several writers are given up by :func:`abort_all`.
        """
        abort_all([self], failure)

    def _give_up(self, failure: BaseException | None) -> None:
        reason = failure or Cancelled(f"Writing {self.name} was given up.")
        self._broken = self._broken or reason
        for volume in self._under_way():
            volume.abort(reason)

    def _under_way(self) -> list[_Volume]:
        return [*self._ending, self._volume]

    def _insist_on_whole(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _finish(self) -> StoredStream:
        stored = [*self._stored, *(volume.finish(self._tick) for volume in self._under_way())]
        if sum(volume.plain_size for volume in stored) != self.plain_size:
            raise StreamError(
                f"Of the {self.plain_size} bytes of {self.name} not all were stored.",
                "Nothing of it was committed; run the backup again.",
            )
        digest = self._plain_sha256.hexdigest() if self._plain_sha256 is not None else None
        return StoredStream(name=self.name, plain_sha256=digest, volumes=tuple(stored))

    def _hand_over(self) -> None:
        # A volume whose upload is still ending may fail while gigabytes of the next one are taken.
        for volume in self._ending:
            volume.raise_failure()
        data = b"".join(self._pending)
        self._pending, self._pending_size = [], 0
        while data:
            room = self._settings.volume_size - self._volume.plain_size
            if not room:
                self._turn_over()
                continue
            self._volume.write(data[:room], self._tick)
            data = data[room:]

    def _turn_over(self) -> None:
        self._volume.end()
        # One volume may finish its upload while the next one fills; a second would double the memory for nothing.
        while self._ending:
            self._stored.append(self._ending[0].finish(self._tick))
            # Not before it is done: an abort must reach it.
            del self._ending[0]
        self._ending.append(self._volume)
        self._number += 1
        self._volume = self._next_volume()
        self._volume.begin()

    def _next_volume(self) -> _Volume:
        context = ObjectContext(self._to.system, self._to.source, self._to.recovery_point, self.name, self._number)
        return _Volume(context, self._to, self._settings)


def abort_all(writers: Iterable[StreamWriter], failure: BaseException | None = None) -> None:
    """Give several streams up at once, and wait at most 3 s for all of their uploads together."""
    writers = list(writers)
    for writer in writers:
        writer._give_up(failure)
    deadline = time.monotonic() + ABORT_SECONDS
    for writer in writers:
        for volume in writer._under_way():
            volume.wait_for_abort(deadline)


def one_of_many(settings: StreamSettings) -> StreamSettings:
    """The same figures for many small streams one after the other: each of them compresses on one thread, and takes
    enough ahead for the next one to begin meanwhile. Measured with WAL segments: a tenth faster than 4 MiB ahead."""
    return replace(settings, threads=1, waiting=max(settings.waiting, 8 * 1024 * 1024))
