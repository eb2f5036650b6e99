"""The three streams of a configuration: the index, a tar of the items, and the fingerprints' key.

The tar is one that stock tools open; its members are called as the items are.
Source of the format: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html#tag_20_94_13_01
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from datetime import datetime

from lifeboat.configuration.items import INDEX_STREAM, ITEMS_STREAM, KEY_STREAM, Indexed, Item
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter, abort_all, one_of_many

_BLOCK = 512
_PIECE = 1024 * 1024
_TYPES = {"directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}


def store_items(
    items: Sequence[Item],
    index: Sequence[Indexed],
    key: bytes,
    destination: Destination,
    settings: StreamSettings,
    *,
    read_at: datetime,
    progress: Callable[[int], None],
    tick: Callable[[], None],
) -> tuple[StoredStream, ...]:
    """Store a set in an attempt's folder; a failure leaves nothing that is under way.

    Args:
        items: in the order of the index.
        read_at: the time that values have in the tar.
        progress: told the bytes of items that were handed over.
    """
    writers: list[StreamWriter] = []
    settings = one_of_many(settings)

    def writer(name: str) -> StreamWriter:
        writers.append(StreamWriter(name, destination, settings, tick=tick, plain_digest=True))
        return writers[-1]

    try:
        tar = writer(ITEMS_STREAM)
        for item in items:
            tick()
            tar.write(_header(item, int(read_at.timestamp())))
            for begin in range(0, len(item.content), _PIECE):
                tar.write(item.content[begin : begin + _PIECE])
                tick()
            tar.write(bytes(-len(item.content) % _BLOCK))
            progress(len(item.content))
        # Two blocks of zeros end a tar.
        tar.write(bytes(_BLOCK * 2))
        lines = writer(INDEX_STREAM)
        lines.write(b"".join(one.to_line() for one in index))
        writer(KEY_STREAM).write(key)
        for one in writers:
            one.end()
        return tuple(one.finish() for one in writers)
    except BaseException as failure:
        abort_all(writers, failure)
        raise


def _header(item: Item, read_at: int) -> bytes:
    about = item.about
    member = tarfile.TarInfo(about.name)
    member.type = _TYPES.get(about.type, tarfile.REGTYPE)
    member.mode = about.mode if about.mode is not None else 0o600
    member.uid, member.gid = about.uid or 0, about.gid or 0
    member.uname, member.gname = about.owner, about.group
    member.mtime = about.mtime_ns // 1_000_000_000 if about.mtime_ns is not None else read_at
    member.size = len(item.content)
    member.linkname = about.link
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
