"""A TCP proxy before a real server that falls silent in mid-answer and keeps the connection open."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self


class StallingProxy:
    """Passes everything on, until an answer on one connection has more than ``after`` bytes: then nothing more comes.

    ``stalled`` is set from then on.
    """

    def __init__(self, port: int, *, after: int) -> None:
        self._target = ("127.0.0.1", port)
        self._after = after
        self._ended = threading.Event()
        self.stalled = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
            given = 0
            while data := _receive(server):
                given += len(data)
                if given > self._after:
                    self.stalled.set()
                    self._ended.wait()
                    return
                try:
                    client.sendall(data)
                except OSError:
                    return

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        while data := _receive(source):
            try:
                sink.sendall(data)
            except OSError:
                return


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""
