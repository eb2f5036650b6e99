"""Git servers on free loopback ports: ``git daemon``, git over ssh, and git's own CGI program behind https.

OpenSSH's sshd lets in the account that it runs as, by that account's shell. Root's servers run as an account without
one, so there the server is asyncssh's: the client is OpenSSH's ``ssh`` in both cases.
"""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sandbox.certificates import make_certificates
from sandbox.loopback_server import LoopbackServer
from sandbox.sftp_servers import OpenSsh, SftpServer


class GitDaemon(LoopbackServer):
    """``git daemon``: everything below a directory, to be read and written by whoever comes."""

    def __init__(self, root: Path, log: Path) -> None:
        super().__init__("git daemon", log)
        self.root = root

    def url(self, repository: Path) -> str:
        return f"git://127.0.0.1:{self.port}/{repository.relative_to(self.root)}"

    def environment(self) -> dict[str, str]:
        return {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def arguments(self) -> list[str | Path]:
        # The program itself: `git` would be its parent, and would not take it along when it is killed.
        places = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
        return [
            Path(places) / "git-daemon", "--reuseaddr", f"--port={self.port}", "--listen=127.0.0.1", "--export-all",
            "--enable=receive-pack", f"--base-path={self.root}", self.root,
        ]  # fmt: skip


class _Asyncssh(SftpServer):
    """An ssh server that runs what a client with the right key asks for."""

    def __init__(self, room: Path, log: Path) -> None:
        super().__init__("asyncssh", room, log, "git")

    def arguments(self) -> list[str | Path]:
        launcher = Path(__file__).with_name("ssh_launcher.py")
        return [sys.executable, launcher, str(self.port), self.room / "host_key", self.room / "authorized_keys"]


@contextmanager
def ssh_server(room: Path) -> Iterator[SftpServer]:
    """A server that lets in whoever holds its key, and runs git for them."""
    kind = OpenSsh if os.geteuid() != 0 else _Asyncssh
    with kind(room / "ssh", room / "sshd.log") as server:
        yield server


@dataclass
class HttpsGit:
    """``git http-backend`` behind https and a password.

    Attributes:
        authority: the certificate to trust.
        asked: the login and password of each request; empty without.
    """

    root: Path
    authority: Path
    server: ThreadingHTTPServer
    login: str = "backup"
    password: str = "a-Token-of-our-own"
    asked: list[str] = field(default_factory=list)

    def url(self, repository: Path) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}/{repository.relative_to(self.root)}"

    def connection(self, **other: Any) -> dict[str, Any]:
        told = {"conn_type": "http", "host": "127.0.0.1", "login": self.login, "password": self.password}
        return told | {"extra": {"ca_file": str(self.authority)}} | other


@contextmanager
def https_server(root: Path, room: Path) -> Iterator[HttpsGit]:
    """Everything below a directory."""
    certificates = make_certificates(room / "certificates")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    git = HttpsGit(root, certificates.authority, server)
    server.git = git  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield git
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Backend(BaseHTTPRequestHandler):
    """CGI as ``git http-backend`` has it. Source: https://git-scm.com/docs/git-http-backend"""

    def do_GET(self) -> None:
        git: HttpsGit = self.server.git  # type: ignore[attr-defined]
        given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ") or b"").decode()
        git.asked.append(given)
        if given != f"{git.login}:{git.password}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self._body()
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=False,
            env={
                "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(git.root), "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": git.login,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
            },
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        self.send_response(int(dict(headers).get("Status", "200").split()[0]))
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815  # http.server's own way of naming

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, format: str, *arguments: Any) -> None:  # http.server's own name
        """Say nothing."""
