"""The hand-over between two threads: bounded, in order, and never ending by mistake."""

from __future__ import annotations

import random
import signal
import threading
from contextlib import suppress

import pytest

from lifeboat.errors import Cancelled, StreamError
from lifeboat.streams.channel import Channel


def test_reads_of_any_size_get_the_bytes_in_order() -> None:
    channel = Channel(100)
    for piece in (b"ab", b"cdef", b"", b"g"):
        channel.write(piece)
    channel.end()
    assert channel.read(1) == b"a"
    assert channel.read(4) == b"bcde"
    assert channel.read(0) == b""
    assert not channel.exhausted
    assert channel.read() == b"fg"
    assert channel.read(5) == b""
    assert channel.exhausted


def test_an_empty_piece_is_not_the_end() -> None:
    channel = Channel(100)
    channel.write(b"")
    channel.write(b"more")
    assert channel.next_chunk() == b"more"


def test_more_than_the_capacity_waits_and_ticks_until_there_is_room() -> None:
    channel = Channel(4)
    channel.write(b"1234")
    read: list[bytes] = []
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 2:
            read.append(channel.next_chunk())

    channel.write(b"5", tick)
    assert ticks >= 2
    assert read == [b"1234"]
    assert channel.next_chunk() == b"5"


def test_one_piece_larger_than_the_capacity_passes_when_nothing_waits() -> None:
    channel = Channel(4)
    channel.write(b"123456789")
    assert channel.read(9) == b"123456789"


def test_what_a_tick_raises_ends_the_writing_and_nothing_was_handed_over() -> None:
    channel = Channel(1)
    channel.write(b"1")

    def tick() -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        channel.write(b"2", tick)
    channel.end()
    assert channel.read() == b"1"


def test_a_failure_reaches_the_waiting_reader_and_is_never_an_end() -> None:
    channel = Channel(10)
    channel.write(b"half")
    failure = OSError("gone")
    found: list[object] = []

    def reader() -> None:
        try:
            while True:
                found.append(channel.next_chunk())
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=reader)
    thread.start()
    channel.fail(failure)
    channel.end()
    thread.join()
    assert found[-1] is failure
    assert b"" not in found
    assert not channel.exhausted


def test_a_failure_reaches_the_waiting_writer() -> None:
    channel = Channel(1)
    channel.write(b"1")
    failure = OSError("gone")
    with pytest.raises(OSError, match="gone") as caught:
        channel.write(b"2", lambda: channel.fail(failure))
    assert caught.value is failure
    with pytest.raises(OSError, match="gone"):
        channel.write(b"3")


def test_the_first_failure_stays() -> None:
    channel = Channel(1)
    channel.fail(OSError("first"))
    channel.fail(OSError("second"))
    with pytest.raises(OSError, match="first"):
        channel.read(1)


def test_nothing_is_taken_after_the_end() -> None:
    channel = Channel(10)
    channel.end()
    with pytest.raises(StreamError):
        channel.write(b"late")


def test_a_writer_interrupted_anywhere_leaves_no_reader_waiting() -> None:
    """As a task that is stopped: the handler of a signal raises between any two steps of the main thread."""

    def interrupt(*_: object) -> None:
        raise Cancelled("stopped")

    before = signal.signal(signal.SIGALRM, interrupt)
    delays = random.Random(7)
    try:
        for _ in range(300):
            channel = Channel(1000)
            reader = threading.Thread(target=_read_on, args=(channel,), daemon=True)
            reader.start()
            with pytest.raises(Cancelled):
                _write_until_interrupted(channel, delays.uniform(0.0001, 0.002))
            channel.fail(Cancelled("stopped"))
            reader.join(60)
            assert not reader.is_alive()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _write_until_interrupted(channel: Channel, seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    while True:
        channel.write(b"x" * 100)


def _read_on(channel: Channel) -> None:
    with suppress(Cancelled):
        while channel.next_chunk():
            pass
