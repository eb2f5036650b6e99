"""An HTTP server before a real S3 server: notes what is asked for, passes it on, and now and then answers itself."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

Answer = tuple[int, str]
"""A status, and a store's error code."""


class Front:
    """Listens on a port of 127.0.0.1.

    Attributes:
        read: the keys of the objects that were asked for with GET, in order.
        before: called with each of them before it is passed on; what it returns is answered instead.
        midway: called when half of an answer with bytes has gone.
    """

    def __init__(self, port: int) -> None:
        self.read: list[str] = []
        self.before: Callable[[str], Answer | None] = lambda _key: None
        self.midway: Callable[[], None] = lambda: None
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                answer = front._told(self.command, self.path)
                if answer is not None:
                    self._answer(answer[0], {}, f"<Error><Code>{answer[1]}</Code></Error>".encode())
                    return
                upstream = http.client.HTTPConnection("127.0.0.1", port)
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                response = upstream.getresponse()
                data = response.read()
                headers = {name: value for name, value in response.getheaders() if name.lower() not in _OWN}
                if self.command == "HEAD":
                    headers["Content-Length"] = response.getheader("Content-Length") or "0"
                self._answer(response.status, headers, data)
                upstream.close()

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815 - as http.server calls them

            def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                half = len(data) // 2
                self.wfile.write(data[:half])
                if self.command == "GET" and half > 100_000:
                    front.midway()
                self.wfile.write(data[half:])

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _told(self, method: str, url: str) -> Answer | None:
        parts = urlsplit(url)
        _, _, key = unquote(parts.path).lstrip("/").partition("/")
        if method != "GET" or not key:
            return None
        self.read.append(key)
        return self.before(key)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


_OWN = frozenset({"content-length", "transfer-encoding", "connection", "date", "server"})
