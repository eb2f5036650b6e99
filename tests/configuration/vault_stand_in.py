"""A stand-in of HashiCorp Vault's key-value engine of version 2, for no Vault can be installed where the tests run.

It speaks the part of the HTTP interface that is used, on a loopback port, and keeps secrets in memory: reading the
newest version, writing with check-and-set, custom metadata, deletion of a version, tokens, and AppRole's login.
Source: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class VaultStandIn:
    """A context manager that starts and ends it.

    Attributes:
        secrets: by mount and path: the versions' data (``None``: deleted), and the custom metadata.
        refused: paths that the token may not read.
        stalled: while set to an unset event, answers wait for it.
    """

    def __init__(self) -> None:
        self.token = "hvs.stand-in-token"
        self.role, self.secret_id = "stand-in-role", "stand-in-secret-id"
        self.secrets: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.stalled = threading.Event()
        self.stalled.set()
        handler = type("Handler", (_Handler,), {"vault": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def put(self, path: str, data: dict[str, Any], custom: dict[str, str] | None = None) -> None:
        """A new version of a secret, ``mount/path``."""
        secret = self.secrets.setdefault(path, {"versions": [], "custom": None})
        secret["versions"].append(data)
        if custom is not None:
            secret["custom"] = custom

    def newest(self, path: str) -> dict[str, Any] | None:
        versions = self.secrets.get(path, {"versions": []})["versions"]
        return versions[-1] if versions else None

    def __enter__(self) -> VaultStandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stalled.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    vault: VaultStandIn

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        self._serve("GET", {})

    def do_POST(self) -> None:
        self._serve("POST", json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"))

    def do_PUT(self) -> None:
        self.do_POST()

    def _serve(self, method: str, body: dict[str, Any]) -> None:
        vault = self.vault
        path = self.path.partition("?")[0].removeprefix("/v1/")
        vault.requests.append((method, path))
        vault.stalled.wait(30)
        if path == "auth/approle/login":
            good = (body.get("role_id"), body.get("secret_id")) == (vault.role, vault.secret_id)
            self._answer(200 if good else 400, {"auth": {"client_token": vault.token}} if good else {"errors": ["no"]})
            return
        mount, _, rest = path.partition("/")
        what, _, name = rest.partition("/")
        key = f"{mount}/{name}"
        if self.headers.get("X-Vault-Token") != vault.token or key in vault.refused:
            self._answer(403, {"errors": ["permission denied"]})
        elif what == "data":
            self._read(key) if method == "GET" else self._write(key, body)
        elif what == "metadata":
            self._metadata(key, method, body)
        else:
            self._answer(404, {"errors": []})

    def _read(self, key: str) -> None:
        secret = self.vault.secrets.get(key)
        if secret is None or not secret["versions"]:
            self._answer(404, {"errors": []})
            return
        data, version = secret["versions"][-1], len(secret["versions"])
        about = {
            "version": version, "custom_metadata": secret["custom"], "destroyed": False,
            "created_time": "2026-11-22T00:00:00Z", "deletion_time": "" if data is not None else "2026-11-22T01:00:00Z",
        }  # fmt: skip
        self._answer(200 if data is not None else 404, {"data": {"data": data, "metadata": about}})

    def _write(self, key: str, body: dict[str, Any]) -> None:
        secret = self.vault.secrets.setdefault(key, {"versions": [], "custom": None})
        wanted = body.get("options", {}).get("cas")
        if wanted is not None and wanted != len(secret["versions"]):
            self._answer(400, {"errors": ["check-and-set parameter did not match the current version"]})
            return
        secret["versions"].append(body["data"])
        self._answer(200, {"data": {"version": len(secret["versions"])}})

    def _metadata(self, key: str, method: str, body: dict[str, Any]) -> None:
        secret = self.vault.secrets.get(key)
        if secret is None:
            self._answer(404, {"errors": []})
        elif method == "GET":
            about = {"current_version": len(secret["versions"]), "custom_metadata": secret["custom"]}
            self._answer(200, {"data": about})
        else:
            secret["custom"] = body.get("custom_metadata") or None
            self._answer(204, None)

    def _answer(self, status: int, body: dict[str, Any] | None) -> None:
        document = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)
