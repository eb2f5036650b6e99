"""SFTP servers for the demo and the tests: OpenSSH without privileges, and rclone over a directory.

Both have a host key of their own and let in whoever holds one private key; there are no passwords.
"""

from __future__ import annotations

import getpass
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import asyncssh
import psutil  # type: ignore[import-untyped]

from lifeboat.outside import Connection
from sandbox.accounts import Account, hand_over, remove_server_directory, server_account, server_directory
from sandbox.debian_packages import program
from sandbox.loopback_server import LoopbackServer, installed_program
from sandbox.processes import kill_all


class SftpServer(LoopbackServer):
    """A server with SFTP on a port of 127.0.0.1; a context manager that starts and stops it.

    Keys that a directory holds already are used again: a server that is started anew is the same to its clients.

    Args:
        name: how messages call it.
        room: a directory for keys and configuration, made if missing.
        log: its log file.
        login: the account that clients name.
        port: where it listens; a free one when ``None``.

    Attributes:
        root: the directory on this machine that clients see as :attr:`shown_root`.
    """

    root: Path

    def __init__(self, name: str, room: Path, log: Path, login: str, port: int | None = None) -> None:
        super().__init__(name, log, port)
        self.room = room
        self.login = login
        room.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.host_key = self._key("host_key")
        self.private_key = self._key("client_key")
        self._write("authorized_keys", self.private_key.export_public_key().decode())

    @property
    def shown_root(self) -> str:
        """:attr:`root` as the server's clients call it."""
        return "/"

    @property
    def host_key_text(self) -> str:
        """The host's public key as a connection pins it."""
        return " ".join(self.host_key.export_public_key().decode().split()[:2])

    @property
    def private_key_text(self) -> str:
        """The private key that the server lets in, PEM."""
        return self.private_key.export_private_key().decode()

    def make_directory(self, name: str) -> Path:
        """Make a directory below :attr:`root`, before anybody has looked there through the server."""
        directory = self.root / name
        directory.mkdir(mode=0o700, exist_ok=True)
        account = self.account()
        if account is not None:
            os.chown(directory, account.uid, account.gid)
        return directory

    def document(self, connection_id: str) -> dict[str, Any]:
        """The server as a connection in Airflow's JSON form. It holds the private key."""
        known = self.connection(connection_id)
        return {
            "conn_type": known.type,
            "host": known.host,
            "port": known.port,
            "login": known.login,
            "extra": dict(known.extra),
        }

    def url(self, directory: str) -> str:
        """The policy's URL of a directory below :attr:`root`."""
        return f"sftp://127.0.0.1:{self.port}{self.shown_root.rstrip('/')}/{directory}"

    def _key(self, name: str) -> asyncssh.SSHKey:
        file = self.room / name
        if not file.exists():
            self._write(name, asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode())
        return asyncssh.read_private_key(str(file))

    def _write(self, name: str, text: str) -> Path:
        file = self.room / name
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as written:
            written.write(text)
        return file

    def connection(self, connection_id: str) -> Connection:
        """The server as a connection of type ``sftp``, its host key pinned."""
        return Connection(
            id=connection_id,
            type="sftp",
            host="127.0.0.1",
            port=self.port,
            login=self.login,
            extra={"private_key": self.private_key_text, "host_key": self.host_key_text},
        )

    def airflow_connection_uri(self) -> str:
        """The server as the value of an ``AIRFLOW_CONN_…`` variable, in Airflow's URI form: holds the private key."""
        extra = urlencode({"__extra__": json.dumps(dict(self.connection("any").extra))})
        return f"sftp://{quote(self.login, safe='')}@127.0.0.1:{self.port}/?{extra}"


