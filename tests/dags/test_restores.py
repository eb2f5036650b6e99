"""Restores with two people in a running Airflow: users of its own, and what they try over its REST API.

One Airflow serves the whole module. The runs go on side by side; what is done to each stands in one test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lifeboat.recovery.evidence import Record
from lifeboat.recovery.keeping import read_evidence
from sandbox.accounts import SandboxError
from sandbox.postgres_builds import WHEEL_MAJOR
from sandbox.postgres_template import Template
from sandbox.processes import wait_until
from tests.dags.house import ELSEWHERE, FIRST, HOST, SECOND, House, open_house
from tests.dags.stage import System

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house"), postgres_template(WHEEL_MAJOR)) as opened:
        yield opened


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


@dataclass(frozen=True)
class Away:
    """A run that ends elsewhere than on the worker; what its plan shows, and what tells whether it has begun."""

    run: str
    shown: str
    has_begun: Callable[[], bool]


@pytest.fixture(scope="module", autouse=True)
def asked(house: House) -> tuple[Away, Away]:
    """One into another server, one onto the database's host: planned while other tests are at work."""
    server = {"destination": "connection", "place": ELSEWHERE, "database": "postgres", "new_name": "returned"}
    return (
        Away(house.ask("an archive", **server), "postgres as returned", lambda: "returned" in _databases(house)),
        Away(
            house.ask("on its host", destination="ssh_host", host=HOST),
            f"on the host {HOST}",
            lambda: not house.nothing_came_to("on its host"),
        ),
    )


@pytest.fixture(scope="module")
def away(house: House, asked: tuple[Away, Away]) -> tuple[Away, Away]:
    """Both approved by two people, before whom nothing has begun."""
    for one in asked:
        house.wait_for(one.run, FIRST, "awaiting_input")
        assert one.shown in house.log(one.run, "plan")
        house.approve(one.run, "ben")
    for one in asked:
        house.wait_for(one.run, SECOND, "awaiting_input")
        assert not one.has_begun()
        house.answer(one.run, SECOND, "cleo")
    return asked


def restored(house: House, run: str) -> Record:
    """See a run to its end; returns its record."""
    assert house.ended(run) == "success"
    request = house.request(run)
    [begun] = house.events("restore_begun", request)
    assert begun.details["approvers"] == ["ben", "cleo"]
    [handed] = house.events("restore_handed_over", request)
    assert handed.details["to"] == "ann"
    [record] = [record for record in _records(house.system) if record.run.run_id == run]
    assert record.passed
    assert record.actor == "airflow user ann, approved by ben and cleo"
    return record


def test_an_archive_comes_back_into_a_new_database_of_another_server(house: House, away: tuple[Away, Away]) -> None:
    before = {"postgres", "template0", "template1"}
    record = restored(house, away[0].run)
    assert record.proofs[0].kind == "logical"
    assert _databases(house) - before == {"returned"}
    assert house.elsewhere.run_sql("SELECT count(*), max(n) FROM ledger", database="returned") == [(100, 100)]
    said = house.log(away[0].run, "plan") + house.log(away[0].run, "restore")
    assert house.elsewhere.passwords["postgres"] not in said


def test_a_database_comes_back_on_its_own_host_over_ssh(house: House, away: tuple[Away, Away]) -> None:
    record = restored(house, away[1].run)
    assert record.proofs[0].kind == "full"
    assert is_stopped_cleanly(house.places / "on its host")


def _databases(house: House) -> set[str]:
    return {str(name) for (name,) in house.elsewhere.run_sql("SELECT datname FROM pg_database")}


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
    drill.asked_again(run, "approve", "ann asked for it, and can't approve it")
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
