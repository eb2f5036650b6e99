"""Many streams of one backup, several of them ending at once: whoever gives up reaches all of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from lifeboat.errors import Cancelled
from lifeboat.postgres.full import _Archives
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.wal_writing import SegmentWriter
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import Destination
from sandbox.s3_servers import RcloneS3
from tests.streams.conftest import encryption, key_files, keyring, outside, own_rclone, to
from tests.streams.keys_made import MIB, settled, threads_of_streams
from tests.targets.conftest import s3_place

__all__ = ["encryption", "key_files", "keyring", "outside", "own_rclone", "to"]

NOISE = random.Random(4).randbytes(MIB)


class Stop:
    """A tick that raises once it is armed: somebody has marked the task failed."""

    def __init__(self) -> None:
        self.armed = False

    def __call__(self) -> None:
        if self.armed:
            raise Cancelled("stopped")


def wal(destination: Destination, stop: Stop) -> tuple[Callable[[], object], Callable[[BaseException], None]]:
    writer = SegmentWriter(1, MIB, destination, StreamSettings(), tick=stop)

    def write_on() -> None:
        for number in range(8):
            writer.write(Lsn(number * MIB), memoryview(NOISE))

    return write_on, writer.abort


def full(destination: Destination, stop: Stop) -> tuple[Callable[[], object], Callable[[BaseException], None]]:
    archives = _Archives(destination, StreamSettings(), lambda _done, _total: None, stop)

    def write_on() -> None:
        for number in range(4):
            archives.begin(f"{16384 + number}.tar")
            archives.write(memoryview(NOISE))

    return write_on, archives.abort


@pytest.mark.parametrize("kind", [wal, full])
def test_giving_up_reaches_the_stream_that_is_waited_for(
    own_rclone: RcloneS3, to: Callable[..., Destination], kind: Callable[..., tuple[Callable[[], object], ...]]
) -> None:
    place = s3_place("rclone", own_rclone)
    target = place.open()
    stop = Stop()
    write_on, abort = kind(to(target), stop)
    own_rclone.freeze()
    stop.armed = True
    with pytest.raises(Cancelled) as stopped:
        write_on()
    assert threads_of_streams()
    abort(stopped.value)
    own_rclone.thaw()
    assert settled()
    assert list(target.list("")) == []
    assert place.remains() == []
