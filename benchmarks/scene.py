"""The scene of a measurement: a server with an ERP database, and a system of ours that backs it up to a directory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import erp
from sandbox.accounts import CLONE, remove_server_directory, server_directory
from sandbox.demo_system import make_demo_system
from sandbox.postgres import ENVIRONMENT, PostgresServer
from sandbox.postgres_role import create_backup_role

ROLE = "lifeboat"
_DEMO_PRIMARY = "url: s3://backups/lifeboat\n    connection: demo_primary"

# A server that is being measured is no server that is being filled: what it writes must not wait for this machine's
# disk. Reading, which is what backups do, is the same with these.
SERVER_SETTINGS = {"fsync": "off", "max_wal_size": "4GB", "checkpoint_timeout": "1h", "autovacuum": "off"}


@dataclass(frozen=True)
class Scene:
    """What every measurement needs.

    Attributes:
        server: the server.
        directory: for everything that is written; on a real disk.
        password: of the role that backs up.
    """

    server: PostgresServer
    directory: Path
    password: str

    def policy(self, level: int) -> Path:
        """A policy that writes to :meth:`target` at a compression level."""
        folder = self.directory / f"level-{level}"
        if not folder.exists():
            self.target(level).mkdir()
            make_demo_system(
                folder,
                binaries=self.server.binaries,
                replacing={
                    _DEMO_PRIMARY: f"url: file://{self.target(level)}\n    queue: bench",
                    "\nsources:\n": (
                        f"\nstreams:\n  compression_level: {level}\n  wal_compression_level: {level}\n\nsources:\n"
                    ),
                },
            )
        return folder / "policies" / "demo.yaml"

    def target(self, level: int) -> Path:
        """Where our backups at a compression level go."""
        return self.directory / f"target-{level}"

    def clear(self, level: int) -> None:
        """Forget our backups at a compression level, so that each run begins alike."""
        self.policy(level)
        shutil.rmtree(self.target(level))
        self.target(level).mkdir()

    def environment(self, user: str = ROLE) -> dict[str, str]:
        """What client programs and shell pipelines see of the environment; secrets are here and in no argument."""
        return ENVIRONMENT | {
            "PATH": f"{self.server.binaries}:/usr/local/bin:/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": user,
            "PGPASSWORD": self.server.passwords[user],
            "PGDATABASE": "postgres",
            "BENCH_PASSPHRASE": "a passphrase for measuring",
        }

    def restore_directory(self) -> Path:
        """An empty directory that the servers' account can use."""
        link = self.directory / "restores"
        remove_server_directory(link)
        return server_directory(link)

    def plain_size(self) -> int:
        """About how many bytes a full backup reads, WAL left out."""
        return int(self.server.run_sql("SELECT sum(pg_database_size(oid)) FROM pg_database")[0][0])

    def settle(self) -> None:
        """Let nothing that was written before be written while something is measured."""
        self.server.run_sql("CHECKPOINT")
        os.sync()


@contextmanager
def scene(megabytes: int, say: Callable[[str], None]) -> Iterator[Scene]:
    """A server with ``megabytes`` of ERP; everything is gone afterwards."""
    room = CLONE / ".sandbox"
    room.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=room))
    try:
        with PostgresServer(directory / "server", settings=SERVER_SETTINGS) as server:
            password = create_backup_role(server)
            say(f"filling an ERP database of {megabytes:,} MB")
            erp.fill(server, megabytes=megabytes, progress=lambda what: say(f"filling the ERP database: {what}"))
            made = Scene(server, directory, password)
            try:
                yield made
            finally:
                remove_server_directory(directory / "restores")
    finally:
        shutil.rmtree(directory)


def double(scene: Scene, times: int) -> None:
    """Let the server hold the ERP database ``times`` times: quick to make, and as large as filled ones."""
    for number in range(2, times + 1):
        scene.server.run_sql(f"CREATE DATABASE erp_{number} TEMPLATE {erp.DATABASE} STRATEGY FILE_COPY")
