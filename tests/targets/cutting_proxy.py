"""A TCP proxy before a real server that cuts connections in mid-answer, or in mid-request."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Listens on a port of 127.0.0.1 and passes everything on, but cuts the first ``cuts`` long answers.

    An answer is long when it has more than ``after`` bytes; a cut answer has exactly so many. With ``requests`` it is
    what the client sends that is counted and cut.
    """

    def __init__(self, port: int, *, after: int, cuts: int, requests: bool = False) -> None:
        self._target = ("127.0.0.1", port)
        self._after = after
        self._requests = requests
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
            back, forth = (server, client), (client, server)
            counted, other = (forth, back) if self._requests else (back, forth)
            threading.Thread(target=_pump, args=other, daemon=True).start()
            self._pump_counted(*counted)

    def _pump_counted(self, source: socket.socket, sink: socket.socket) -> None:
        given = 0
        while data := _receive(source):
            if self.cuts_left > 0 and given + len(data) > self._after:
                self.cuts_left -= 1
                sink.sendall(data[: self._after - given])
                source.shutdown(socket.SHUT_RDWR)
                sink.shutdown(socket.SHUT_RDWR)
                return
            given += len(data)
            try:
                sink.sendall(data)
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
