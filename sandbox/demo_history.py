"""The demo's made-up history: real backups of a small database, made in a minute as if it had been two years."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from croniter import croniter

from lifeboat.backup.kinds import kind_of
from lifeboat.backup.steps import Point, back_up, verify
from lifeboat.connections import outside_from
from lifeboat.outside import Outside
from lifeboat.policy.loading import load_policy
from lifeboat.policy.model import LoadedPolicy, Policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.together import LONG_TIERS, carried
from lifeboat.repository.copying import copy
from lifeboat.repository.layout import RecoveryPointId
from lifeboat.repository.manifest import Run
from lifeboat.repository.retention.decisions import Action
from lifeboat.repository.retention.planning import plan_source
from lifeboat.repository.retention.points import HeldPoint, Role, TargetState
from lifeboat.repository.retention.rules import rules_of
from lifeboat.repository.system import PRIMARY, SystemRepository, Work
from lifeboat.targets.target import Target
from sandbox.demo_system import DemoSystem
from sandbox.postgres import PostgresServer

SYSTEM, SOURCE, DATABASE = "demo_history", "database", "ledger"
ACTOR = "the sandbox's demo"


@dataclass(frozen=True)
class Due:
    """A backup that the schedules want: when, for which tier, and for which others it counts as well."""

    moment: datetime
    tier: Tier
    tiers: tuple[Tier, ...]

    @property
    def day(self) -> date:
        """The day that it is due on."""
        return self.moment.date()


def due_between(source: PostgresSource, begin: datetime, end: datetime) -> list[Due]:
    """What the tiers' schedules want from ``begin`` on and before ``end``; what is due together is made once."""
    found: dict[tuple[date, tuple[Tier, ...]], Due] = {}
    for tier in (*LONG_TIERS, *(one for one in source.tiers if one not in LONG_TIERS)):
        if tier not in source.tiers:
            continue
        for moment in _times(source.tiers[tier].schedule, begin, end):
            due = Due(moment, tier, carried(source, tier, moment.date()))
            found.setdefault((due.day, due.tiers), due)
    return sorted(found.values(), key=lambda due: due.moment)


def _times(schedule: str | None, begin: datetime, end: datetime) -> Iterator[datetime]:
    if schedule is None:
        return
    line = croniter(schedule, begin - timedelta(seconds=1))
    while (moment := line.get_next(datetime)) < end:
        yield moment


def left_by_cleanup(policy: Policy, source: str, dues: Iterable[Due], at: datetime) -> dict[Due, tuple[str, ...]]:
    """Which of the backups that were made until ``at`` a cleanup at that moment leaves, and on which targets.

    The product's own plan decides. What goes would have to be made only to be removed again.
    """
    names = {str(RecoveryPointId(due.moment, due.tier.value, f"{number:04x}")): due for number, due in enumerate(dues)}
    points = [
        HeldPoint(name, "logical", Role.ALONE, tuple(map(str, due.tiers)), due.moment, due.moment, good=True)
        for name, due in names.items()
        if due.moment <= at
    ]
    states = [TargetState(target, points) for target in policy.targets]
    left: dict[Due, tuple[str, ...]] = {}
    for one in plan_source(states, rules_of(policy, source), at):
        if one.action is Action.STAYS:
            due = names[one.point.recovery_point]
            left[due] = (*left.get(due, ()), one.target)
    return left


