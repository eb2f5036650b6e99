"""A source with a past: a full, WAL behind it, and what its archives and exports of past moments are asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from lifeboat.backup.steps import back_up
from lifeboat.outside import Outside, utc_now
from lifeboat.policy.naming import Tier
from lifeboat.policy.slots import Slot, slot_of
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.exports.reading import TableReader, read_records, table_file
from lifeboat.postgres.logical_details import GLOBALS, logical_details
from lifeboat.postgres.logical_verification import read_contents
from lifeboat.postgres.restore_sources import origin_of, read_small
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from sandbox.demo_system import DemoSystem
from sandbox.postgres import PostgresServer
from tests.recovery.line import SOURCE, Line, system_in

Tick = Callable[[], None]
WEEKLY = '      weekly:\n        schedule: "0 1 * * 0"\n        retention: 92d\n'
EXPORT = '      export:\n        schedule: "0 3 * * *"\n        retention: 30d\n'
TESTS = '\ntests:\n  schedule: "0 6 * * 1#1"\n  scratch: {scratch}\n\nalerts:\n'


def past_system(directory: Path, scratch: Path) -> DemoSystem:
    """The demo's system with an export, and scratch servers in a directory of their own."""
    system = system_in(directory)
    text = system.policy.read_text()
    text = text.replace(WEEKLY, WEEKLY + EXPORT).replace("\nalerts:\n", TESTS.format(scratch=scratch))
    system.policy.write_text(text)
    return system


@dataclass
class Past:
    """What a line's archives and exports of past moments are."""

    line: Line
    moments: dict[str, datetime] = field(default_factory=dict)

    def repository(self, later: timedelta = timedelta()) -> SystemRepository:
        """By a clock that is ahead."""
        repository = self.line.new_repository()
        outside: Outside = repository.outside
        repository.outside = replace(outside, clock=lambda: utc_now() + later)
        return repository

    def slot(self, moment: datetime) -> Slot:
        return slot_of(None, self.line.repository.policy.zone, moment)

    def work(self, tier: Tier, past: Slot | None, *only: str) -> Work:
        kind = "export" if tier is Tier.EXPORT else "logical"
        return Work.new(
            kind, begun=utc_now(), tiers=(tier.value,), run=Run(command="test"), actor="a test", past=past, only=only
        )

    def make(
        self,
        tier: Tier,
        moment: datetime | Slot | None,
        *only: str,
        later: timedelta = timedelta(),
        tick: Tick = no_tick,
    ) -> Copy:
        """A recovery point of the tier for a past moment; for now without one."""
        repository = self.repository(later)
        slot = self.slot(moment) if moment is not None else None
        journal = repository.journal("primary", run="test", actor="a test")
        work = self.work(tier, slot, *only)
        done = back_up(repository, SOURCE, tier, work, journal, progress=lambda *_: None, tick=tick)
        return done.copies[0]

    def archived(self, copy: Copy) -> dict[str, int | None]:
        """The rows of each table of an archive's database `postgres`."""
        [database] = [one for one in logical_details(copy.manifest).databases if one.name == "postgres"]
        origin = origin_of(self.line.repository, "primary", copy)
        return {table.name: table.rows for table in read_contents(copy, database, origin, lambda _: None).tables}

    def globals(self, copy: Copy) -> str:
        return read_small(self.line.repository, "primary", copy, GLOBALS).decode()

    def exported(self, copy: Copy, table: str = "ledger") -> list[int]:
        """The numbers in an exported table."""
        origin = origin_of(self.line.repository, "primary", copy)
        for record in read_records(copy.manifest, origin):
            file = record.file("json")
            if record.name == table and file is not None:
                with table_file(copy.manifest, origin, file) as content:
                    return sorted(int(str(row[0])) for row in TableReader(record, file).rows(content))
        raise AssertionError(f"no {table} among {[record.path for record in read_records(copy.manifest, origin)]}")

    def committed(self, target: str = "primary") -> list[Copy]:
        points = self.line.repository.catalogue(target).recovery_points(SOURCE).copies
        return [copy for copy in points if copy.manifest.kind in ("logical", "export")]


def patiently_committed(server: PostgresServer, number: int) -> datetime:
    """Insert a row, whatever the role's own time-out is; returns the moment just after its commit."""
    with server.connect(options="-c statement_timeout=0") as session:
        session.execute("INSERT INTO ledger VALUES (%s)", (number,))
        row = session.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def left_in(place: Path) -> list[str]:
    return [path.name for path in place.iterdir()]


def servers_in(place: Path) -> list[int]:
    """The processes that hold a file below a directory: a server that somebody forgot."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        told = " ".join([process.info["cwd"] or "", *(process.info["cmdline"] or ())])
        if str(place) in told and process.pid != os.getpid():
            found.append(process.pid)
    return found
