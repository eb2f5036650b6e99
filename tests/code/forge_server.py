"""A stand-in for the two forges' APIs, which can't run here: it answers as their documentation says, over real HTTP.

Sources: https://docs.github.com/en/rest/branches/branches, https://docs.gitlab.com/api/protected_branches/
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ForgeApi:
    """The server.

    Attributes:
        answers: what each path answers: a status and a document; 404 for others.
        asked: each request's path and its headers.
    """

    server: ThreadingHTTPServer
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/api"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        api: ForgeApi = self.server.api  # type: ignore[attr-defined]
        path = self.path.removeprefix("/api")
        api.asked.append((path, dict(self.headers)))
        status, document = api.answers.get(path, (404, {"message": "Not Found"}))
        self.send_response(status)
        if status in (301, 302):
            self.send_header("Location", document)
        body = json.dumps(document).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # http.server's own name
        """Say nothing."""


@contextmanager
def forge_api() -> Iterator[ForgeApi]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    api = ForgeApi(server)
    server.api = api  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
