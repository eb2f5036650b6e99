"""How one runs each tier, and what stays of a run: so that one test serves them all.

A new tier joins the tests of faults by one more line in ``WAYS``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from lifeboat.backup.steps import Point, back_up, verify
from lifeboat.outside import Connection, Outside, utc_now
from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.deep_verification import verify_chain
from lifeboat.postgres.full import BASE_BACKUP_SLOT
from lifeboat.postgres.kind import PostgresKind
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import attempt_name
from lifeboat.repository.manifest import Run
from lifeboat.repository.sequence import sequence_findings
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.targets.target import Readable
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until

SOURCE = "database"
Tick = Callable[[], None]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Way:
    """One kind of run: its tier, and the kind of recovery point that it makes."""

    tier: Tier
    kind: str

    def __str__(self) -> str:
        return self.tier.value


FULL = Way(Tier.DAILY, "full")
INCREMENTAL = Way(Tier.INCREMENTAL, "incremental")
LOGICAL = Way(Tier.WEEKLY, "logical")
LONG_FULL = Way(Tier.YEARLY, "full")
EXPORT = Way(Tier.EXPORT, "export")
WAL = Way(Tier.WAL, "wal")
WAYS = (FULL, INCREMENTAL, LOGICAL, LONG_FULL, EXPORT, WAL)
PHYSICAL = (FULL, INCREMENTAL, LONG_FULL, WAL)

MORE_TIERS = """\
      yearly: {schedule: "0 1 1 1 *", retention: 7 years, method: physical}
      export: {schedule: "0 3 * * *", retention: 30d}
