"""A TCP proxy that can fall silent: connections stay open, and nothing comes through any more."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class SilentProxy:
    """Forwards connections to a port of 127.0.0.1 until :meth:`fall_silent`.

    Afterwards what the server sends is not read, what is said to it is lost, and new connections are taken and never
    answered; but when a client hangs up, so does the proxy, as a network that loses nobody's farewell would.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._silent = threading.Event()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> SilentProxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def fall_silent(self) -> None:
        self._silent.set()

    def _start(self, what: object, *arguments: object) -> None:
        thread = threading.Thread(target=what, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                self._start(self._forward, client)

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket() as server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            if not self._silent.is_set():
                server.connect(("127.0.0.1", self._to))
                selector.register(server, selectors.EVENT_READ)
            dropped = False
            while not self._ended.is_set():
                if self._silent.is_set() and not dropped:
                    dropped = True
                    with contextlib.suppress(KeyError):
                        selector.unregister(server)
                for key, _ in selector.select(0.05):
                    try:
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        if not self._silent.is_set():
                            (server if key.fileobj is client else client).sendall(data)
                    except OSError:
                        return
