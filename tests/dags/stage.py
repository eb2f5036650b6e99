"""A stage for DAG runs: one Airflow, a Slack receiver, off-site S3 servers, and systems with a small database each."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import psutil

from lifeboat.connections import outside_from
from lifeboat.policy.loading import load_policy
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.key_making import new_break_glass_pair, new_local_key, new_signing_pair, write_secret
from sandbox.airflow import USER, AirflowSandbox
from sandbox.airflow_client import AirflowClient
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role, let_read_everything
from sandbox.postgres_template import Template
from sandbox.s3_servers import MotoServer, RcloneS3
from sandbox.slack import Message, SlackReceiver
from tests.recovery.silent_proxy import SilentProxy

SOURCE = "database"
BUCKET = "backups"
SETTING = "a-setting-nobody-may-see-4711"
"""The value of a variable of Airflow's, and of a file, that `alpha_settings` backs up."""

POLICY = """\
format_version: 1
system: {name}
description: The system {name} of the tests.
contacts:
  primary: {{name: Night shift, email: night@example.org}}
objectives: {{rto: 1h, rpo: 15m}}
targets:
{targets}
encryption:
  keys:
    - {{name: worker, kind: local, file: {keys}/local.key}}
    - {{name: safe, kind: rsa_public, public_key_file: {keys}/break-glass.pub}}
signing:
  key: {{file: {keys}/signing.pem}}
  key_id: stage
  trusted:
    - {{id: stage, public_key: {public_key}, valid_from: 2026-01-01T00:00:00Z}}
sources:
  database:
    kind: postgres
    connection: {name}_database
    tls: "off"
{source}
    tiers:
      wal: {{retention: 30d, expected_run: 4m, {tier}}}
      daily: {{schedule: "{schedule}", retention: 30d, {tier}}}
{tiers}alerts:
  channels:
    operations: {{kind: slack, connection: stage_slack}}
"""

# Runs at night, on one day in four years: the tests start theirs by hand.
NEVER = "0 2 29 2 *"


@dataclass
class Keys:
    """The keys of all systems of the stage."""

    directory: Path
    public_key: str
    secrets: list[str]

    @classmethod
    def make(cls, directory: Path) -> Keys:
        """Make them below ``directory``."""
        directory.mkdir(mode=0o700)
        local, glass, signing = new_local_key(), new_break_glass_pair(), new_signing_pair()
        write_secret(directory / "local.key", local)
        write_secret(directory / "signing.pem", signing.private)
        (directory / "break-glass.pub").write_text(glass.public)
        text = local if isinstance(local, str) else local.decode("latin-1")
        return cls(directory, signing.public, [text.strip(), *signing.private.splitlines()[1:-1]])


@dataclass
class System:
    """One system: its policy, its database, and what of it lies on the targets."""

    name: str
    policy: Path
    server: PostgresServer
    connections: dict[str, str]
    primary: Path | None = None
    route: Route | None = None

    @property
    def daily(self) -> str:
        return self.dag("daily")

    @property
    def wal(self) -> str:
        return self.dag("wal")

    @property
    def cleanup(self) -> str:
        return f"{self.name}_retention_cleanup"

    @property
    def restore_test(self) -> str:
        return f"{self.name}_restore_test"

    @property
    def drill(self) -> str:
        return f"{self.name}_dr_drill"

    def dag(self, tier: str) -> str:
        """The DAG of a tier."""
        return f"{self.name}_database_{tier}"

    @property
    def repository(self) -> SystemRepository:
        """As the command line would open it."""
        environment = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in self.connections.items()}
        return SystemRepository(load_policy(self.policy), outside_from(environment))

    def fulls(self, target: str = "primary") -> list[Copy]:
        """Its committed fulls on a target."""
        listing = self.repository.catalogue(target).recovery_points(SOURCE)
        assert listing.unreadable == ()
        return list(listing.copies)

    def wal_runs(self, target: str = "primary") -> list[Copy]:
        """Its committed WAL runs on a target."""
        return list(self.repository.catalogue(target).wal(SOURCE).copies)

    def events(self, kind: str, target: str = "primary") -> list[Event]:
        """The events of one kind in its journal."""
        repository = self.repository
        record = read_journal(repository.target(target), self.name, repository.trusted)
        return [event for event in record if isinstance(event, Event) and event.kind == kind]

    def change(self, old: str, new: str) -> None:
        """Change its policy; the next task that begins reads it so."""
        text = self.policy.read_text()
        assert old in text
        self.rewrite(text.replace(old, new))

    def rewrite(self, text: str) -> None:
        """Give it another policy; the next task that begins reads it so."""
        draft = self.policy.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.policy)

    def sessions(self) -> list[tuple[int, str]]:
        """Client port and application name of the backup role's sessions on the server."""
        rows = self.server.run_sql(
            "SELECT client_port, application_name FROM pg_stat_activity WHERE usename = 'lifeboat'"
        )
        return [(int(port), str(name)) for port, name in rows]

    def slots(self) -> list[str]:
        """The temporary replication slots on the server."""
        rows = self.server.run_sql("SELECT slot_name FROM pg_replication_slots WHERE temporary")
        return [str(row[0]) for row in rows]

    def streamed(self) -> int:
        """How many bytes a base backup under way has sent."""
        rows = self.server.run_sql("SELECT backup_streamed FROM pg_stat_progress_basebackup")
        return int(rows[0][0] or 0) if rows else 0

    def attempts(self) -> list[Path]:
        """The folders of attempts on the primary target, committed or not."""
        assert self.primary is not None
        return sorted(self.primary.glob(f"{self.name}/{SOURCE}/*-full-*/attempt-*"))


