"""What is played on the stage: systems of many kinds, runs that go on side by side, and what befalls some of them."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import psutil

from lifeboat.backup.steps import Point, verify
from lifeboat.outside import utc_now
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.full import back_up_full
from lifeboat.postgres.wal_collection import collect_wal
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import Work
from sandbox.accounts import SandboxError
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import binaries
from sandbox.postgres_template import Template
from sandbox.processes import is_alive, wait_until
from tests.conftest import Clock
from tests.dags.stage import BUCKET, NEVER, SETTING, SOURCE, Client, Stage, System
from tests.damaged_page import make_rotten
from tests.repository.world import World

DUMP = "dump_compress_upload"
PAST = datetime(2026, 3, 1, tzinfo=UTC)
SLOW = "    max_rate: 512 KiB/s"
A_MEGABYTE = 1_000_000
SETTINGS = f"""\
  settings:
    kind: configuration
    queue: here
    files: ["{{file}}"]
    watch: true
    airflow_connections: [alpha_database]
    airflow_variables: [stage_settings]
    tiers:
      change: {{{{schedule: "{NEVER}", retention: 30d, retries: 0}}}}
      daily: {{{{schedule: "{NEVER}", retention: 30d, retries: 0}}}}
alerts:
"""
TOGETHER = ("weekly", "monthly")
"""The tiers of `tiered` that the clock begins at one moment."""
TO_BE_READ = timedelta(seconds=45)
"""How long Airflow may take to notice a new schedule; more than that, and another moment is chosen."""
BEFALLEN = ("killed", "cleared", "silent", "marked")
"""The systems whose first run something happens to in mid-backup."""


@dataclass
class Seen:
    """What was seen when something befell a run."""

    process: psutil.Process
    attempts: list[Path] = field(default_factory=list)
    moment: float = field(default_factory=time.monotonic)


@dataclass
class Play:
    """The stage, the runs that were begun on it by name, and what was seen while they went on."""

    stage: Stage
    client: Client
    runs: dict[str, tuple[str, str]] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    _due: datetime = PAST

    def system(self, name: str) -> System:
        return self.stage.systems[name]

    def begin(self, name: str, dag: str, conf: dict[str, Any] | None = None, **more: Any) -> None:
        """Start a run."""
        self.runs[name] = (dag, self.client.trigger(dag, conf, **more))

    def end(self, name: str) -> str:
        """Wait for a run's end, and return its state."""
        return self.client.wait(*self.runs[name], within=280)

    def states(self, name: str) -> dict[str, str | None]:
        """The states of a run's tasks."""
        return self.client.task_states(*self.runs[name])

    def log(self, name: str, task: str, **more: Any) -> str:
        """What a task logged."""
        return self.client.log(*self.runs[name], task, **more)

    def worker(self, name: str) -> psutil.Process:
        """The process of a run's task that is running.

        Known by its title: a task's process lets nobody but root see what it has open.
        """
        [task] = [task for task in self.client.tasks(*self.runs[name]) if task["state"] == "running"]
        for process in self.stage.processes():
            with suppress(psutil.Error):
                if f"airflow worker -- {task['id']}" in " ".join(process.cmdline()):
                    return process
        raise AssertionError(f"no process of Airflow runs {task['task_id']} of {name}")

    def let_the_clock_begin(self, system: System, *tiers: str) -> None:
        """Let a schedule begin a run of each tier within two minutes, all at the same moment."""
        self._due = (datetime.now(UTC) + TO_BE_READ).replace(second=0) + timedelta(minutes=1)
        text, cron = system.policy.read_text(), f"{self._due:%-M %-H} * * *"
        for tier in tiers:
            text = re.sub(rf'(?m)^( +{tier}: \{{)(schedule: "[^"]*", )?', rf'\1schedule: "{cron}", ', text)
        system.rewrite(text)

    def begun_by_the_clock(self, system: System, *tiers: str) -> None:
        """Wait for the runs that a schedule begins; they are called by their tiers."""
        begun: dict[str, list[dict[str, Any]]] = {}

        def all_begun() -> bool:
            for tier in tiers:
                runs = self.client.runs(system.dag(tier))
                begun[tier] = [run for run in runs if run["run_type"] == "scheduled"]
            if not any(begun.values()) and datetime.now(UTC) > self._due + TO_BE_READ:
                self.let_the_clock_begin(system, *tiers)  # Airflow read it when the moment had passed
            return all(begun.values())

        wait_until(all_begun, within=280, what=f"the clock has begun {' and '.join(tiers)}", every=0.5)
        for tier, runs in begun.items():
            self.runs[tier] = (system.dag(tier), str(runs[-1]["dag_run_id"]))

    def backfill(self, system: System, tier: str, **moments: datetime) -> None:
        """Backfill a tier's runs of these moments, which must be of one minute in several hours; call them by their
        names."""
        dates = sorted(moments.values())
        cron = f"{dates[0]:%-M} {','.join(f'{date:%-H}' for date in dates)} * * *"
        text, dag = system.policy.read_text(), system.dag(tier)
        system.rewrite(re.sub(rf'(?m)^( +{tier}: \{{)(schedule: "[^"]*", )?', rf'\1schedule: "{cron}", ', text))

        def known() -> bool:
            with suppress(SandboxError):  # It has no schedule at all yet.
                return self.client.backfill_dates(dag, dates[0], dates[-1]) == dates
            return False

        wait_until(known, within=280, what=f"Airflow knows the schedule of {dag}", every=1)
        self.client.backfill(dag, dates[0], dates[-1])
        runs = [run for run in self.client.runs(dag) if run["run_type"] == "backfill"]
        for name, moment in moments.items():
            [run] = [run for run in runs if datetime.fromisoformat(run["logical_date"]) == moment]
            self.runs[name] = (dag, str(run["dag_run_id"]))

    def uploads(self) -> list[Any]:
        """The multipart uploads under way in moto's bucket."""
        return list(s3(self.stage).list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))


