"""What `deploy/prepare.py` makes, made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploy import prepare
from sandbox.accounts import CLONE
from sandbox.postgres import ENVIRONMENT, SUPERUSER, PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR, binaries
from sandbox.processes import run


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `.env` and `secrets/`."""
    place = tmp_path_factory.mktemp("prepared")
    shutil.copy(CLONE / ".env.example", place)
    prepare.main(place)
    return place


def run_sql_file(server: PostgresServer, file: Path, *, password: str | None = None, database: str = "postgres") -> str:
    """What psql says of a file, as a superuser runs it; ``password`` is for the role that it makes."""
    environment = ENVIRONMENT | {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": SUPERUSER,
        "PGPASSWORD": server.passwords[SUPERUSER],
        "PGDATABASE": database,
    }
    if password is not None:
        environment["LIFEBOAT_PASSWORD"] = password
    words = ("--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file", file)
    return run(binaries(WHEEL_MAJOR) / "psql", *words, environment=environment)
