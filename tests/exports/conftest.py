"""A database to export: a real server, a system on two local targets, and the verbs in few words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lifeboat.outside import Connection, Outside, utc_now
from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.exports.export import back_up_export
from lifeboat.postgres.exports.reading import read_records
from lifeboat.postgres.exports.records import EXPORT, TableRecord
from lifeboat.postgres.exports.verification import VerifiedExport, verify_export
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from sandbox.demo_system import DemoSystem, make_demo_system
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import binaries
from sandbox.postgres_role import create_backup_role
from sandbox.postgres_template import Template

SOURCE = "database"
DAILY = '      daily:\n        schedule: "0 2 * * *"\n        retention: 30d\n'
TIER = '      export:\n        schedule: "0 3 * * *"\n        retention: 30d\n'


@pytest.fixture(scope="session")
def demo_with_keys(tmp_path_factory: pytest.TempPathFactory) -> DemoSystem:
    """The demo's system; its keys serve all tests, since an RSA pair takes a second to make."""
    return make_demo_system(tmp_path_factory.mktemp("demo") / "system", binaries=binaries())


def export_system(directory: Path, demo: DemoSystem, export: str = "") -> DemoSystem:
    """The demo's system with an export tier and ``export`` as the source's own lines; directories as targets."""
    lines = "".join(f"      {line}\n" for line in export.splitlines())
    text = demo.policy.read_text()
    replacing = {
        DAILY: DAILY + TIER,
        "    tiers:\n": f"    export:\n{lines}    tiers:\n",
        str(demo.local): str(directory / "local"),
    }
    for name in ("primary", "offsite"):
        (directory / name).mkdir()
        replacing[f"s3://backups/lifeboat\n    connection: demo_{name}"] = f"file://{directory}/{name}\n    queue: here"
    for old, new in replacing.items():
        assert old in text
        text = text.replace(old, new)
    (directory / "local").mkdir()
    (directory / "local" / ".lifeboat-target").write_text("demo-local\n")
    (directory / "policies").mkdir()
    policy = directory / "policies" / "demo.yaml"
    policy.write_text(text)
    return DemoSystem(policy.parent, policy, demo.keys, directory / "local")


@dataclass
class Exporter:
    """One system whose source is ``server``."""

    directory: Path
    server: PostgresServer
    system: DemoSystem
    repository: SystemRepository = field(init=False)

    def __post_init__(self) -> None:
        self.repository = SystemRepository(
            load_policy(self.system.policy), Outside(self.connection, lambda *_, **__: None)
        )

    def connection(self, name: str) -> Connection:
        """The source by its own name; any other is the superuser in the database of that name."""
        role = "lifeboat" if name == "demo_database" else "postgres"
        database = "postgres" if name == "demo_database" else name
        password = self.server.passwords[role]
        return Connection(name, "postgres", "127.0.0.1", self.server.port, role, password, schema=database)

    @property
    def source(self) -> PostgresSource:
        source = self.repository.policy.sources[SOURCE]
        assert isinstance(source, PostgresSource)
        return source

    def work(self, *only: str) -> Work:
        return Work.new(
            EXPORT,
            begun=utc_now(),
            tiers=(Tier.EXPORT.value,),
            run=Run(command="test"),
            actor="a test",
            only=only,
        )

    def export(self, *only: str, work: Work | None = None, tick: Callable[[], None] = no_tick) -> Copy:
        journal = self.repository.journal("primary", run="test", actor="a test")
        return back_up_export(
            self.repository,
            SOURCE,
            self.source,
            work or self.work(*only),
            journal,
            progress=lambda *_: None,
            tick=tick,
        )

    def records(self, copy: Copy) -> dict[str, TableRecord]:
        found = read_records(copy.manifest, origin_of(self.repository, "primary", copy))
        return {f"{record.database}.{record.path}": record for record in found}

    def verify(self, copy: Copy) -> VerifiedExport:
        return verify_export(self.repository, "primary", copy, passed=lambda _: None, tick=no_tick)

    def committed(self) -> list[str]:
        listing = self.repository.catalogue("primary").recovery_points(SOURCE)
        return [copy.manifest.recovery_point for copy in listing.copies]


@pytest.fixture(scope="session")
def export_server(
    tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]
) -> Iterator[PostgresServer]:
    """One server for all tests that leave it running; each makes databases of its own."""
    root = tmp_path_factory.mktemp("export-server")
    server = PostgresServer(root / "postgres", settings={"fsync": "off"}, template=postgres_template(18))
    with server:
        create_backup_role(server)
        server.run_sql("GRANT pg_read_all_data TO lifeboat")
        yield server


@pytest.fixture
def database(export_server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh database on it."""
    name = f"shop{abs(hash(request.node.nodeid)) % 10**8}"
    export_server.run_sql(f"CREATE DATABASE {name}")
    yield name
    export_server.run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def make_exporter(
    tmp_path: Path, export_server: PostgresServer, database: str, demo_with_keys: DemoSystem
) -> Callable[..., Exporter]:
    """Call it with lines of the policy's ``export``; the fresh database alone is exported."""

    def make(lines: str = "", server: PostgresServer | None = None, databases: str | None = None) -> Exporter:
        more = f"databases: [{databases or database}]\n{lines}"
        return Exporter(tmp_path, server or export_server, export_system(tmp_path, demo_with_keys, more))

    return make


@pytest.fixture
def exporter(make_exporter: Callable[..., Exporter]) -> Exporter:
    return make_exporter()


@pytest.fixture
def run_sql(export_server: PostgresServer, database: str) -> Callable[..., list[tuple[Any, ...]]]:
    """Run a statement in the fresh database."""

    def run(statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        return export_server.run_sql(statement, parameters, database=database)

    return run
