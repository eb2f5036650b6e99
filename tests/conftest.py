"""Servers that tests run on: real ones, on free ports, gone when the test is over."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from sandbox import demo_system, processes
from sandbox.accounts import remove_server_directory, server_directory, sweep_outer_room
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR, tested_majors
from sandbox.postgres_template import Template

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


class OneWorkerAModule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A module's tests stay on one worker: what they share is made once. So do all that run an Airflow, of which
    a machine of two cores carries one at a time."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.split("::", 1)[0]
        return "airflow" if module in RUN_AIRFLOW else module


RUN_AIRFLOW = (
    "tests/dags/test_runs.py",
    "tests/dags/test_restores.py",
    "tests/dags/test_celery.py",
    "tests/sandbox/test_airflow.py",
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWorkerAModule:
    return OneWorkerAModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that run an Airflow come first: together they take longest, and they wait more than they work."""
    items.sort(key=lambda item: item.nodeid.split("::", 1)[0] not in RUN_AIRFLOW)


def pytest_collection_finish() -> None:
    """Thousands of tests, and all that they import, stay to the end: no collection of garbage looks through them."""
    gc.collect()
    gc.freeze()


class Clock:
    """A clock that stands still until it is told: call it for the present moment."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> datetime:
        """Move on by ``timedelta(**duration)`` and return the new present."""
        self.now += timedelta(**duration)
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at 22 November 2026, 02:00 UTC."""
    return Clock(datetime(2026, 11, 22, 2, tzinfo=UTC))


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """Call it for a free loopback port, as often as needed."""
    given: list[int] = []

    def give() -> int:
        given.append(processes.free_port())
        return given[-1]

    yield give
    for port in given:
        processes.release_port(port)


@pytest.fixture(scope="session", autouse=True)
def made_once() -> Iterator[None]:
    """What takes long to make and is the same to every test: the break-glass pair of demo systems, half a second of
    arithmetic each; and botocore's descriptions of services, which every session reads anew, a megabyte of JSON."""
    read = cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_system, "new_break_glass_pair", cache(demo_system.new_break_glass_pair))
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))
        yield


@pytest.fixture(scope="session")
def postgres_template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Template]]:
    """Call it with a major version for a cluster to copy from; ``initdb`` runs once for each."""
    sweep_outer_room()
    made: dict[int, Template] = {}
    room = tmp_path_factory.mktemp("postgres-templates")

    def template(major: int) -> Template:
        if major not in made:
            made[major] = Template.make(room / str(major), major)
        return made[major]

    yield template
    for major in made:
        remove_server_directory(room / str(major))


@pytest.fixture
def make_postgres(
    tmp_path: Path, postgres_template: Callable[[int], Template]
) -> Iterator[Callable[..., PostgresServer]]:
    """Call it for one more running server: ``make_postgres(major=16, settings={…}, tls=True, …)``.

    ``own_identity=True`` runs ``initdb``: a system identifier of its own, which takes a second.
    """
    servers: list[PostgresServer] = []

    def make(
        *,
        major: int = WHEEL_MAJOR,
        settings: dict[str, str] | None = None,
        own_identity: bool = False,
        tls: bool = False,
        initdb_arguments: tuple[str, ...] = (),
    ) -> PostgresServer:
        template = None if own_identity or initdb_arguments else postgres_template(major)
        server = PostgresServer(
            tmp_path / f"postgres-{len(servers)}",
            major=major,
            settings={"fsync": "off"} | (settings or {}),
            template=template,
            tls=tls,
            initdb_arguments=initdb_arguments,
        )
        servers.append(server)
        server.create()
        server.start()
        return server

    yield make
    for server in servers:
        server.destroy()


@pytest.fixture
def postgres(make_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """A fresh running PostgreSQL 18."""
    return make_postgres()


@pytest.fixture(params=tested_majors(), ids=lambda major: f"postgresql-{major}")
def postgres_of_major(request: pytest.FixtureRequest, make_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """A fresh running PostgreSQL of each major version under test."""
    return make_postgres(major=request.param)


@pytest.fixture
def server_place(tmp_path: Path) -> Iterator[Path]:
    """A fresh directory that servers can reach, also when the tests run as root: for restores that are opened."""
    link = tmp_path / "server-place"
    yield server_directory(link)
    remove_server_directory(link)
