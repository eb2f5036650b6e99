"""Restores with two people in a running Airflow: users of its own, and what they try over its REST API.

One Airflow serves the whole module. The runs go on side by side; what is done to each stands in one test.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lifeboat.cli.program import run as lifeboat
from lifeboat.recovery.evidence import Record
from lifeboat.recovery.keeping import read_evidence
from lifeboat.repository.journal import Event
from sandbox.accounts import SandboxError
from sandbox.postgres_builds import WHEEL_MAJOR, binaries
from sandbox.postgres_template import Template
from sandbox.processes import wait_until
from tests.dags.stage import SOURCE, Client, Stage, System

pytestmark = pytest.mark.timeout(600)

USERS = {"ann": "op", "ben": "op", "cleo": "op", "dora": "op", "eve": "viewer"}
"""Ann asks. Ann, Ben and Cleo may approve; Dora, who may do as much in Airflow, may not."""
WHO = """\
restore:
  approvers: [ann, ben, cleo]
  valid_for: 8h
drills: {schedule: "0 0 1 1 *", approval: true}
"""
SAID = re.compile(r"""'(?:event|exc_value)': (?:'|")(.*?)(?:'|"), '(?:[a-z_]+)':""")
"""What a line of a log says, without all that belongs to it."""
ENDED = ("failed", "upstream_failed", "skipped")
FIRST, SECOND = "approve_1", "approve_2"
LOST = 2
"""How often a task asks again when Airflow has lost the answer."""
PUT_ASIDE = "The answer does not count"


@dataclass
class House:
    """A system with backups, and a session for each user."""

    stage: Stage
    system: System
    users: dict[str, Client]
    places: Path
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


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]) -> Iterator[House]:
    stage, places = Stage(tmp_path_factory.mktemp("house"), postgres_template(WHEEL_MAJOR), users=USERS), None
    try:
        system = stage.system("guarded", source=f"    checkpoint: fast\n    binaries: {binaries()}")
        system.change("alerts:\n", f"{WHO}alerts:\n")
        stage.start(only_slack=True)
        system.server.run_sql("INSERT INTO ledger SELECT generate_series(1, 100)")
        _back_up(system)
        # The server's user must be able to enter, and pytest's directories are ours alone.
        places = Path(tempfile.mkdtemp(prefix="lifeboat-places-"))
        places.chmod(0o755)
        stage.wait_until_ready()
        password = stage.airflow.password_of
        users = {name: Client(stage.airflow.url, name, password(name)) for name in (*USERS, "admin")}
        yield House(stage, system, users, places)
        for client in users.values():
            client.__exit__(None, None, None)
    finally:
        stage.stop()
        if places is not None:
            shutil.rmtree(places, ignore_errors=True)


def _back_up(system: System) -> None:
    before = dict(os.environ)
    os.environ |= {f"AIRFLOW_CONN_{name.upper()}": value for name, value in system.connections.items()}
    try:
        for tier in ("daily", "wal"):
            words = ["backup", system.name, SOURCE, "--tier", tier]
            assert lifeboat(["--policies", str(system.policy.parent), *words]) == 0
    finally:
        os.environ.clear()
        os.environ |= before


def is_stopped_cleanly(place: Path) -> bool:
    return (place / "PG_VERSION").is_file() and not (place / "postmaster.pid").exists()


