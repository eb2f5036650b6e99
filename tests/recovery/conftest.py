"""A system that is ready to be backed up and brought back."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from sandbox.accounts import remove, server_directory
from sandbox.postgres import PostgresServer
from tests.recovery.line import Line, commit, prepare, system_in

_MEMORY = Path("/dev/shm")
_NAME = "lifeboat-recovery-"


@pytest.fixture(scope="session")
def quick_directory() -> Iterator[Path | None]:
    """A directory in memory, where there is one: restores sync a thousand files each."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < 4 * 1024**3:
        yield None
        return
    for old in _MEMORY.glob(f"{_NAME}*"):
        owner = old.name.removeprefix(_NAME).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)) and old.stat().st_uid == os.geteuid():
            remove(old)
    directory = Path(tempfile.mkdtemp(prefix=f"{_NAME}{os.getpid()}-", dir=_MEMORY))
    directory.chmod(0o755)
    yield directory
    remove(directory)


@pytest.fixture
def tmp_path(quick_directory: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh directory, in memory where possible."""
    if quick_directory is None:
        yield tmp_path_factory.mktemp("recovery")
        return
    directory = Path(tempfile.mkdtemp(dir=quick_directory))
    directory.chmod(0o755)
    yield directory
    remove(directory)


@pytest.fixture(scope="module")
def stopped(module_path: Path) -> Iterator[Line]:
    """A system with a full and three segments of WAL behind it, a row of the ledger in each; its server is stopped."""
    place = server_directory(module_path / "place")
    with PostgresServer(module_path / "server", settings={"fsync": "off"}) as server:
        prepare(server)
        line = Line(module_path, place, server, system_in(module_path))
        line.full()
        for number in (1, 2, 3):
            commit(server, number)
            server.run_sql("SELECT pg_switch_wal()")
        line.wal()
        server.stop()
        yield line
    remove(place)


@pytest.fixture(scope="module")
def module_path(quick_directory: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same for the tests of one module."""
    if quick_directory is None:
        yield tmp_path_factory.mktemp("recovery")
        return
    directory = Path(tempfile.mkdtemp(dir=quick_directory))
    directory.chmod(0o755)
    yield directory
    remove(directory)


@pytest.fixture
def make_line(tmp_path: Path, server_place: Path, make_postgres: Callable[..., PostgresServer]) -> Callable[..., Line]:
    """Call it for a system whose connection leads to a fresh server; keywords are those of ``make_postgres``."""

    def make(server: PostgresServer | None = None, **more: Any) -> Line:
        if server is None:
            server = make_postgres(**more)
        prepare(server)
        return Line(tmp_path, server_place, server, system_in(tmp_path))

    return make


@pytest.fixture
def line(make_line: Callable[..., Line]) -> Line:
    """A system whose connection leads to a fresh PostgreSQL 18."""
    return make_line()
