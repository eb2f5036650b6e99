"""Whatever stage fails, and whoever gives up: the error comes out, nothing half-done counts, no thread stays."""

from __future__ import annotations

import io
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lifeboat.connections import outside_from
from lifeboat.errors import Cancelled, ObjectMissing, StreamError, TargetError, TargetUnavailable
from lifeboat.streams.reading import Origin, opened
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import Destination, StreamWriter, abort_all
from lifeboat.targets.local import LocalTarget
from lifeboat.targets.s3 import S3Target
from lifeboat.targets.target import Readable
from sandbox.s3_servers import RcloneS3
from tests.streams.conftest import FOLDER
from tests.streams.keys_made import MIB, settled, write_all
from tests.targets.conftest import Place, s3_place

To = Callable[..., Destination]
From = Callable[..., Origin]
DATA = random.Random(9).randbytes(24 * MIB)
SMALL = StreamSettings(waiting=MIB)


def write_and_finish(writer: StreamWriter, *pieces: bytes) -> None:
    for piece in pieces:
        writer.write(piece)
    writer.finish()


@pytest.mark.parametrize("written", [0, 100_000, 24 * MIB])
def test_a_stream_given_up_leaves_nothing(place: Place, to: To, written: int) -> None:
    target = place.open()
    writer = StreamWriter("base.tar", to(target), SMALL)
    for start in range(0, written, MIB):
        writer.write(DATA[start : min(start + MIB, written)])
    writer.abort()
    assert list(target.list("")) == []
    assert place.remains() == []
    assert settled()


def test_a_stream_given_up_can_not_be_finished(store: LocalTarget, to: To) -> None:
    writer = StreamWriter("base.tar", to(store), SMALL)
    writer.write(b"half")
    failure = OSError("the server went away")
    writer.abort(failure)
    for use in (lambda: writer.write(b"more"), writer.end, writer.finish):
        with pytest.raises(OSError, match="went away") as caught:
            use()
        assert caught.value is failure
    assert list(store.list("")) == []