def test_two_others_approve_the_plan_and_it_is_restored_once(house: House) -> None:
    run = house.ask("approved")
    house.wait_for(run, FIRST, "awaiting_input")
    for shown in ("asks to restore", "reachable", "/approved (worker directory)", "OPS-7"):
        assert shown in house.log(run, "plan")
    house.answer(run, FIRST, "ann")
    house.asked_again(run, FIRST, "ann asked for it, and can't approve it")
    house.answer(run, FIRST, "dora")
    house.asked_again(run, FIRST, "dora is not among those who may approve")
    house.approve(run, "ben")
    house.answer(run, SECOND, "ben")
    house.asked_again(run, SECOND, "ben approved it already")
    house.answer(run, SECOND, "cleo")
    assert house.ended(run) == "success"
    assert is_stopped_cleanly(house.places / "approved")
    request = house.request(run)
    assert [event.details["approver"] for event in house.events("restore_approved", request)] == ["ben", "cleo"]
    [begun] = house.events("restore_begun", request)
    assert begun.details["approvers"] == ["ben", "cleo"]
    [handed] = house.events("restore_handed_over", request)
    assert handed.details["to"] == "ann"
    record = _records(house.system)[-1]
    assert record.passed
    assert record.actor == "airflow user ann, approved by ben and cleo"
    assert record.run.run_id == run
    assert "OPS-7" in record.reason
    assert record.proofs[0].milliseconds["approve"] > 0
    told = "\n".join(message.text for message in house.stage.slack.messages())
    assert "approval 1 of 2" in told
    assert f"{house.stage.airflow.url}/" in told
    assert "database is back" in told

    # Cleared, it can't be done again: the approvals are used up.
    house.users["dora"].clear_task(house.dag, run, "restore", downstream=True)
    house.wait_for(run, "restore", "failed")
    assert house.ended(run) == "failed"
    assert "A restore began by it already" in house.log(run, "restore")
    assert len(house.events("restore_begun", request)) == 1


def _records(system: System) -> list[Record]:
    repository = system.repository
    now = repository.outside.clock()
    since = now.replace(day=1)
    found = read_evidence(repository.target("primary"), system.name, repository.trusted, since=since, until=now)
    return [one for one in found if isinstance(one, Record)]


def test_tasks_that_are_marked_a_success_approve_nothing_and_xcom_says_nothing(house: House) -> None:
    run = house.ask("marked")
    house.wait_for(run, FIRST, "awaiting_input")
    others = house.ask("others", user="dora")
    house.approve(others, "ben", "cleo")
    house.wait_for(others, "restore", "running", "success")
    forged = house.request(others)
    path = f"/api/v2/dags/{house.dag}/dagRuns/{run}/taskInstances/plan/xcomEntries/return_value"
    house.users["admin"]._ask("PATCH", path, json={"value": forged, "map_index": -1})
    for task in (FIRST, SECOND):
        house.users["dora"].mark_task(house.dag, run, task, "success")
    house.wait_for(run, "restore", "failed")
    assert house.ended(run) == "failed"
    assert "It needs the approval of 2 people, and has 0" in house.log(run, "restore")
    assert house.nothing_came_to("marked")
    # The restore itself marked a success has restored nothing, and hand_over says so.
    house.users["dora"].mark_task(house.dag, run, "restore", "success")
    house.users["dora"].clear_task(house.dag, run, "hand_over")
    assert house.ended(run) == "failed"
    assert "does not say that the restore" in house.log(run, "hand_over")
    assert house.ended(others) == "success"


def test_a_plan_marked_a_success_has_asked_for_nothing(house: House) -> None:
    house.users["admin"].pause(house.dag)
    run = house.ask("unplanned")
    house.users["dora"].mark_task(house.dag, run, "plan", "success")
    house.users["admin"].pause(house.dag, False)
    assert house.ended(run) == "failed"
    assert "The journal holds no request of the run" in house.log(run, FIRST)
    assert house.nothing_came_to("unplanned")


def test_approvals_of_a_plan_that_was_made_anew_do_not_count(house: House) -> None:
    run = house.ask("anew")
    house.approve(run, "ben")
    first = house.request(run)
    house.wait_for(run, SECOND, "awaiting_input")
    house.users["dora"].clear_task(house.dag, run, "plan")
    house.wait_for(run, "plan", "success")
    wait_until(lambda: house.request(run) != first, within=60, what="there is a new request", every=0.3)
    house.answer(run, SECOND, "cleo")  # to the plan that was shown to her, and holds no longer
    house.wait_for(run, SECOND, "failed")
    assert "The plan was made anew while this task waited" in house.log(run, SECOND)
    house.users["dora"].clear_task(house.dag, run, SECOND, downstream=True)
    house.answer(run, SECOND, "cleo")
    house.wait_for(run, "restore", "failed")
    assert "It needs the approval of 2 people, and has 1 (cleo)" in house.log(run, "restore")
    assert house.ended(run) == "failed"
    assert house.nothing_came_to("anew")


