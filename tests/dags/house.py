"""A house for restores that people approve: a system with backups, places where they may end, and a session for each
user."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lifeboat.cli.program import run as lifeboat
from lifeboat.outside import as_airflow
from lifeboat.repository.journal import Event
from sandbox.accounts import SandboxError
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.postgres_builds import binaries
from sandbox.postgres_role import create_backup_role
from sandbox.postgres_template import Template
from sandbox.processes import wait_until
from tests.dags.stage import NEVER, SOURCE, Client, Stage, System
from tests.recovery.ssh_host import connection_to, ssh_host

USERS = {"ann": "op", "ben": "op", "cleo": "op", "dora": "op", "eve": "viewer"}
"""Ann asks. Ann, Ben and Cleo may approve; Dora, who may do as much in Airflow, may not."""
WHO = """\
restore:
  approvers: [ann, ben, cleo]
  valid_for: 8h
  hosts: {db1: {connection: guarded_host}}
drills: {schedule: "0 0 1 1 *", approval: true}
"""
ELSEWHERE, HOST = "guarded_elsewhere", "db1"
"""The connection to another server, and a host that a restore may end on."""
SAID = re.compile(r"""'(?:event|exc_value)': (?:'|")(.*?)(?:'|"), '(?:[a-z_]+)':""")
"""What a line of a log says, without all that belongs to it."""
ENDED = ("failed", "upstream_failed", "skipped")
FIRST, SECOND = "approve_1", "approve_2"
LOST = 2
"""How often a task asks again when Airflow has lost the answer."""
PUT_ASIDE = "The answer does not count"


@dataclass
class House:
    """A system with backups, another server, and a session for each user."""

    stage: Stage
    system: System
    users: dict[str, Client]
    places: Path
    elsewhere: PostgresServer
    work: str = "restore"

    @property
    def dag(self) -> str:
        return f"{self.system.name}_{self.work}"

    def ask(self, name: str, *, user: str = "ann", **more: Any) -> str:
        """Ask for a restore into a directory called ``name``; returns the run."""
        form = {
            "source": SOURCE,
            "destination": "worker_directory",
            "place": str(self.places / name),
            "reason": f"the disk is gone: {name}",
            "ticket": "OPS-7",
        }
        return self.users[user].trigger(self.dag, form | more)

    def wait_for(self, run: str, task: str, *states: str, within: float = 120) -> None:
        """Wait until a task is in one of some states."""
        admin = self.users["admin"]

        def is_so() -> bool:
            state = admin.task_states(self.dag, run).get(task)
            if state in ENDED and state not in states:
                pytest.fail(f"{task} is {state}.\n{self.log(run, 'plan')}\n{self.log(run, task)}")
            return state in states

        wait_until(is_so, within=within, what=f"{task} of {run} is {' or '.join(states)}", every=0.3)

    def answer(self, run: str, task: str, user: str, option: str = "Approve") -> None:
        """Answer, once the task asks, and once more if Airflow has lost the answer and asks again."""
        admin = self.users["admin"]
        for _ in range(1 + LOST):
            self._wait_until_parked(run, task)
            asked = admin.tries(self.dag, run, task)
            put_aside = self.log(run, task).count(PUT_ASIDE)
            path = f"/api/v2/dags/{self.dag}/dagRuns/{run}/taskInstances/{task}/-1/hitlDetails"
            self.users[user]._ask("PATCH", path, json={"chosen_options": [option]})

            def is_settled(asked: int = asked, put_aside: int = put_aside) -> bool:
                state = admin.task_states(self.dag, run).get(task)
                return (
                    state in ("success", *ENDED)
                    or admin.tries(self.dag, run, task) > asked
                    or self.log(run, task).count(PUT_ASIDE) > put_aside
                )

            wait_until(is_settled, within=120, what=f"{task} has taken the answer", every=0.3)
            if admin.tries(self.dag, run, task) == asked:
                return
        pytest.fail(f"{task} lost every answer.\n{self.log(run, task)}")

    def _wait_until_parked(self, run: str, task: str) -> None:
        self.wait_for(run, task, "awaiting_input")
        # Airflow fails a task, and tries it again, whose answer comes before its scheduler knows that it has parked.
        scheduler = self.stage.airflow.directory / "scheduler.log"

        def is_known() -> bool:
            lines = [line for line in scheduler.read_text().splitlines() if run in line and task in line]
            begun = max((n for n, line in enumerate(lines) if "Trying to enqueue" in line), default=0)
            return any("Received executor event with state success" in line for line in lines[begun:])

        wait_until(is_known, within=60, what=f"the scheduler knows that {task} waits", every=0.2)

    def approve(self, run: str, *users: str) -> None:
        """Let users approve, one after the other."""
        for task, user in zip((FIRST, SECOND), users, strict=False):
            self.answer(run, task, user)
            self.wait_for(run, task, "success")

    def asked_again(self, run: str, task: str, words: str) -> None:
        """Wait until an answer was put aside for a reason, and the task waits on."""
        wait_until(lambda: words in self.log(run, task), within=60, what=f"{task} says: {words}", every=0.3)
        self.wait_for(run, task, "awaiting_input")

    def ended(self, run: str) -> str:
        return self.users["admin"].wait(self.dag, run, within=240)

    def log(self, run: str, task: str) -> str:
        """What a task logged in all its tries."""
        admin = self.users["admin"]
        try:
            tries = admin.tries(self.dag, run, task)
            whole = "\n".join(admin.log(self.dag, run, task, attempt=one) for one in range(1, tries + 1))
        except SandboxError:
            return ""  # not written yet
        return "\n".join(found[1] for found in SAID.finditer(whole))

    def events(self, kind: str, request: str) -> list[Event]:
        """Events about a request."""
        return [event for event in self.system.events(kind) if event.details.get("request") == request]

    def request(self, run: str) -> str:
        """The id of a run's newest request."""
        found = [
            event.details["request"]
            for event in self.system.events("restore_requested")
            if event.details["request"]["run"]["run_id"] == run
        ]
        return str(found[-1]["id"])

    def nothing_came_to(self, name: str) -> bool:
        place = self.places / name
        return not place.exists() or not any(place.iterdir())