def s3(stage: Stage) -> Any:
    """A client of moto."""
    connection = stage.moto.connection("any")
    return boto3.client(
        "s3",
        endpoint_url=stage.moto.endpoint,
        region_name="us-east-1",
        aws_access_key_id=connection.login,
        aws_secret_access_key=connection.password,
    )


@contextmanager
def played(directory: Path, template: Template) -> Iterator[Play]:
    """Everything is up, the runs have begun, and something has befallen those that it is to befall."""
    stage = Stage(directory, template)
    try:
        _make_systems(stage)
        stage.start()
        s3(stage).create_bucket(Bucket=BUCKET)
        stage.wait_until_ready()
        with stage.client() as client:
            play = Play(stage, client)
            play.let_the_clock_begin(play.system("tiered"), *TOGETHER)
            for name in BEFALLEN:
                play.begin(name, play.system(name).daily)
            play.begin("followed", play.system("followed").wal)
            _meddle(play)
            _begin_the_others(play)
            yield play
    finally:
        stage.stop()


def _s3_target(name: str, prefix: str, connection: str) -> str:
    return f"  {name}:\n    url: s3://{BUCKET}/{prefix}\n    connection: {connection}\n"


def _make_systems(stage: Stage) -> None:
    stage.system(
        "alpha",
        targets=stage.directory_target("alpha", "near") + _s3_target("offsite", "alpha", "stage_offsite"),
        connections={"stage_offsite": stage.offsite.airflow_connection_uri()},
    )
    (stage.directory / "alpha.conf").write_text(SETTING)
    stage.systems["alpha"].change("alerts:\n", SETTINGS.format(file=stage.directory / "alpha.conf"))
    stage.system(
        "remote",
        targets=stage.directory_target("remote", "near") + _s3_target("offsite", "remote", "stage_far"),
        connections={"stage_far": stage.far.airflow_connection_uri()},
    )
    marked = stage.system(
        "marked",
        targets=_s3_target("primary", "marked", "stage_moto"),
        source="    max_rate: 4 MiB/s",
        connections={"stage_moto": stage.moto.airflow_connection_uri()},
    )
    _fill_with_noise(marked.server, megabytes=64)
    stage.system("killed", source=SLOW, tier="retries: 1")
    stage.system("cleared", source=SLOW, routed=True)
    stage.system("silent", source=SLOW, tier="retries: 0, timeout: 60s", routed=True)
    followed = stage.system("followed")
    followed.change(
        "wal: {retention: 30d", f'wal: {{mode: follow, flush_every: 10s, schedule: "{NEVER}", retention: 30d'
    )
    stage.system("steady", source="    max_rate: 2 MiB/s")
    _lose_wal(stage.system("gapped", source="    max_rate: 2 MiB/s"))
    make_rotten(stage.system("damaged", tier="retries: 2").server)
    nowhere = _s3_target("primary", "q", "not_there") + _s3_target("offsite", "q", "not_there_either")
    stage.system("quiet", targets=nowhere, connected=False)
    stage.system("half", targets=nowhere)
    _make_tiered(stage)
    _make_recalled(stage)
    for name, days in (("aged", 4), ("hoarded", 6)):
        _let_it_age(stage.system(name, connected=False), days)