def test_a_no_stays_a_no_whoever_says_yes_later(house: House) -> None:
    run = house.ask("refused")
    house.answer(run, FIRST, "ben", "Reject")
    assert house.ended(run) == "failed"
    assert "ben said no" in house.log(run, FIRST)
    house.users["dora"].clear_task(house.dag, run, FIRST, downstream=True)
    house.approve(run, "ben", "cleo")
    house.wait_for(run, "restore", "failed")
    assert "It was refused: ben said no" in house.log(run, "restore")
    assert house.ended(run) == "failed"
    assert house.nothing_came_to("refused")


def test_no_answer_in_time_means_no(house: House) -> None:
    house.system.change("valid_for: 8h", "valid_for: 20s")
    run = house.ask("late")
    house.wait_for(run, FIRST, "awaiting_input", "failed")
    house.system.change("valid_for: 20s", "valid_for: 8h")
    assert house.ended(run) == "failed"
    assert "nobody answered in time" in house.log(run, FIRST)
    [refused] = house.events("restore_refused", house.request(run))
    assert refused.details["why"] == "nobody answered in time"


def test_who_asks_must_be_known(house: House) -> None:
    house.users["admin"].pause(house.dag)
    run = house.ask("nobody")
    try:
        with house.stage.metadata.connect(database="airflow") as session:
            session.execute("UPDATE dag_run SET triggering_user_name = NULL WHERE run_id = %s", [run])
    finally:
        house.users["admin"].pause(house.dag, False)
    assert house.ended(run) == "failed"
    assert "It is not known who asks for this restore" in house.log(run, "plan")


def test_a_viewer_can_neither_ask_nor_answer_and_nobody_can_backfill(house: House) -> None:
    with pytest.raises(SandboxError, match="403"):
        house.ask("viewed", user="eve")
    run = house.ask("answered by a viewer")
    with pytest.raises(SandboxError, match="403"):
        house.answer(run, FIRST, "eve")
    with pytest.raises(SandboxError, match="40[0-9]"):
        house.users["admin"].backfill(house.dag, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
    house.answer(run, FIRST, "ann", "Reject")
    assert house.ended(run) == "failed"
    assert "ann withdrew it" in house.log(run, FIRST)


def test_a_moment_out_of_reach_ends_at_the_plan_with_what_can_be_reached(house: House) -> None:
    run = house.ask("unreachable", time="2020-01-01 00:00:00")
    assert house.ended(run) == "failed"
    said = house.log(run, "plan")
    assert "2020-01-01" in said
    assert "Reachable: 20" in said
    assert house.users["admin"].states(house.dag, run, FIRST) == ["upstream_failed"]


def test_a_place_that_is_not_empty_is_refused_before_anybody_is_asked(house: House) -> None:
    full = house.places / "full"
    full.mkdir()
    (full / "precious").write_text("kept")
    run = house.ask("full")
    assert house.ended(run) == "failed"
    assert "is not empty" in house.log(run, "plan")
    assert (full / "precious").read_text() == "kept"


def test_a_drill_begins_when_somebody_else_agrees_and_that_takes_a_phase_of_its_own(house: House) -> None:
    drill = replace(house, work="dr_drill")
    run = drill.users["ann"].trigger(drill.dag, {"scenario": "total_loss"})
    drill.answer(run, "approve", "ann")
    drill.asked_again(run, "approve", "ann asked for it, and can't agree to it")
    drill.answer(run, "approve", "ben")
    assert drill.ended(run) == "success"
    [record] = [one for one in _records(house.system) if one.run.run_id == run]
    assert record.passed
    [approved] = [event for event in house.system.events("drill_approved") if run in event.actor]
    assert approved.details["approver"] == "ben"
    assert record.drill is not None
    assert record.drill.incident < approved.time
    approve = record.proofs[0].milliseconds["approve"]
    assert 0 < approve < record.drill.recovery_milliseconds
    # One that is refused is never begun.
    refused = drill.users["ann"].trigger(drill.dag, {"scenario": "total_loss"})
    drill.answer(refused, "approve", "cleo", "Reject")
    drill.wait_for(refused, "provision", "failed")
    assert [event for event in house.system.events("drill_begun") if refused in event.actor] == []
