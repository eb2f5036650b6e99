"""A host that is reached over SSH and runs commands, as a database host does: OpenSSH's sshd where that is possible.

Root's sshd wants an account of its own and a directory for it, which a sandbox does not make on anybody's machine: it
sees a copy of the user database, and a ``/run``, that are mounts of its own. Where root may not mount, the server is
asyncssh's.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from lifeboat.outside import Connection
from sandbox.accounts import Account
from sandbox.sftp_servers import OpenSsh, SftpServer

LIFEBOAT = Path(sys.executable).with_name("lifeboat")
_USERS = Path("/etc/passwd")
_BEGIN = """
mount --bind "$1" "$2" && mount -t tmpfs none /run && mkdir -m 755 /run/sshd && shift 2 && exec "$@"
"""


class Sshd(OpenSsh):
    """sshd that runs commands for the account that we are."""

    def __init__(self, room: Path, log: Path) -> None:
        super().__init__(room, log)
        self.login = getpass.getuser()

    def account(self) -> Account | None:
        return None

    def arguments(self) -> list[str | Path]:
        command = super().arguments()
        if os.geteuid() != 0:
            return command
        config = Path(command[-1])
        # Of PAM there is no configuration here.
        config.write_text(config.read_text(encoding="utf-8").replace("UsePAM yes", "UsePAM no"), encoding="utf-8")
        users = self.room / "users"
        users.write_text(_USERS.read_text(encoding="utf-8") + f"sshd:x:65533:65534::{self.room}:/bin/false\n")
        users.chmod(0o644)
        return ["unshare", "--mount", "--", "sh", "-c", _BEGIN, "sh", users, _USERS, *command]


class Asyncssh(SftpServer):
    """A server that runs commands as we do."""

    def __init__(self, room: Path, log: Path) -> None:
        super().__init__("asyncssh", room, log, "dba")

    def arguments(self) -> list[str | Path]:
        launcher = Path(__file__).parents[1] / "code" / "ssh_launcher.py"
        return [sys.executable, launcher, str(self.port), self.room / "host_key", self.room / "authorized_keys"]


@cache
def may_run_sshd() -> bool:
    """Whether sshd can run commands here."""
    if os.geteuid() != 0:
        return True
    mounting = ["unshare", "--mount", "--", "mount", "--bind", _USERS, _USERS]
    return subprocess.run(mounting, capture_output=True, check=False).returncode == 0


@contextmanager
def ssh_host(room: Path) -> Iterator[SftpServer]:
    """A running one."""
    kind = Sshd if may_run_sshd() else Asyncssh
    with kind(room / "ssh", room / "sshd.log") as server:
        yield server


def connection_to(
    server: SftpServer, *, port: int | None = None, program: str = str(LIFEBOAT), options: tuple[str, ...] = ()
) -> Connection:
    """The host as a connection of type ``ssh``."""
    known = server.connection("db_host")
    extra = {**known.extra, "lifeboat_program": program, "lifeboat_options": list(options)}
    return replace(known, type="ssh", port=port or known.port, extra=extra)
