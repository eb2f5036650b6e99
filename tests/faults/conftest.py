"""One server and one system for the tests of a module: each fault finds what the ones before it have left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sandbox.accounts import remove_server_directory
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR
from sandbox.postgres_role import create_backup_role, let_read_everything
from sandbox.postgres_template import Template
from tests.faults.ways import FULL, MORE_TIERS, WAL, Protected
from tests.recovery.line import system_in


@pytest.fixture(scope="module")
def protected(
    tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]
) -> Iterator[Protected]:
    """A system with every tier, a verified full to build upon, and a first run of WAL."""
    root = tmp_path_factory.mktemp("faults")
    system = system_in(root)
    text = system.policy.read_text(encoding="utf-8")
    system.policy.write_text(text.replace("\nalerts:", f"{MORE_TIERS}\nalerts:"), encoding="utf-8")
    settings = {"fsync": "off", "summarize_wal": "on"}
    server = PostgresServer(root / "postgres", settings=settings, template=postgres_template(WHEEL_MAJOR))
    with server:
        create_backup_role(server)
        let_read_everything(server)
        server.run_sql("CREATE TABLE ledger (n int PRIMARY KEY)")
        server.run_sql("CREATE TABLE noise AS SELECT g AS n, md5(g::text) AS text FROM generate_series(1, 2000) AS g")
        made = Protected(system.policy, server, {name: root / name for name in ("primary", "offsite")})
        made.verified(made.run(FULL))
        made.run(WAL)
        yield made
    remove_server_directory(root / "postgres")


@pytest.fixture(autouse=True)
def nothing_left(protected: Protected) -> Iterator[None]:
    """After each fault the server holds nothing of ours."""
    yield
    protected.port = None
    protected.insist_on_nothing_left()
