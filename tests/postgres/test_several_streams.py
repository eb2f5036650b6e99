"""Many streams of one backup, several of them ending at once: whoever gives up reaches all of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from lifeboat.errors import Cancelled
from lifeboat.postgres.full import _Archives
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.wal_writing import SegmentWriter
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.writing import Destination, StreamWriter
from sandbox.s3_servers import RcloneS3
from tests.streams.conftest import encryption, key_files, keyring, outside, own_rclone, to
from tests.streams.keys_made import MIB, settled
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
    own_rclone: RcloneS3,
    to: Callable[..., Destination],
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[..., tuple[Callable[[], object], ...]],
) -> None:
    begun: list[StreamWriter] = []

    class Kept(StreamWriter):
        def __init__(self, *words: Any, **more: Any) -> None:
            super().__init__(*words, **more)
            begun.append(self)

    monkeypatch.setattr(f"{kind(to(None), Stop())[1].__module__}.StreamWriter", Kept)
    stop = Stop()
    write_on, abort = kind(to(s3_place("rclone", own_rclone).open()), stop)
    own_rclone.freeze()
    stop.armed = True
    with pytest.raises(Cancelled) as stopped:
        write_on()
    abort(stopped.value)
    under_way = [volume for writer in begun for volume in writer._under_way()]
    told = [volume._sealed._failure for volume in under_way]
    own_rclone.thaw()
    assert len(under_way) > 1
    assert told == [stopped.value] * len(under_way)
    assert settled()