def _let_it_age(system: System, days: int) -> None:
    """Dailies of so many days, forty days ago, and one of today."""
    world = World(system.policy, Clock(utc_now() - timedelta(days=40)), {}, system=system.name)
    for day in range(days + 1):
        if day == days:
            world.clock.now = utc_now() - timedelta(hours=2)
        made = world.point(streams={"base.tar": b"the tables"})
        journal = world.repository().journal("primary", run=f"day-{day}", actor="a test")
        journal.write(
            "verified",
            source=SOURCE,
            recovery_point=made.manifest.recovery_point,
            target="primary",
            method="read",
            manifest=made.sha256,
        )
        world.clock.advance(hours=23)


def _make_tiered(stage: Stage) -> None:
    tiers = ("incremental", "weekly", "monthly", "export")
    lines = "".join(f"      {tier}: {{retention: 90d, retries: 0}}\n" for tier in tiers)
    source = f"    checkpoint: fast\n    binaries: {binaries()}"
    system = stage.system("tiered", source=source, tiers=lines)
    system.change("alerts:\n", f'tests: {{schedule: "{NEVER}"}}\ndrills: {{schedule: "{NEVER}"}}\nalerts:\n')
    server = system.server
    for table in ("invoices", "users"):
        server.run_sql(f"CREATE TABLE {table} AS SELECT generate_series(1, 1000) AS n")


def _make_recalled(stage: Stage) -> None:
    """A full and a row behind it; what comes after the next whole minute comes later."""
    source = f"    checkpoint: fast\n    binaries: {binaries()}"
    system = stage.system("recalled", source=source, tiers="      export: {retention: 90d, retries: 0}\n")
    repository, postgres = system.repository, system.repository.policy.sources[SOURCE]
    assert isinstance(postgres, PostgresSource)
    system.server.run_sql("INSERT INTO ledger VALUES (1)")
    work = Work.new("full", begun=utc_now(), tiers=("daily",), run=Run(command="test"), actor="a test")
    journal = repository.journal("primary", run="before", actor="a test")
    back_up_full(repository, SOURCE, postgres, work, journal)
    system.server.run_sql("INSERT INTO ledger VALUES (2)")


def collect(system: System) -> None:
    """Collect the WAL of a system, as its DAG would."""
    source = system.repository.policy.sources[SOURCE]
    assert isinstance(source, PostgresSource)
    work = Work.new("wal", begun=utc_now(), tiers=("wal",), run=Run(command="test"), actor="a test")
    repository = system.repository
    collect_wal(repository, SOURCE, source, work, repository.journal("primary", run="wal", actor="a test"))


def _fill_with_noise(server: PostgresServer, *, megabytes: int) -> None:
    """Rows that no compression makes smaller."""
    with server.connect() as session:
        session.execute("CREATE TABLE noise (piece bytea STORAGE EXTERNAL)")
        for _ in range(megabytes):
            session.execute("INSERT INTO noise VALUES (%s)", [os.urandom(1024 * 1024)])


