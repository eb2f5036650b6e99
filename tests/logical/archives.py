"""A system whose source is archived logically, and what tests ask of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from lifeboat.outside import Connection, Outside
from lifeboat.policy.loading import load_policy
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.logical_backup import back_up_logical
from lifeboat.postgres.logical_details import LogicalDetails, logical_details
from lifeboat.postgres.logical_existing import restore_into
from lifeboat.postgres.logical_planning import LogicalPlan
from lifeboat.postgres.logical_preparing import prepare
from lifeboat.postgres.logical_proof import RestoredArchive
from lifeboat.postgres.logical_restore import restore_logical
from lifeboat.postgres.logical_verification import verify_deep_logical
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from sandbox.demo_system import DemoSystem
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.postgres_builds import binaries
from sandbox.postgres_role import create_reading_role
from tests.conftest import Clock

SOURCE, DATABASE = "database", "shop"
EVERYTHING = Path(__file__).parent / "everything.sql"
Tick = Callable[[], None]


def fill(server: PostgresServer, database: str = DATABASE) -> None:
    """Make a database with something of everything in it."""
    if not server.run_sql("SELECT 1 FROM pg_roles WHERE rolname = 'reader'"):
        server.run_sql("CREATE ROLE reader")
    server.run_sql(f'CREATE DATABASE "{database}"')
    server.run_sql(f"""ALTER DATABASE "{database}" SET search_path TO sales, "$user", public""")
    server.run_sql(f"""ALTER DATABASE "{database}" SET work_mem TO '8MB'""")
    with server.connect(database=database) as session:
        session.execute(EVERYTHING.read_bytes())


class Archives:
    """One system: its server, its repository, and what is done with them."""

    def __init__(
        self, server: PostgresServer, system: DemoSystem, *, policy: str = "", clock: Clock | None = None
    ) -> None:
        self.server = server
        self.system = system
        if policy:
            text = system.policy.read_text(encoding="utf-8")
            system.policy.write_text(
                text.replace("    tiers:\n", f"    logical: {policy}\n    tiers:\n"), encoding="utf-8"
            )
        if "lifeboat" not in server.passwords:
            create_reading_role(server)
        outside = Outside(self._connection, lambda *_, **__: None, **({"clock": clock} if clock else {}))
        self.repository = SystemRepository(load_policy(system.policy), outside)
        self.home: PostgresServer = server
        self.user = "lifeboat"
        self.staging: tuple[PostgresServer, str] | None = None

    def _connection(self, name: str) -> Connection:
        server, user = (self.home, SUPERUSER) if name == "home" else (self.server, self.user)
        if name == "staging" and self.staging is not None:
            server, user = self.staging
        return Connection(name, "postgres", "127.0.0.1", server.port, user, server.passwords[user])

    @property
    def source(self) -> PostgresSource:
        source = self.repository.policy.sources[SOURCE]
        assert isinstance(source, PostgresSource)
        return source

    @property
    def journal(self) -> Journal:
        return self.repository.journal("primary", run="test", actor="a test")

    def work(self, *tiers: str, due: date | None = None) -> Work:
        return Work.new(
            "logical",
            begun=self.repository.outside.clock(),
            tiers=tiers or ("weekly",),
            run=Run(command="test"),
            actor="a test",
            due=due,
        )

    def back_up(self, work: Work | None = None, *, tick: Tick = no_tick, **more: Any) -> Copy:
        copy, _ = back_up_logical(
            self.repository, SOURCE, self.source, work or self.work(), self.journal, tick=tick, **more
        )
        return copy

    def committed(self, target: str = "primary") -> list[Copy]:
        return self.repository.catalogue(target).recovery_points(SOURCE).of_kind("logical")

    def details(self, copy: Copy) -> LogicalDetails:
        return logical_details(copy.manifest)

    def parameters(self, database: str = "") -> ConnectionParameters:
        connection = self.repository.outside.connection("home")
        return connection_parameters(connection, Tls("off"), database=database or None)

    def plan(self, copy: Copy, *, into: str | None = None, **more: Any) -> LogicalPlan:
        existing = None if into is None else self.parameters(into)
        return prepare(self.repository, copy, self.parameters(), binaries=binaries(), existing=existing, **more)

    def restore(self, plan: LogicalPlan, *, tick: Tick = no_tick) -> RestoredArchive:
        if plan.existing:
            return restore_into(self.repository, plan, self.parameters(plan.databases[0].name), tick=tick)
        return restore_logical(self.repository, plan, self.parameters, tick=tick)

    def verify(self, copy: Copy, target: str = "primary") -> dict[str, Any]:
        return verify_deep_logical(self.repository, target, copy)[1]

    def databases(self) -> set[str]:
        return {name for (name,) in self.home.run_sql("SELECT datname FROM pg_database")}
