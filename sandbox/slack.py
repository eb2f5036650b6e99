"""A receiver for Slack's incoming webhooks: keeps what it gets, answers as Slack does.

Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from sandbox.accounts import CLONE
from sandbox.processes import Child, free_port, port_answers, release_port, start, wait_until

_LARGEST_BODY = 1024 * 1024


@dataclass(frozen=True)
class Message:
    """One message: when it came, and the JSON document that a client posted."""

    received: datetime
    payload: dict[str, Any]

    @property
    def text(self) -> str:
        """All its words, those of blocks and attachments as well."""
        words: list[str] = []

        def collect(part: Any) -> None:
            if isinstance(part, dict):
                words.extend(part[key] for key in ("text", "fallback") if isinstance(part.get(key), str))
                for inner in part.values():
                    collect(inner)
            elif isinstance(part, list):
                for inner in part:
                    collect(inner)

        collect(self.payload)
        return "\n".join(words)


class SlackReceiver:
    """A webhook on a port of 127.0.0.1, in a process of its own; a context manager that starts and stops it.

    Args:
        directory: holds ``messages.jsonl``, a line for each message, and the log.
        port: where it listens; a free one when ``None``.
        path: the secret part of the webhook's address; made up when ``None``.
    """

    def __init__(self, directory: Path, *, port: int | None = None, path: str | None = None) -> None:
        self.file = directory / "messages.jsonl"
        self.log = directory / "slack.log"
        self.path = path or f"T{secrets.token_hex(4)}/B{secrets.token_hex(4)}/{secrets.token_urlsafe(18)}"
        self._chosen = port is None
        self.port = free_port() if port is None else port
        self.child: Child | None = None

    @property
    def url(self) -> str:
        """The webhook's whole address: a secret, as at Slack."""
        return f"http://127.0.0.1:{self.port}/services/{self.path}"

    def airflow_connection(self) -> str:
        """The webhook as JSON for an ``AIRFLOW_CONN_…`` variable."""
        host = f"http://127.0.0.1:{self.port}/services"
        return json.dumps({"conn_type": "slackwebhook", "host": host, "password": self.path})

    def start(self, *, outlive_us: bool = False) -> None:
        """Start it and wait until it answers."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        environment = {"SLACK_PATH": self.path, "PYTHONPATH": os.pathsep.join((str(CLONE), str(CLONE / "plugins")))}
        self.child = start(
            "the Slack receiver",
            [sys.executable, "-m", "sandbox.slack", str(self.port), self.file],
            log=self.log,
            environment=environment,
            death_signal=None if outlive_us else signal.SIGKILL,
        )
        wait_until(lambda: port_answers(self.port), within=30, what="the Slack receiver answers", child=self.child)

    def stop(self) -> None:
        """End it; one that was not started is no error. What it received stays."""
        if self.child is not None:
            self.child.stop()
            self.child = None
        if self._chosen:
            release_port(self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def messages(self) -> list[Message]:
        """What came so far, oldest first."""
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        entries = [json.loads(line) for line in lines]
        return [Message(datetime.fromisoformat(entry["received"]), entry["payload"]) for entry in entries]


def _payload(body: bytes, content_type: str) -> dict[str, Any] | None:
    text = body.decode("utf-8", errors="replace")
    if content_type.startswith("application/x-www-form-urlencoded"):
        text = parse_qs(text).get("payload", [""])[0]
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _serve(port: int, file: Path, path: str) -> None:
    lock = threading.Lock()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > _LARGEST_BODY:
                self._answer(413, "payload_too_large")
                return
            payload = _payload(self.rfile.read(length), self.headers.get("Content-Type", ""))
            if self.path != f"/services/{path}":
                self._answer(404, "no_service")
            elif payload is None:
                self._answer(400, "invalid_payload")
            elif not any(payload.get(key) for key in ("text", "blocks", "attachments")):
                self._answer(400, "no_text")
            else:
                entry = {"received": datetime.now(UTC).isoformat(), "payload": payload}
                with lock, file.open("a", encoding="utf-8") as kept:
                    kept.write(json.dumps(entry) + "\n")
                self._answer(200, "ok")

        def _answer(self, code: int, text: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            print(f"{datetime.now(UTC).isoformat()} {self.command} {code}", flush=True)  # its path is a secret

    ThreadingHTTPServer(("127.0.0.1", port), Webhook).serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]), os.environ["SLACK_PATH"])