def _lose_wal(system: System) -> None:
    """A full and a WAL run, and WAL behind them that the server no longer has."""
    repository = system.repository
    source = repository.policy.sources[SOURCE]
    assert isinstance(source, PostgresSource)
    journal = repository.journal("primary", run="before", actor="a test")
    work = partial(Work.new, begun=utc_now(), tiers=("daily",), run=Run(command="test"), actor="a test")
    full = back_up_full(repository, SOURCE, source.model_copy(update={"max_rate": None}), work("full"), journal)
    collect_wal(repository, SOURCE, source, work("wal"), journal)
    points = [Point.of(full)]
    verify(repository, SOURCE, "primary", points, journal, deep=False, passed=lambda _: None, tick=lambda: None)
    server = system.server
    server.run_sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    for _ in range(8):
        server.run_sql("INSERT INTO ledger SELECT coalesce(max(n), 0) + 1 FROM ledger")
        server.run_sql("SELECT pg_switch_wal()")
    server.run_sql("CHECKPOINT")


def _begin_the_others(play: Play) -> None:
    alpha = play.system("alpha")
    play.begin("first", alpha.daily, {"deep_verification": True, "note": "before the move"})
    play.begin("second", alpha.daily, {"targets": ["near"]}, logical_date=PAST)
    play.begin("wal", alpha.wal)
    # One after the other: no two runs of one DAG go on at once.
    play.begin("settings", "alpha_settings_change")
    play.begin("settings unchanged", "alpha_settings_change")
    # Its off-site target is not started yet: it is away.
    play.begin("target away", play.system("remote").daily)
    for name in ("quiet", "half"):
        play.begin(f"{name} daily", play.system(name).daily)
        play.begin(f"{name} wal", play.system(name).wal)
    play.begin("damaged", play.system("damaged").daily)
    tiered = play.system("tiered")
    play.begin("full", tiered.daily)
    play.begin("export", tiered.dag("export"))
    play.begin("export of a table", tiered.dag("export"), {"tables": ["public.users"]})
    for name in ("aged", "hoarded"):
        play.begin(f"{name} dry", play.system(name).cleanup, {"dry_run": True})
        play.begin(f"{name} clean", play.system(name).cleanup)
    play.client.pause(play.system("gapped").daily)
    play.begin("gap found", play.system("gapped").wal)


def _meddle(play: Play) -> None:
    """Each as soon as its upload is under way, whichever that is first."""
    acts: dict[str, tuple[Callable[[], bool], Callable[[Play, Seen], None]]] = {
        "killed": (lambda: _streaming(play.system("killed")), _kill),
        "cleared": (lambda: _streaming(play.system("cleared")), _clear),
        "silent": (lambda: _streaming(play.system("silent")), _fall_silent),
        "marked": (lambda: bool(play.uploads()), _mark_failed),
        "followed": (lambda: len(play.system("followed").wal_runs()) >= 2, _mark_following_failed),
    }
    end = time.monotonic() + 200
    numbers = itertools.count()
    while acts:
        play.system("followed").server.run_sql("INSERT INTO ledger VALUES (%s)", [next(numbers)])
        for name, (ready, act) in list(acts.items()):
            if ready():
                play.seen[name] = Seen(play.worker(name))
                act(play, play.seen[name])
                del acts[name]
        if acts and time.monotonic() > end:
            raise AssertionError(f"not yet in mid-upload: {', '.join(acts)}: {[play.states(name) for name in acts]}")
        time.sleep(0.3)


def _streaming(system: System) -> bool:
    return system.streamed() > A_MEGABYTE and bool(system.attempts())


def _kill(play: Play, seen: Seen) -> None:
    system = play.system("killed")
    seen.process.send_signal(signal.SIGKILL)
    seen.attempts = system.attempts()
    system.change(f"{SLOW}\n", "")  # the next try may take no time


def _clear(play: Play, seen: Seen) -> None:
    system = play.system("cleared")
    assert system.route is not None
    system.route.fall_silent()
    seen.attempts = system.attempts()
    system.change(f"{SLOW}\n", "")
    play.client.clear_task(*play.runs["cleared"], DUMP)
    # Its next try begins at once, and must find the way open.
    wait_until(lambda: not is_alive(seen.process), within=30, what="the cleared task has ended", every=0.1)
    system.route.mend()


def _fall_silent(play: Play, _: Seen) -> None:
    route = play.system("silent").route
    assert route is not None
    route.fall_silent()


def _mark_following_failed(play: Play, _: Seen) -> None:
    play.client.mark_task(*play.runs["followed"], "collect", "failed")


def _mark_failed(play: Play, _: Seen) -> None:
    play.client.mark_task(*play.runs["marked"], DUMP, "failed")