class Route(SilentProxy):
    """The way to a server, which falls silent and can be mended for those who come anew."""

    def mend(self) -> None:
        """Let new connections through again; those that it fell silent for stay so."""
        self._silent.clear()


def _between(dag: str, first: datetime, last: datetime) -> dict[str, str]:
    return {"dag_id": dag, "from_date": first.isoformat(), "to_date": last.isoformat()}


class Client(AirflowClient):
    """What a person does with runs and tasks, besides starting them."""

    def mark_task(self, dag: str, run: str, task: str, state: str) -> None:
        """Mark one task."""
        self._ask("PATCH", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}", json={"new_state": state})

    def clear_task(self, dag: str, run: str, *tasks: str, downstream: bool = False) -> None:
        """Clear some tasks of a run."""
        body = {"dry_run": False, "dag_run_id": run, "task_ids": tasks, "only_failed": False}
        self._ask("POST", f"/api/v2/dags/{dag}/clearTaskInstances", json=body | {"include_downstream": downstream})

    def clear_run(self, dag: str, run: str) -> None:
        """Clear a whole run."""
        body = {"dry_run": False, "only_failed": False}
        self._ask("POST", f"/api/v2/dags/{dag}/dagRuns/{run}/clear", json=body)

    def backfill(self, dag: str, first: datetime, last: datetime) -> None:
        """Ask for a backfill of all dates from one moment to another."""
        self._ask("POST", "/api/v2/backfills", json=_between(dag, first, last))

    def backfill_dates(self, dag: str, first: datetime, last: datetime) -> list[datetime]:
        """For which dates such a backfill would make runs."""
        found = self._ask("POST", "/api/v2/backfills/dry_run", json=_between(dag, first, last))["backfills"]
        return [datetime.fromisoformat(one["logical_date"]) for one in found]

    def log(self, dag_id: str, run_id: str, task_id: str, *, attempt: int = 1, map_index: int = -1) -> str:
        """What a task logged in one of its tries, with everything that belongs to each line."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        found = self._ask("GET", path, params={"map_index": map_index, "full_content": True})["content"]
        return "\n".join(str(line) for line in found)

    def asset_events(self, dag: str, run: str) -> list[str]:
        """The assets that a run updated."""
        found = self._ask("GET", "/api/v2/assets/events", params={"source_dag_id": dag, "source_run_id": run})
        return [str(event["name"]) for event in found["asset_events"]]

    def states(self, dag: str, run: str, *tasks: str) -> list[str | None]:
        """The states of some tasks."""
        found = self.task_states(dag, run)
        return [found[task] for task in tasks]

    def ended(self, dag: str, run: str) -> str:
        """Wait for a run's end."""
        return self.wait(dag, run, within=280)

    def tries(self, dag: str, run: str, task: str) -> int:
        """The number of a task's newest try."""
        return next(int(found["try_number"]) for found in self.tasks(dag, run) if found["task_id"] == task)