class _Remembering:
    """A target whose small objects are read once: they are written once and never changed, and each backup reads what
    those before it left."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._read: dict[str, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def read(self, key: str, **more: Any) -> bytes:
        if key not in self._read:
            self._read[key] = self._target.read(key, **more)
        return self._read[key]


class _QuickRepository(SystemRepository):
    def target(self, name: str) -> Target:
        if name not in self._targets:
            remembering: Any = _Remembering(super().target(name))
            self._targets[name] = remembering
        return self._targets[name]


@dataclass
class History:
    """The system with the history, and the clock that its making follows.

    Attributes:
        server: with the database ``ledger``, one row for each day.
        connections: as ``AIRFLOW_CONN_…`` variables.
        first: the first day in it.
        now: what its clock says while the history is made.
        made: the moments of the recovery points that were made.
    """

    system: DemoSystem
    server: PostgresServer
    connections: Mapping[str, str]
    first: date
    now: datetime
    made: list[datetime] = field(default_factory=list)

    @property
    def loaded(self) -> LoadedPolicy:
        """Its policy, read anew."""
        return load_policy(self.system.policies / f"{SYSTEM}.yaml")

    @property
    def source(self) -> PostgresSource:
        """Its database, as the policy has it."""
        source = self.loaded.policy.sources[SOURCE]
        assert isinstance(source, PostgresSource)
        return source

    def repository(self, clock: Callable[[], datetime] | None = None, *, removing: bool = False) -> SystemRepository:
        """The system as the command line would open it; with another clock than the present, where one is given."""
        return SystemRepository(self.loaded, self._outside(clock), removing=removing)

    def roles(self) -> Mapping[str, Role]:
        """What each kind of recovery point is to the others."""
        return kind_of(self.source.kind).roles()

    def _outside(self, clock: Callable[[], datetime] | None) -> Outside:
        return outside_from(self.connections) if clock is None else outside_from(self.connections, clock=clock)

    def make(self, wanted: Mapping[Due, tuple[str, ...]], progress: Callable[[str], None]) -> None:
        """Make backups one after the other, each at its own moment: back up, verify, copy, verify."""
        repository = _QuickRepository(self.loaded, self._outside(lambda: self.now))
        for due in sorted(wanted, key=lambda due: due.moment):
            progress(f"{due.day}, {len(self.made)} made")
            self.now = due.moment
            self._let_the_database_be_of(due.moment)
            self._back_up(repository, due, wanted[due])
            self.made.append(due.moment)

    def _let_the_database_be_of(self, moment: datetime) -> None:
        """Fill the ledger up to a day, and set the clock of that database: it says which moment a backup is of."""
        self.server.run_sql(
            "INSERT INTO days SELECT day, 1000 + hashint4(day - date '2000-01-01') %% 500 FROM (SELECT day::date FROM "
            "generate_series((SELECT max(day) + 1 FROM days), %s::date, interval '1 day') AS day) AS days",
            [moment.date()],
            database=DATABASE,
        )
        set_clock(self.server, moment)

    def _back_up(self, repository: SystemRepository, due: Due, targets: tuple[str, ...]) -> None:
        source = repository.policy.sources[SOURCE]
        work = Work.new(
            kind_of(source.kind).point_kind(due.tier, source),
            begun=self.now,
            tiers=(due.tier.value,),
            run=Run(command="make demo"),
            actor=ACTOR,
            due=due.day,
        )
        journal = repository.journal(PRIMARY, run="history", actor=ACTOR)
        done = back_up(repository, SOURCE, due.tier, work, journal, progress=_nothing, tick=_nothing)
        (original,) = done.copies
        point = Point.of(original)
        for target in targets:
            if target != PRIMARY:
                journal = repository.journal(target, PRIMARY, run="history", actor=ACTOR)
                copied = copy(repository.target(PRIMARY), repository.catalogue(target), original)
                journal.write(
                    "copy_committed", source=SOURCE, recovery_point=point.id, target=target, manifest=copied.sha256
                )
            verify(repository, SOURCE, target, [point], journal, deep=False, passed=_nothing, tick=_nothing)


def _nothing(*_: object) -> None:
    """Nobody looks."""


def begin_ledger(server: PostgresServer, first: date) -> None:
    """Make the database, with its first day in it."""
    server.run_sql(f"CREATE DATABASE {DATABASE}")
    server.run_sql("CREATE TABLE days (day date PRIMARY KEY, revenue int NOT NULL)", database=DATABASE)
    server.run_sql("INSERT INTO days VALUES (%s, 1000)", [first], database=DATABASE)


def set_clock(server: PostgresServer, moment: datetime) -> None:
    """Let the ledger's database say that it is another moment: PostgreSQL has no clock of its own to set."""
    text = moment.astimezone(UTC).isoformat()
    server.run_sql(
        "CREATE OR REPLACE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz "
        f"LANGUAGE sql VOLATILE AS $$ SELECT timestamptz '{text}' $$",
        database=DATABASE,
    )