"""


class Gate:
    """A target before which one object waits until it is let through; all others pass."""

    def __init__(self, target: Any, waits: Callable[[str], bool]) -> None:
        self._target = target
        self._waits = waits
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def put(self, key: str, body: Readable, **more: Any) -> Any:
        self._look(key)
        return self._target.put(key, body, **more)

    def put_new(self, key: str, data: bytes, **more: Any) -> None:
        self._look(key)
        self._target.put_new(key, data, **more)

    def _look(self, key: str) -> None:
        if self._waits(key) and not self.reached.is_set():
            self.reached.set()
            assert self.let_go.wait(120), f"nobody let {key} through"


def an_object(key: str) -> bool:
    """The first object of a run, while it is stored."""
    return key.endswith(".enc")


def the_signature(key: str) -> bool:
    """Everything is stored and checked, and the commit mark is about to be written."""
    return key.endswith("manifest.json.sig")


class Protected:
    """One system on targets that are directories; ``port`` may lead to its server on another way."""

    def __init__(self, policy: Path, server: PostgresServer, roots: Mapping[str, Path]) -> None:
        self.policy = policy
        self.server = server
        self.roots = roots
        self.port: int | None = None
        self.ahead = timedelta()
        self._number = 0
        # A server goes with the thread that started it, and some callbacks run on threads that soon end.
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="keeper")

    def repository(self, *, bend: Mapping[str, str] | None = None) -> SystemRepository:
        """The system as one worker opens it, its policy's text bent."""
        text = self.policy.read_text(encoding="utf-8")
        for old, new in (bend or {}).items():
            assert old in text
            text = text.replace(old, new)
        bent = self.policy.parent.parent / "bent" / self.policy.name
        bent.parent.mkdir(exist_ok=True)
        bent.write_text(text, encoding="utf-8")
        return SystemRepository(
            load_policy(bent if bend else self.policy),
            Outside(self._connection, lambda *_, **__: None, clock=lambda: utc_now() + self.ahead),
        )

    def _connection(self, name: str) -> Connection:
        password = self.server.passwords["lifeboat"]
        return Connection(name, "postgres", "127.0.0.1", self.port or self.server.port, "lifeboat", password)

    def journal(self, repository: SystemRepository, *others: str) -> Journal:
        return repository.journal("primary", *others, run="test", actor="a test")

    def work(self, way: Way, *, due: date | None = None) -> Work:
        return Work.new(
            way.kind,
            begun=utc_now() + self.ahead,
            tiers=(way.tier.value,),
            run=Run(command="test"),
            actor="a test",
            due=due,
        )

    def run(
        self,
        way: Way,
        work: Work | None = None,
        *,
        repository: SystemRepository | None = None,
        tick: Tick = no_tick,
        progress: Progress = lambda _done, _total: None,
    ) -> Copy:
        """Run a tier as its DAG does; returns the recovery point that it made or found."""
        repository = repository or self.repository()
        work = work or self.work(way)
        done = back_up(repository, SOURCE, way.tier, work, self.journal(repository), progress=progress, tick=tick)
        assert not done.alarm
        copy = done.copies[-1]
        assert copy.manifest.kind == way.kind, done.message
        return copy

    def copies(self, way: Way, target: str = "primary") -> list[Copy]:
        """What is committed of a tier's kind, oldest first."""
        catalogue = self.repository().catalogue(target)
        if way.kind == "wal":
            return list(catalogue.wal(SOURCE).copies)
        return catalogue.recovery_points(SOURCE).of_kind(way.kind)

    def verified(self, copy: Copy) -> Copy:
        """Insist on every byte of a copy and journal it; returns the copy."""
        repository = self.repository()
        points, journal = [Point.of(copy)], self.journal(repository)
        verify(repository, SOURCE, "primary", points, journal, deep=True, passed=lambda _: None, tick=no_tick)
        return copy

    def proven(self, way: Way, copy: Copy) -> None:
        """The copy is good to its last byte, and the row of its kind has no hole and no double."""
        PostgresKind().verify_deep(self.repository(), "primary", copy, passed=lambda _: None, tick=no_tick)
        assert sequence_findings(self.copies(way)) == []
        if way.kind == "wal":
            assert verify_chain(self.repository(), "primary", SOURCE) == []

    def change(self) -> None:
        """Something new for every tier to bring."""
        self._number += 1
        self.server.run_sql("INSERT INTO ledger VALUES (%s)", [self._number])
        self.server.run_sql("UPDATE noise SET n = -n")

    def crash(self) -> None:
        """The server dies as by a loss of power, and is back before anybody looks."""
        self._keeper.submit(self.server.kill).result(60)
        self._keeper.submit(self.server.start).result(60)

    def lose_sessions(self) -> None:
        """The server takes the worker for dead, and ends its sessions."""
        self.server.run_sql(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE usename = 'lifeboat' AND pid <> pg_backend_pid()"
        )

    def holds_nothing(self) -> bool:
        """Whether the server has no session and no temporary slot of ours."""
        sessions = "SELECT 1 FROM pg_stat_activity WHERE usename = 'lifeboat'"
        slots = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s"
        return not self.server.run_sql(sessions) and not self.server.run_sql(slots, [BASE_BACKUP_SLOT])

    def insist_on_nothing_left(self) -> None:
        wait_until(self.holds_nothing, within=30, what="the server holds nothing of ours")

    @contextmanager
    def at_the_gate(
        self, way: Way, work: Work, waits: Callable[[str], bool]
    ) -> Iterator[tuple[Gate, Future[Copy | BaseException]]]:
        """A run on a thread of its own that has come to the gate; at the end it is let through and has ended."""
        repository = self.repository()
        gate = Gate(repository.target("primary"), waits)
        repository._targets["primary"] = gate  # type: ignore[assignment]
        with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
            running: Future[Copy | BaseException] = pool.submit(self._outcome, way, work, repository)
            try:
                wait_until(
                    lambda: gate.reached.is_set() or running.done(), within=60, what="the run has come to the gate"
                )
                assert gate.reached.is_set(), running.result()
                yield gate, running
            finally:
                gate.let_go.set()

    def _outcome(self, way: Way, work: Work, repository: SystemRepository) -> Copy | BaseException:
        try:
            return self.run(way, work, repository=repository)
        except BaseException as failure:
            return failure


def retry_of(work: Work) -> Work:
    """The same recovery point, tried again."""
    return replace(work, attempt=attempt_name(2, "0badc0de"))


class Once:
    """A progress that does something once, when the first bytes have come."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self.done = False

    def __call__(self, done: int, _total: int) -> None:
        if done > 0 and not self.done:
            self.done = True
            self._act()
