"""A TCP proxy before a real server that cuts connections in mid-answer."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Listens on a port of 127.0.0.1 and passes everything on, but cuts the first ``cuts`` long answers.

    An answer is long when it has more than ``after`` bytes; a cut answer has exactly so many.
    """

    def __init__(self, port: int, *, after: int, cuts: int) -> None:
        self._target = ("127.0.0.1", port)
        self._after = after
        self.cuts_left = cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            given = 0
            while data := _receive(server):
                if self.cuts_left > 0 and given + len(data) > self._after:
                    self.cuts_left -= 1
                    client.sendall(data[: self._after - given])
                    client.shutdown(socket.SHUT_RDWR)
                    server.shutdown(socket.SHUT_RDWR)
                    return
                given += len(data)
                try:
                    client.sendall(data)
                except OSError:
                    return


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _pump(source: socket.socket, sink: socket.socket) -> None:
    while data := _receive(source):
        try:
            sink.sendall(data)
        except OSError:
            return