@pytest.mark.parametrize("stop", [Cancelled("stopped"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_what_stops_a_writer_in_mid_write_stops_it_for_good(own_rclone: RcloneS3, to: To, stop: BaseException) -> None:
    target = impatient(own_rclone)

    def tick() -> None:
        raise stop

    own_rclone.freeze()
    writer = StreamWriter("base.tar", to(target), SMALL, tick=tick)
    with pytest.raises(type(stop)) as caught:
        write_and_finish(writer, DATA)
    assert caught.value is stop
    with pytest.raises(type(stop)):
        writer.finish()
    writer.abort(stop)
    own_rclone.thaw()
    assert settled()
    assert list(target.list("")) == []


def impatient(server: RcloneS3) -> S3Target:
    """A target that gives up after 2 s without an answer, and after two tries."""
    place = s3_place("rclone", server)
    return S3Target(
        "store",
        bucket=place.extra["bucket"],
        outside=outside_from(place.environment),
        connection="store",
        read_timeout=2,
        attempts=2,
    )


@pytest.mark.parametrize("fate", ["kill", "freeze"])
def test_a_target_that_goes_away_in_mid_upload_ends_the_writing(own_rclone: RcloneS3, to: To, fate: str) -> None:
    writer = StreamWriter("base.tar", to(impatient(own_rclone)), SMALL)
    writer.write(DATA)
    getattr(own_rclone, fate)()
    with pytest.raises(TargetUnavailable, match="does not answer"):
        write_and_finish(writer, *[DATA] * 20)
    writer.abort()
    if fate == "freeze":
        own_rclone.thaw()
    assert settled()


def test_a_target_that_goes_away_at_the_end_fails_the_finishing(own_rclone: RcloneS3, to: To) -> None:
    writer = StreamWriter("base.tar", to(impatient(own_rclone)), SMALL)
    writer.write(DATA[: 4 * MIB])
    own_rclone.kill()
    with pytest.raises(TargetUnavailable):
        writer.finish()


class FullAfter(LocalTarget):
    """A directory whose disk is full once so many objects were stored."""

    objects = 0
    most = 0

    def put(self, key: str, body: Readable, *, retain_until: object = None) -> int:
        if self.objects == self.most:
            raise TargetError(f"Target {self.name}: no room for {key}.", "Make room.")
        self.objects += 1
        return super().put(key, body)


@pytest.mark.parametrize("most", [0, 1, 2])
def test_a_volume_that_fails_stops_the_writing_before_the_next_one_is_full(tmp_path: Path, to: To, most: int) -> None:
    target = FullAfter("store", tmp_path)
    target.most = most
    writer = StreamWriter("base.tar", to(target), StreamSettings(volume_size=4 * MIB, waiting=MIB))
    with pytest.raises(TargetError, match=f"no room for .*base.tar.{most + 1:04d}"):
        write_and_finish(writer, *[DATA[:MIB]] * 10)
    writer.abort()
    assert settled()
    # What was still on its way when the failure came may or may not have arrived; what failed has not.
    kept = [f"{FOLDER}base.tar.{number:04d}.zst.enc" for number in range(1, most + 1)]
    assert {info.key for info in target.list("")} <= set(kept)


def test_a_writer_that_raised_leaves_no_thread_even_if_nobody_gives_it_up(tmp_path: Path, to: To) -> None:
    writer = StreamWriter(
        "base.tar", to(FullAfter("store", tmp_path)), StreamSettings(volume_size=MIB, waiting=4 * MIB)
    )
    with pytest.raises(TargetError, match="no room for"):
        write_and_finish(writer, *[DATA[:MIB]] * 10)
    assert settled()


@pytest.mark.parametrize("interrupted", ["compress", "seal", "store"])
def test_a_writer_interrupted_while_its_threads_start_leaves_none(
    store: LocalTarget, to: To, interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal that stops a task comes while a thread is waited for that is just starting."""
    really = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        really(thread)
        if thread.name.startswith(f"{interrupted} base.tar"):
            raise Cancelled("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(Cancelled):
            write_and_finish(StreamWriter("base.tar", to(store), SMALL), DATA[:MIB])
    assert settled()


def test_a_reader_interrupted_while_its_thread_starts_leaves_none(
    store: LocalTarget, to: To, back_from: From, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = write_all(to(store), DATA)
    really = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        really(thread)
        if thread.name.startswith("open "):
            raise Cancelled("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(Cancelled), opened(stream, back_from(store)):
            pass
    assert settled()


def test_an_abort_waits_for_an_upload_also_after_an_interrupted_finish(tmp_path: Path, to: To) -> None:
    """Python takes a thread for ended whose join was interrupted."""
    going, interrupted, ended = (threading.Event() for _ in range(3))

    class Slow(LocalTarget):
        def put(self, key: str, body: Readable, *, retain_until: object = None) -> int:
            going.set()
            try:
                while body.read(MIB):
                    pass
            finally:
                # An upload takes its time to be aborted.
                interrupted.wait(60)
                threading.Event().wait(0.2)
                ended.set()
            return 0

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise Cancelled("stopped")

    def finish_interrupted(writer: StreamWriter) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        writer.finish()

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        writer = StreamWriter("base.tar", to(Slow("store", tmp_path)), SMALL)
        writer.write(DATA[:MIB])
        going.wait()
        with pytest.raises(Cancelled):
            finish_interrupted(writer)
        writer.abort()
        assert ended.is_set()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_upload_that_still_ends_is_looked_at_while_the_next_volume_fills(own_rclone: RcloneS3, to: To) -> None:
    settings = StreamSettings(volume_size=2 * MIB, waiting=64 * MIB)
    writer = StreamWriter("base.tar", to(impatient(own_rclone)), settings)
    writer.write(DATA[: 2 * MIB])
    own_rclone.kill()
    writer.write(b"1" * MIB)  # begins the second volume; what follows here would fit into it and its channel
    (first,) = writer._ending
    for stage in first._stages:
        while not stage.wait(1):
            pass
    with pytest.raises(TargetUnavailable):
        writer.write(b"2" * MIB)
    writer.abort()


def test_an_abort_reaches_the_volume_that_the_writer_waits_for(own_rclone: RcloneS3, to: To) -> None:
    place = s3_place("rclone", own_rclone)
    target = place.open()
    stop = Cancelled("stopped")
    frozen = False

    def tick() -> None:
        if frozen:
            raise stop

    writer = StreamWriter("base.tar", to(target), StreamSettings(volume_size=12 * MIB, waiting=12 * MIB), tick=tick)
    writer.write(DATA[: 12 * MIB])
    own_rclone.freeze()
    frozen = True
    with pytest.raises(Cancelled):
        write_and_finish(writer, *[DATA] * 3)
    waiting_for = writer._under_way()
    writer.abort(stop)
    own_rclone.thaw()
    assert settled()
    assert len(waiting_for) == 2  # the one whose upload has to end, and the one that is full
    assert list(target.list("")) == []
    assert place.remains() == []


def test_several_writers_are_given_up_at_once(store: LocalTarget, to: To) -> None:
    writers = [StreamWriter(f"stream-{number}", to(store), SMALL) for number in range(5)]
    for writer in writers:
        writer.write(DATA[:MIB])
    abort_all(writers)
    assert settled()
    assert list(store.list("")) == []


class Hasty(LocalTarget):
    """A target that takes an object for complete before its end: a fault of its own that must not become ours."""

    def put(self, key: str, body: Readable, *, retain_until: object = None) -> int:
        return len(body.read(MIB))


def test_a_target_that_stops_reading_early_is_an_error_and_no_deadlock(tmp_path: Path, to: To) -> None:
    writer = StreamWriter("base.tar", to(Hasty("store", tmp_path)), SMALL)
    with pytest.raises(StreamError, match="for complete before its end"):
        write_and_finish(writer, DATA)
    assert settled()


def test_a_failing_compressor_ends_the_writing(store: LocalTarget, to: To) -> None:
    writer = StreamWriter("base.tar", to(store), StreamSettings(level=1000, waiting=MIB))
    with pytest.raises(ValueError, match="level"):
        write_and_finish(writer, *[DATA[:MIB]] * 10)
    assert settled()
    assert list(store.list("")) == []


def test_a_reader_that_stops_leaves_no_thread(store: LocalTarget, to: To, back_from: From) -> None:
    stream = write_all(to(store), DATA, volume_size=10 * MIB)
    for wanted in (0, 1, 11 * MIB):
        with opened(stream, back_from(store)) as plain:
            assert plain.read(wanted) == DATA[:wanted]
        assert settled()


def test_a_reader_that_raises_leaves_no_thread_and_its_own_error(store: LocalTarget, to: To, back_from: From) -> None:
    stream = write_all(to(store), DATA, volume_size=10 * MIB)
    with pytest.raises(KeyboardInterrupt), opened(stream, back_from(store)):
        raise KeyboardInterrupt
    assert settled()


def test_a_progress_that_raises_ends_the_reading(store: LocalTarget, to: To, back_from: From) -> None:
    stream = write_all(to(store), DATA[:MIB])

    def passed(_: int) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled), opened(stream, back_from(store), passed) as plain:
        plain.read()
    assert settled()


def test_a_reader_of_a_frozen_target_can_leave(own_rclone: RcloneS3, to: To, back_from: From) -> None:
    target = impatient(own_rclone)
    stream = write_all(to(target), DATA)
    with opened(stream, back_from(target)) as plain:
        plain.read(1)
        own_rclone.freeze()
    own_rclone.thaw()
    assert settled()


class BreaksOff(LocalTarget):
    """A directory whose disk can't be read beyond the first MiB of an object."""

    @contextmanager
    def open(self, key: str) -> Iterator[Readable]:
        with super().open(key) as body:
            yield io.BufferedReader(_BreaksOff(body))


class _BreaksOff(io.RawIOBase):
    def __init__(self, body: Readable) -> None:
        self._body = body
        self._left = MIB

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            raise TargetUnavailable("Target store: the disk is gone.", "Find it.")
        data = self._body.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


def test_a_target_that_goes_away_while_it_is_read_is_an_error(tmp_path: Path, to: To, back_from: From) -> None:
    target = BreaksOff("store", tmp_path)
    stream = write_all(to(target), DATA)
    with pytest.raises(TargetUnavailable, match="the disk is gone"), opened(stream, back_from(target)) as plain:
        plain.read()
    assert settled()


def test_the_bytes_before_a_damage_never_end_like_a_whole_stream(store: LocalTarget, to: To, back_from: From) -> None:
    stream = write_all(to(store), DATA, volume_size=10 * MIB)
    store.delete(FOLDER + stream.volumes[2].file)
    with opened(stream, back_from(store)) as plain:
        assert plain.read(20 * MIB) == DATA[: 20 * MIB]
        with pytest.raises(ObjectMissing):
            plain.read(1)
        with pytest.raises(ObjectMissing):
            plain.read(1)