@contextmanager
def open_house(directory: Path, template: Template) -> Iterator[House]:
    """It is up, with an Airflow of its own."""
    with ExitStack() as stack:
        stage = Stage(directory, template, users=USERS)
        stack.callback(stage.stop)
        elsewhere = stack.enter_context(stage.server("elsewhere"))
        host = connection_to(
            stack.enter_context(ssh_host(directory / "host")), options=("--policies", str(stage.policies))
        )
        system = stage.system(
            "guarded",
            source=f"    checkpoint: fast\n    binaries: {binaries()}",
            tiers=f'      weekly: {{schedule: "{NEVER}", retention: 30d, retries: 0}}\n',
            connections={
                ELSEWHERE: elsewhere.airflow_connection(SUPERUSER),
                "guarded_host": json.dumps(as_airflow(host)),
            },
        )
        system.change("alerts:\n", f"{WHO}alerts:\n")
        # A restore of all that there was asks for the roles that had a part in it.
        create_backup_role(elsewhere)
        stage.start(only_slack=True)
        system.server.run_sql("INSERT INTO ledger SELECT generate_series(1, 100)")
        _back_up(system)
        # The server's user must be able to enter, and pytest's directories are ours alone.
        places = Path(tempfile.mkdtemp(prefix="lifeboat-places-"))
        stack.callback(shutil.rmtree, places, ignore_errors=True)
        places.chmod(0o755)
        stage.wait_until_ready()
        password = stage.airflow.password_of
        users = {
            name: stack.enter_context(Client(stage.airflow.url, name, password(name))) for name in (*USERS, "admin")
        }
        yield House(stage, system, users, places, elsewhere)


def _back_up(system: System) -> None:
    before = dict(os.environ)
    os.environ |= {f"AIRFLOW_CONN_{name.upper()}": value for name, value in system.connections.items()}
    try:
        for tier in ("daily", "wal", "weekly"):
            words = ["backup", system.name, SOURCE, "--tier", tier]
            assert lifeboat(["--policies", str(system.policy.parent), *words]) == 0
    finally:
        os.environ.clear()
        os.environ |= before
