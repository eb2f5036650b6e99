"""The straight line for tests: a server, its system's repository on two local targets, backups, restores."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from lifeboat.backup.steps import Point, verify
from lifeboat.outside import Connection, Outside, utc_now
from lifeboat.policy.loading import load_policy
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.full import back_up_full
from lifeboat.postgres.incremental import Taken, back_up_incremental
from lifeboat.postgres.moments import Moment
from lifeboat.postgres.restore import Request, Restored, restore
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.restore_sources import Offer, read_offer
from lifeboat.postgres.wal_collected import Collected
from lifeboat.postgres.wal_collection import collect_wal
from lifeboat.postgres.wal_following import follow_wal
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.copying import copy as copy_point
from lifeboat.repository.journal import Event, Journal, read_journal
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.source import Stay
from sandbox.accounts import remove_server_directory
from sandbox.demo_system import DemoSystem, make_demo_system
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import binaries
from sandbox.postgres_role import create_backup_role

SOURCE = "database"
Tick = Callable[[], None]


def system_in(directory: Path) -> DemoSystem:
    """The demo's system with ``primary`` and ``offsite`` as directories."""
    for name in ("primary", "offsite"):
        (directory / name).mkdir()
    return make_demo_system(
        directory / "system",
        binaries=binaries(),
        replacing={
            f"s3://backups/lifeboat\n    connection: demo_{name}": f"file://{directory}/{name}\n    queue: here"
            for name in ("primary", "offsite")
        },
    )


class Line:
    """One system: ``server`` is where its connection leads, and may be changed to another one."""

    def __init__(self, directory: Path, place: Path, server: PostgresServer, system: DemoSystem) -> None:
        self.directory = directory
        self.place = place
        self.server = server
        self.system = system
        self.port: int | None = None
        self.repository = self.new_repository()
        self._number = itertools.count()

    def new_repository(self) -> SystemRepository:
        return SystemRepository(load_policy(self.system.policy), Outside(self._connection, lambda *_, **__: None))

    def _connection(self, name: str) -> Connection:
        password = self.server.passwords["lifeboat"]
        return Connection(name, "postgres", "127.0.0.1", self.port or self.server.port, "lifeboat", password)

    @property
    def source(self) -> PostgresSource:
        source = self.repository.policy.sources[SOURCE]
        assert isinstance(source, PostgresSource)
        return source

    @property
    def slot(self) -> str:
        return self.source.slot_name(self.repository.system, SOURCE)

    @property
    def journal(self) -> Journal:
        return self.repository.journal("primary", run="test", actor="a test")

    def work(self, kind: str, **more: Any) -> Work:
        return Work.new(kind, begun=utc_now(), tiers=("daily",), run=Run(command="test"), actor="a test", **more)

    def full(self, *, work: Work | None = None, tick: Tick = no_tick, **more: Any) -> Copy:
        work = work or self.work("full")
        return back_up_full(self.repository, SOURCE, self.source, work, self.journal, tick=tick, **more)

    def incremental(
        self, *, work: Work | None = None, tick: Tick = no_tick, source: PostgresSource | None = None
    ) -> Taken:
        work = work or self.work("incremental")
        return back_up_incremental(self.repository, SOURCE, source or self.source, work, self.journal, tick=tick)

    def verify(self, copy: Copy, target: str = "primary") -> Copy:
        verify(
            self.repository,
            SOURCE,
            target,
            [Point.of(copy)],
            self.journal,
            deep=False,
            passed=lambda _: None,
            tick=no_tick,
        )
        return copy

    def link(self) -> Copy:
        """An incremental that the next one may build upon."""
        taken = self.incremental()
        assert not taken.reason
        return self.verify(taken.copy)

    def wal(self, *, tick: Tick = no_tick) -> Collected:
        return collect_wal(self.repository, SOURCE, self.source, self.work("wal"), self.journal, tick=tick)

    def follow(
        self,
        lasting: timedelta | None,
        *,
        flush_every: timedelta = timedelta(seconds=1),
        tick: Tick = no_tick,
        **more: Any,
    ) -> Collected:
        work, stay = self.work("wal"), Stay(lasting, **more)
        return follow_wal(
            self.repository, SOURCE, self.source, work, self.journal, stay=stay, flush_every=flush_every, tick=tick
        )

    def carry(self, copy: Copy, target: str = "offsite") -> Copy:
        return copy_point(self.repository.target("primary"), self.repository.catalogue(target), copy)

    def events(self, kind: str) -> list[Event]:
        record = read_journal(self.repository.target("primary"), "demo", self.repository.trusted)
        return [event for event in record if isinstance(event, Event) and event.kind == kind]

    def offer(self, target: str = "primary") -> Offer:
        return read_offer(self.repository, SOURCE, target)

    def plan(self, moment: Moment, *, target: str = "primary", **more: Any) -> RestorePlan:
        return self.offer(target).plan(moment, **more)

    def request(self, *, target: str = "primary", tablespaces: Mapping[str, Path] | None = None) -> Request:
        into = self.place / f"restored-{next(self._number)}"
        return Request(target, into, self.server.binaries, tablespaces or {})

    def restore(
        self, moment: Moment | RestorePlan, request: Request | None = None, *, target: str = "primary", **more: Any
    ) -> Restored:
        plan = moment if isinstance(moment, RestorePlan) else self.plan(moment, target=target, **more)
        return restore(self.repository, plan, request or self.request(target=target))

    @contextmanager
    def opened(self, restored: Restored) -> Iterator[PostgresServer]:
        """A server on what was restored."""
        directory = self.directory / f"again-{next(self._number)}"
        server = PostgresServer.on_data(
            directory,
            restored.into,
            passwords=self.server.passwords,
            major=self.server.major,
            settings={"archive_mode": "off", "fsync": "off"},
        )
        with server:
            yield server
        remove_server_directory(directory)

    def ask(self, restored: Restored, statement: str, **more: Any) -> list[tuple[Any, ...]]:
        """Open what was restored, and ask it one thing."""
        with self.opened(restored) as server:
            return server.run_sql(statement, **more)


def prepare(server: PostgresServer) -> None:
    """The backup role, and a ledger."""
    create_backup_role(server)
    server.run_sql("CREATE TABLE ledger (n int PRIMARY KEY)")


def commit(server: PostgresServer, *numbers: int) -> list[Any]:
    """One transaction for each number; returns the moments just after each commit, by the server's clock."""
    with server.connect() as session:
        moments = []
        for number in numbers:
            session.execute("INSERT INTO ledger VALUES (%s)", (number,))
            row = session.execute("SELECT clock_timestamp()").fetchone()
            assert row is not None
            moments.append(row[0])
    return moments


def ledger(rows: list[tuple[Any, ...]]) -> list[int]:
    return sorted(number for (number,) in rows)
