"""What the tests of streams need from outside, and the threads that streams run on."""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any, NoReturn

from lifeboat.errors import ConnectionUnknown
from lifeboat.outside import Connection, Outside
from lifeboat.streams.reading import Origin, opened
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter

MIB = 1024 * 1024


def nothing_outside() -> Outside:
    """An outside without any connection."""

    def connection(name: str) -> Connection:
        raise ConnectionUnknown(f"There is no connection {name}.", "Make it.")

    def aws_client(service: str, connection: str | None = None, **_: Any) -> NoReturn:
        raise ConnectionUnknown(f"There is no connection {connection} for {service}.", "Make it.")

    return Outside(connection=connection, aws_client=aws_client)


def write_all(
    to: Destination, data: bytes, *, name: str = "base.tar", piece: int = 256 * 1024, **settings: Any
) -> StoredStream:
    """``data`` as a stream, handed over in pieces."""
    writer = StreamWriter(name, to, StreamSettings(**settings), plain_digest=True)
    for start in range(0, len(data), piece):
        writer.write(data[start : start + piece])
    return writer.finish()


def read_all(stream: StoredStream, origin: Origin) -> bytes:
    """All of a stream, to its proven end."""
    with opened(stream, origin) as plain:
        return plain.read()


def threads_of_streams(others: Collection[threading.Thread] = ()) -> list[str]:
    """The threads of readers and writers that are alive, but for ``others``."""
    names = ("compress ", "seal ", "store ", "open ", "unseal ", "copy to", "read back", "read manifests")
    return [one.name for one in threading.enumerate() if one not in others and one.name.startswith(names)]


def settled(others: Collection[threading.Thread] = ()) -> bool:
    """Whether all threads of streams but ``others`` have ended: those that were told to are waited for."""
    for thread in threading.enumerate():
        if thread not in others and thread.name in threads_of_streams(others):
            thread.join(30)
    return threads_of_streams(others) == []
