"""A system under protection, as a person at a command line has it: policy, keys, connections, real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lifeboat.cli.program import run
from sandbox.accounts import remove_server_directory, server_directory
from sandbox.demo_system import DemoSystem, make_demo_system
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role
from sandbox.postgres_template import Template
from sandbox.s3_servers import RcloneS3

PASSWORD_OF_S3 = "very-secret-s3-key"


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Protected:
    """A database with its policy and three targets: primary and off-site speak S3, the local one is a directory."""

    root: Path
    server: PostgresServer
    system: DemoSystem
    primary: RcloneS3
    offsite: RcloneS3
    connections: Path
    restores: Path
    secrets: list[str] = field(default_factory=list)

    def options(self) -> list[str]:
        return ["--policies", str(self.system.policies), "--connections", str(self.connections)]

    def primary_keys(self) -> list[str]:
        return keys_below(self.primary.root / "backups")

    def environment(self) -> dict[str, str]:
        """For a process of its own."""
        return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}

    def start(self, *words: str, python: Path | None = None) -> subprocess.Popen[str]:
        """A command in a process of its own."""
        return subprocess.Popen(
            [str(python or sys.executable), "-m", "lifeboat.cli", *self.options(), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            cwd=self.root,
        )


def keys_below(folder: Path) -> list[str]:
    """The files below a directory."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def protect(
    root: Path, server: PostgresServer, stack: ExitStack, *, replacing: dict[str, str] | None = None
) -> Protected:
    """Make everything around a running server; it goes with ``stack``."""
    password = create_backup_role(server)
    system = make_demo_system(root / "system", binaries=server.binaries, replacing=replacing)
    stores = [
        stack.enter_context(
            RcloneS3(
                root / name / "store",
                root / f"{name}.log",
                f"{name}-key",
                PASSWORD_OF_S3,
                buckets=("backups",),
                name=name,
            )
        )
        for name in ("primary", "offsite")
    ]
    connections = root / "connections.json"
    connections.touch(mode=0o600)
    connections.write_text(
        json.dumps(
            {
                "demo_primary": stores[0].airflow_connection_uri(),
                "demo_offsite": stores[1].airflow_connection_uri(),
                "demo_database": json.loads(server.airflow_connection("lifeboat")),
            }
        )
    )
    restores = server_directory(root / "restores")
    stack.callback(remove_server_directory, root / "restores")
    return Protected(root, server, system, stores[0], stores[1], connections, restores, [password, PASSWORD_OF_S3])


@pytest.fixture
def protected(tmp_path: Path, make_postgres: Callable[..., PostgresServer]) -> Iterator[Protected]:
    """A fresh system that nothing was backed up of yet."""
    with ExitStack() as stack:
        yield protect(tmp_path, make_postgres(), stack)


@pytest.fixture
def lifeboat(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Call it with a system and a command's words: ``lifeboat(protected, "list", "demo")``."""
    monkeypatch.delenv("COLUMNS", raising=False)  # as wide as in a file, wherever the tests run

    def call(protected: Protected | None, *words: str) -> Said:
        capfd.readouterr()
        code = run([*(protected.options() if protected is not None else []), *words])
        out, err = capfd.readouterr()
        for secret in protected.secrets if protected is not None else []:
            assert secret not in out + err
        return Said(code, out, err)

    return call


@dataclass(frozen=True)
class Ledger:
    """A system with two fulls and WAL behind it, and the moments between the rows of its table ``ledger``.

    ``times[n]`` lies after row ``n`` was committed and before row ``n + 1``.
    """

    protected: Protected
    times: list[str]

    @property
    def fulls(self) -> list[Path]:
        """The fulls on the local target, oldest first."""
        folder = self.protected.system.local / "demo" / "database"
        return sorted(path for path in folder.iterdir() if "-full-" in path.name)

    @property
    def full(self) -> str:
        """The newest full's id."""
        return self.fulls[-1].name


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]) -> Iterator[Ledger]:
    """One for all tests: they look at it and restore from it, and put back what they change."""
    with a_ledger(tmp_path_factory.mktemp("ledger"), postgres_template(18)) as made:
        yield made


@contextmanager
def a_ledger(root: Path, template: Template) -> Iterator[Ledger]:
    """A ledger of one's own."""
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(root / "postgres", settings={"fsync": "off"}, template=template))
        protected = protect(root, server, stack)
        server.run_sql("CREATE TABLE ledger (n int PRIMARY KEY)")
        for note in ("the first", "the second"):
            assert run([*protected.options(), "backup", "demo", "database", "--tier", "daily", "--note", note]) == 0
        times = []
        for number in range(6):
            server.run_sql("INSERT INTO ledger VALUES (%s)", [number])
            times.append(server.run_sql("SELECT clock_timestamp()")[0][0].isoformat())
            if number == 2:
                server.run_sql("SELECT pg_create_restore_point('half way')")
                assert run([*protected.options(), "backup", "demo", "database", "--tier", "wal"]) == 0
        assert run([*protected.options(), "backup", "demo", "database", "--tier", "wal"]) == 0
        yield Ledger(protected, times)