class Stage:
    """The stage below ``directory``. Make systems, then :meth:`start`.

    Args:
        users: of Airflow besides ``admin``, with their roles.
    """

    def __init__(self, directory: Path, template: Template, *, users: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.policies = directory / "policies"
        self.policies.mkdir()
        self.keys = Keys.make(directory / "keys")
        self._template = template
        self.metadata = self.server("metadata")
        self.slack = SlackReceiver(directory / "slack")
        secret = "offsite-" + self.keys.public_key[:20]
        self.offsite = RcloneS3(
            directory / "offsite", directory / "offsite.log", "offsite-key", secret, buckets=(BUCKET,), name="off-site"
        )
        self.moto = MotoServer(directory / "moto.log", secret_key="moto-" + self.keys.public_key[20:40])
        self.far = RcloneS3(
            directory / "far", directory / "far.log", "far-key", "far-" + secret[8:], buckets=(BUCKET,), name="far"
        )
        self.systems: dict[str, System] = {}
        self.airflow = AirflowSandbox(
            directory / "airflow",
            self.metadata,
            users=users,
            # Many runs go on at once here, on few cores.
            environment={
                "AIRFLOW__CORE__PARALLELISM": "6",
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "20",
            },
        )

    def server(self, name: str, **settings: str) -> PostgresServer:
        """A small server of the stage's, not made yet; all have one system identifier."""
        small = {"fsync": "off", "shared_buffers": "16MB"} | settings
        return PostgresServer(self.directory / name, settings=small, template=self._template)

    def directory_target(self, system: str, name: str) -> str:
        """Make a directory, and return the lines of a policy that make it a target."""
        place = self.directory / "targets" / system / name
        place.mkdir(parents=True)
        (place / ".lifeboat-target").write_text(f"{system}-{name}\n")
        return f"  {name}:\n    url: file://{place}\n    marker: {system}-{name}\n"

    def system(
        self,
        name: str,
        *,
        targets: str = "",
        source: str = "",
        tier: str = "retries: 0",
        tiers: str = "",
        schedule: str = NEVER,
        connections: Mapping[str, str] | None = None,
        routed: bool = False,
        connected: bool = True,
    ) -> System:
        """Make a system with a server of its own.

        Args:
            targets: lines of the policy besides the primary target, or with one of their own.
            source, tier: more of the policy's lines for the source, and for its tiers.
            tiers: lines with tiers besides ``wal`` and ``daily``; its server is ready for all that there are.
            routed: whether the connection leads over a :class:`Route`.
            connected: whether its server and its connection exist.
        """
        server = self.server(f"{name}-server", **({"summarize_wal": "on"} if tiers else {}))
        route = None
        if connected:
            server.create()
            server.start()
            create_backup_role(server)
            if tiers:
                let_read_everything(server)
            server.run_sql("CREATE TABLE ledger (n int PRIMARY KEY)")
        if "primary:" not in targets:
            targets = self.directory_target(name, "primary") + targets
        text = POLICY.format(
            name=name,
            targets=targets.rstrip("\n"),
            keys=self.keys.directory,
            public_key=self.keys.public_key,
            source=source or "    checkpoint: fast",
            tier=tier,
            tiers=tiers,
            schedule=schedule,
        )
        policy = self.policies / f"{name}.yaml"
        policy.write_text(text)
        mine = dict(connections or {})
        if connected:
            database = json.loads(server.airflow_connection("lifeboat"))
            if routed:
                route = Route(server.port)
                route.__enter__()
                database["port"] = route.port
            mine[f"{name}_database"] = json.dumps(database)
        primary = self.directory / "targets" / name / "primary"
        system = System(name, policy, server, mine, primary if primary.exists() else None, route)
        self.systems[name] = system
        return system

    def start(self, *, only_slack: bool = False) -> None:
        """Start the rest, and Airflow with it; returns at once.

        Args:
            only_slack: without stores: targets are directories.
        """
        self.metadata.create()
        self.metadata.start()
        self.slack.start()
        if not only_slack:
            self.offsite.start()
            self.moto.start()
        connections = {"stage_slack": self.slack.airflow_connection()}
        for system in self.systems.values():
            connections |= system.connections
        variables = {"AIRFLOW_VAR_STAGE_SETTINGS": SETTING}
        self.airflow.configure(connections, {"LIFEBOAT_POLICIES": str(self.policies)} | variables)
        self.airflow.start()

    def start_triggerer(self) -> None:
        """Start Airflow's triggerer, too."""
        program = [Path(sys.executable).with_name("airflow"), "triggerer", "--skip-serve-logs", "--capacity", "10"]
        environment = self.airflow._environment()
        log = self.directory / "triggerer.log"
        self.airflow._extra["triggerer"] = self.airflow._start("Airflow's triggerer", program, log, environment)

    def wait_until_ready(self) -> None:
        """Wait until runs can be started."""
        dags = [dag for system in self.systems.values() for dag in (system.daily, system.wal)]
        self.airflow.wait_until_ready(dags=dags)
        self.warm_up()

    def warm_up(self) -> None:
        """The API server answers nobody for some seconds when its first task asks it something: let that be us."""
        httpx.get(f"{self.airflow.url}/execution/health", timeout=120)

    def client(self) -> Client:
        """A session with the REST API."""
        return Client(self.airflow.url, USER, self.airflow.password)

    def processes(self) -> list[psutil.Process]:
        """All processes of Airflow, tasks too."""
        assert self.airflow.child is not None
        roots = [self.airflow.child, *self.airflow._extra.values()]
        return [process for root in roots for process in psutil.Process(root.pid).children(recursive=True)]

    def stop(self) -> None:
        """End everything."""
        self.airflow.stop()
        for system in self.systems.values():
            if system.route is not None:
                system.route.__exit__()
            system.server.destroy()
        for server in (self.moto, self.offsite, self.far):
            server.stop()
        self.slack.stop()
        self.metadata.destroy()
        shutil.rmtree(self.directory / "targets", ignore_errors=True)

    def secrets(self) -> list[str]:
        """Every secret that a task could know."""
        found = [SETTING, self.slack.path, self.airflow.password, *self.keys.secrets]
        found += [system.server.passwords["lifeboat"] for system in self.systems.values() if system.server.running]
        found += [server.connection("any").password or "" for server in (self.moto, self.offsite, self.far)]
        return [secret for secret in found if secret]

    def messages(self, run: str) -> list[Message]:
        """Slack's messages about a run."""
        return [message for message in self.slack.messages() if run in message.text]
