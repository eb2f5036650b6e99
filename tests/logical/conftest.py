"""Servers with something of everything, their logical archives, and servers to bring them back to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.accounts import remove_server_directory
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR
from sandbox.postgres_template import Template
from tests.logical.archives import Archives, fill
from tests.recovery.line import system_in


@pytest.fixture(scope="module")
def module_server(
    tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]
) -> Iterator[Callable[..., PostgresServer]]:
    """Call it for a running server that lives as long as the module's tests."""
    servers: list[PostgresServer] = []

    def make(major: int = WHEEL_MAJOR) -> PostgresServer:
        directory = tmp_path_factory.mktemp("logical") / "server"
        server = PostgresServer(directory, major=major, settings={"fsync": "off"}, template=postgres_template(major))
        servers.append(server)
        server.create()
        server.start()
        return server

    yield make
    for server in servers:
        server.destroy()
        remove_server_directory(server.directory)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, module_server: Callable[..., PostgresServer]) -> Archives:
    """A PostgreSQL 18 with the database ``shop``, and its system's repository."""
    server = module_server()
    fill(server)
    return Archives(server, system_in(tmp_path_factory.mktemp("system")))


@pytest.fixture
def own_archives(tmp_path: Path, make_postgres: Callable[..., PostgresServer]) -> Callable[..., Archives]:
    """Call it for a system of one test's own: what it does to server and repository disturbs nobody."""

    def make(*, major: int = WHEEL_MAJOR, filled: bool = False, policy: str = "") -> Archives:
        server = make_postgres(major=major)
        if filled:
            fill(server)
        return Archives(server, system_in(tmp_path), policy=policy)

    return make