class OpenSsh(SftpServer):
    """``sshd`` with ``internal-sftp`` and nothing else, run without privileges: it lets in the account it runs as.

    Source: https://man.openbsd.org/sshd_config

    Args:
        room: a directory for keys and configuration, made if missing.
        log: its log file.
        sftp_arguments: of ``internal-sftp``: ``-P remove,rmdir`` denies requests.
        settings: further lines of its configuration.
    """

    def __init__(
        self, room: Path, log: Path, *, port: int | None = None, sftp_arguments: str = "", settings: str = ""
    ) -> None:
        account = server_account()
        self._sftp_arguments = sftp_arguments
        self._settings = settings
        self._servers_room = server_directory(room / "server")
        super().__init__("sshd", room, log, account.name if account else getpass.getuser(), port)
        self.root = self._servers_room / "root"
        self.root.mkdir(mode=0o700)
        hand_over(self.root)

    @property
    def shown_root(self) -> str:
        return str(self.root)

    def account(self) -> Account | None:
        return server_account()

    def environment(self) -> dict[str, str]:
        return dict(program("sshd").environment)

    def arguments(self) -> list[str | Path]:
        own = self._servers_room
        for name in ("host_key", "authorized_keys"):
            (own / name).write_bytes((self.room / name).read_bytes())
            (own / name).chmod(0o600)
        sshd = program("sshd")
        # From OpenSSH 9.8 on sshd hands sessions to programs that it looks for where it was built to be installed.
        parts = [
            f"{setting} {sshd.root / place}\n"
            for setting, place in (
                ("SshdSessionPath", "usr/lib/openssh/sshd-session"),
                ("SshdAuthPath", "usr/lib/openssh/sshd-auth"),
            )
            if (sshd.root / place).exists() and sshd.root != Path("/")
        ]
        (own / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {own / 'host_key'}\nPidFile none\n"
            f"AuthorizedKeysFile {own / 'authorized_keys'}\nAuthenticationMethods publickey\nUsePAM yes\n"
            f"StrictModes no\nUseDNS no\nMaxStartups 100\nMaxSessions 100\nLogLevel VERBOSE\n"
            f"Subsystem sftp internal-sftp {self._sftp_arguments}\n{''.join(parts)}{self._settings}",
            encoding="utf-8",
        )
        for name in ("host_key", "authorized_keys", "sshd_config"):
            hand_over(own / name)
        return [sshd.path, "-D", "-e", "-f", own / "sshd_config"]

    def sessions(self) -> list[psutil.Process]:
        """The processes that serve connections: they outlive the server that listens."""
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.pid).children(recursive=True))
        return []

    def freeze(self) -> None:
        """Stop the server with its sessions in their tracks: connections stay open and nothing answers."""
        super().freeze()
        for session in self.sessions():
            session.suspend()

    def thaw(self) -> None:
        for session in self.sessions():
            session.resume()
        super().thaw()

    def cut(self) -> None:
        """End every connection; the server goes on."""
        kill_all(self.sessions())

    def kill(self) -> None:
        """End the server with every session of it, as the loss of its machine would."""
        sessions = self.sessions() if self._child is not None else []
        super().kill()
        kill_all(sessions)

    def stop(self) -> None:
        sessions = self.sessions() if self._child is not None else []
        super().stop()
        kill_all(sessions)
        remove_server_directory(self.room / "server")


class RcloneSftp(SftpServer):
    """``rclone serve sftp`` over a directory, which clients see as ``/``.

    Without a VFS cache a file streams to its place and is there when it is closed; with one it would be acknowledged
    before it is stored. It has neither hard links nor fsync, although it says so, and its rename replaces.
    It remembers for 5 minutes what a directory holds: make and remove files through it.
    Source: https://rclone.org/commands/rclone_serve_sftp/

    Args:
        root: the directory, made if missing.
        room: a directory for keys, made if missing.
        log: its log file.
        name: how messages call it.
    """

    def __init__(
        self, root: Path, room: Path, log: Path, *, port: int | None = None, name: str = "rclone serve sftp"
    ) -> None:
        super().__init__(name, room, log, "lifeboat", port)
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def arguments(self) -> list[str | Path]:
        return [
            installed_program("rclone"), "serve", "sftp", self.root, "--addr", f"127.0.0.1:{self.port}",
            "--key", self.room / "host_key", "--authorized-keys", self.room / "authorized_keys",
            "--vfs-cache-mode", "off",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {"RCLONE_CONFIG": os.devnull, "RCLONE_CACHE_DIR": str(self.room / "rclone-cache")}
