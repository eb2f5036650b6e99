"""DAG runs in a real Airflow: LocalExecutor, a PostgreSQL for its metadata, runs started and meddled with by REST.

One Airflow serves the whole module. Most runs go on side by side: ``play.py`` starts them when it is ready, and deals
with those that something happens to in mid-backup. The tests look at what came of it, last at those that wait for
Airflow itself: for a retry's delay, for a time-out.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from lifeboat.configuration.choosing import proven_items
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.layout import RecoveryPointId
from sandbox.accounts import SandboxError
from sandbox.processes import is_alive, wait_until
from tests.dags.play import DUMP, PAST, TOGETHER, Play, collect
from tests.dags.stage import SETTING, SOURCE, System

pytestmark = pytest.mark.timeout(600)

BETWEEN_CHANGES = 50  # looks, two in a second: the watch must find quiet for 20 seconds between two changes
NEAR, OFFSITE = 0, 1  # the order of alpha's and remote's targets besides the primary one


def ids(system: System, target: str = "primary") -> list[str]:
    return [copy.manifest.recovery_point for copy in system.fulls(target)]


def until(what: str, ready: Callable[[], bool], *, within: float = 60) -> None:
    wait_until(ready, within=within, what=what, every=0.2)


def test_a_run_marked_failed_in_mid_backup_leaves_no_session_no_slot_no_upload_and_no_process(play: Play) -> None:
    system, seen = play.system("marked"), play.seen["marked"]

    def nothing_is_left() -> bool:
        gone = not is_alive(seen.process) and not play.uploads()
        return gone and not system.sessions() and not system.slots()

    until("nothing is left of a backup that was marked failed", nothing_is_left, within=20)
    assert play.end("marked") == "failed"
    assert play.states("marked")[DUMP] == "failed"
    assert system.fulls() == []
    assert "The task was stopped" in play.log("marked", DUMP)


def test_a_run_marked_failed_while_it_follows_keeps_what_it_committed_and_leaves_no_session(play: Play) -> None:
    system, seen = play.system("followed"), play.seen["followed"]
    until("nothing is left", lambda: not is_alive(seen.process) and not system.sessions(), within=20)
    assert play.end("followed") == "failed"
    assert play.states("followed")["collect"] == "failed"
    points = [copy.manifest.recovery_point for copy in system.wal_runs()]
    assert len(points) >= 2
    said = play.log("followed", "collect")
    assert "Following until" in said
    assert all(point in said for point in points[:2])
    assert "The task was stopped" in said


def test_two_runs_at_once_go_one_after_the_other_and_both_are_good(play: Play) -> None:
    assert play.end("first") == "success"
    assert play.end("second") == "success"
    first, second = (play.client.run(*play.runs[name]) for name in ("first", "second"))
    assert min(first["end_date"], second["end_date"]) <= max(first["start_date"], second["start_date"])
    one, other = play.system("alpha").fulls()[:2]
    assert one.manifest.committed <= other.manifest.begun
    assert (one.manifest.sequence, other.manifest.sequence) == (1, 2)


def test_xcom_names_the_recovery_points_and_publish_updates_the_asset(play: Play) -> None:
    play.end("first")
    dag, run = play.runs["first"]
    [named] = play.client.xcom(dag, run, DUMP)
    copy = next(copy for copy in play.system("alpha").fulls() if copy.manifest.run.run_id == run)
    assert named["id"] == copy.manifest.recovery_point
    assert play.client.xcom(dag, run, "publish") == {named["id"]: ["primary", "near", "offsite"]}
    assert play.client.asset_events(dag, run) == ["alpha/database/daily"]
    assert copy.manifest.note == "before the move"
    for target in ("near", "offsite"):
        assert named["id"] in ids(play.system("alpha"), target)


def made(play: Play, name: str, task: str = DUMP) -> list[Copy]:
    """The recovery points that a run named, as they lie on the primary target."""
    ids = [point["id"] for point in play.client.xcom(*play.runs[name], task)]
    system = next(system for system in play.stage.systems.values() if play.runs[name][0].startswith(f"{system.name}_"))
    return [copy for copy in system.fulls() if copy.manifest.recovery_point in ids]


def test_a_dry_run_of_the_cleanup_says_what_would_go_and_the_next_run_lets_it_go(play: Play) -> None:
    assert play.end("aged dry") == "success"
    assert play.states("aged dry") == {
        "plan": "success", "guard": "skipped", "targets.primary.soft_delete": "skipped",
        "targets.primary.purge": "skipped", "report": "success",
    }  # fmt: skip
    told = play.client.xcom(*play.runs["aged dry"], "plan")
    assert told == {SOURCE: {"stopped": [], "goes": {"primary": 3}}}
    assert "daily is kept for 30d" in play.log("aged dry", "plan")
    assert play.end("aged clean") == "success"
    # A directory's room is needed: there nothing waits to be taken back.
    figures = play.client.xcom(*play.runs["aged clean"], "report")["primary"]
    assert (figures["deleted"], figures["removed"]) == (3, 3)
    system = play.system("aged")
    assert len(system.fulls()) == 2
    assert [event.kind for event in system.events("purged")] == ["purged"]
    assert system.events("retention_ended")[0].details["targets"] == {"primary": figures}


def test_a_cleanup_that_would_take_too_much_takes_nothing_fails_and_somebody_is_told(play: Play) -> None:
    assert play.end("hoarded dry") == "success"
    assert play.end("hoarded clean") == "failed"
    states = play.states("hoarded clean")
    assert (states["guard"], states["report"]) == ("failed", "failed")
    said = play.log("hoarded clean", "guard")
    assert "5 of 7 recovery points of tier daily would go" in said
    assert len(play.system("hoarded").fulls()) == 7
    until("Slack is told", lambda: bool(play.stage.messages(play.runs["hoarded clean"][1])))


def test_an_export_of_a_table_from_the_form_is_partial_and_leaves_the_asset_alone(play: Play) -> None:
    assert play.end("export") == "success"
    assert play.end("export of a table") == "success"
    [whole], [part] = made(play, "export"), made(play, "export of a table")
    assert (whole.manifest.kind, whole.manifest.tiers, whole.manifest.details["tables"]) == ("export", ("export",), 3)
    assert (part.manifest.kind, part.manifest.tiers, part.manifest.details["tables"]) == ("export", (), 1)
    assert part.manifest.details["only"] == ["public.users"]
    assert play.client.asset_events(*play.runs["export"]) == ["tiered/database/export"]
    assert play.client.asset_events(*play.runs["export of a table"]) == []
    assert "the asset is not updated" in play.log("export of a table", "publish")
    # It is published all the same.
    assert play.client.xcom(*play.runs["export of a table"], "publish") == {part.manifest.recovery_point: ["primary"]}


def test_a_restore_test_brings_the_database_back_and_leaves_a_record(play: Play) -> None:
    assert play.end("full") == "success"
    tiered = play.system("tiered")
    play.begin("tested", tiered.restore_test, {"reason": "before the audit"})
    assert play.end("tested") == "success"
    told = play.client.xcom(*play.runs["tested"], "restore_test")
    assert told["passed"] is True
    assert list(told["recovered"]) == [SOURCE]
    (announced,) = [event for event in tiered.events("evidence_recorded") if event.details["record"] == told["id"]]
    assert announced.details["sha256"] == told["sha256"]
    assert "good: pg_amcheck: tables and indexes are whole" in play.log("tested", "restore_test")
    [message] = play.stage.messages(play.runs["tested"][1])
    assert "*tiered comes back*" in message.text
    assert f"--record {told['id']}" in message.text


def test_a_restore_test_of_what_is_too_old_fails_and_somebody_is_told(play: Play) -> None:
    assert play.end("full") == "success"
    tiered = play.system("tiered")
    tiered.change("rpo: 15m", "rpo: 1s")
    try:
        play.begin("too old", tiered.restore_test)
        assert play.end("too old") == "failed"
    finally:
        tiered.change("rpo: 1s", "rpo: 15m")
    assert "recovery point: the last" in play.log("too old", "restore_test")
    [task] = play.client.tasks(*play.runs["too old"])
    assert task["try_number"] == 1  # another try would find the same
    until("Slack is told twice", lambda: len(play.stage.messages(play.runs["too old"][1])) == 2)
    assert any("recovery point: the last" in one.text for one in play.stage.messages(play.runs["too old"][1]))


def test_a_drill_makes_its_steps_as_tasks_and_records_what_they_left_in_the_journal(play: Play) -> None:
    assert play.end("full") == "success"
    tiered = play.system("tiered")
    play.begin("drilled", tiered.drill, {"scenario": "total_loss", "reason": "the quarter's end"})
    assert play.end("drilled") == "success"
    assert set(play.states("drilled").values()) == {"success"}
    told = play.client.xcom(*play.runs["drilled"], "record")
    assert (told["passed"], told["scenario"]) == (True, "total_loss")
    assert list(told["lost"]) == [SOURCE]
    (announced,) = [event for event in tiered.events("evidence_recorded") if event.details["record"] == told["id"]]
    assert announced.details["sha256"] == told["sha256"]
    steps = [event for event in tiered.events("drill_step") if f"{play.runs['drilled'][1]}" in event.actor]
    assert [event.details["step"] for event in steps] == [
        "provision", "code", "database.database", "files", "configuration", "dns", "verify", "monitor"
    ]  # fmt: skip
    assert "nothing after the incident" in play.log("drilled", "database")
    [message] = play.stage.messages(play.runs["drilled"][1])
    assert "*tiered comes back* from total loss" in message.text


def test_an_incremental_builds_upon_the_full_that_another_dag_made(play: Play) -> None:
    assert play.end("full") == "success"
    play.begin("incremental", play.system("tiered").dag("incremental"), {"deep_verification": True})
    assert play.end("incremental") == "success"
    [full], [incremental] = made(play, "full"), made(play, "incremental")
    assert (incremental.manifest.kind, incremental.manifest.tiers) == ("incremental", ("incremental",))
    assert incremental.manifest.parent == full.manifest.recovery_point
    assert f"Changes since {full.manifest.recovery_point}" in play.log("incremental", DUMP)
    assert play.client.asset_events(*play.runs["incremental"]) == ["tiered/database/incremental"]


def test_two_dags_that_the_clock_begins_at_once_share_one_archive_of_that_day(play: Play) -> None:
    play.begun_by_the_clock(play.system("tiered"), *TOGETHER)
    assert {play.end(tier) for tier in TOGETHER} == {"success"}
    [archive], [same] = (made(play, tier) for tier in TOGETHER)
    assert archive == same
    assert archive.manifest.kind == "logical"
    assert set(archive.manifest.tiers) == set(TOGETHER)
    maker = next(tier for tier in TOGETHER if play.runs[tier][0] == archive.manifest.run.dag_id)
    assert maker == archive.manifest.tiers[0]
    [finder] = set(TOGETHER) - {maker}
    said = play.log(finder, DUMP)
    assert archive.manifest.recovery_point in said
    assert f"carries the tier {finder} of this day, too" in said
    assert [event.details["tiers"] for event in play.system("tiered").events("backup_skipped")] == [[finder]]
    # Whoever waits for either of them is told.
    for tier in TOGETHER:
        assert play.client.asset_events(*play.runs[tier]) == [f"tiered/database/{tier}"]


def test_deep_verification_is_a_box_in_the_form(play: Play) -> None:
    play.end("first")
    play.end("second")
    system = play.system("alpha")
    methods = {(event.recovery_point, event.target): event.details["method"] for event in system.events("verified")}
    [deep] = play.client.xcom(*play.runs["first"], DUMP)
    [stored] = play.client.xcom(*play.runs["second"], DUMP)
    for target in ("primary", "near", "offsite"):
        assert methods[deep["id"], target] == "deep"
    assert methods[stored["id"], "primary"] != "deep"


def test_wal_is_collected_copied_and_published_without_a_logical_date(play: Play) -> None:
    assert play.end("wal") == "success"
    dag, run = play.runs["wal"]
    assert play.client.run(dag, run)["logical_date"] is None
    [named] = play.client.xcom(dag, run, "collect")
    for target in ("primary", "near", "offsite"):
        assert named["id"] in [copy.manifest.recovery_point for copy in play.system("alpha").wal_runs(target)]
    assert play.client.asset_events(dag, run) == ["alpha/database/wal"]


def test_a_change_is_stored_copied_and_published_and_a_run_that_finds_none_skips_the_rest_and_is_green(
    play: Play,
) -> None:
    assert play.end("settings") == "success"
    [named] = play.client.xcom(*play.runs["settings"], "store_if_changed")
    repository = play.system("alpha").repository
    for target in ("primary", "near", "offsite"):
        [copy] = repository.catalogue(target).recovery_points("settings").copies
        assert copy.manifest.recovery_point == named["id"]
    assert copy.manifest.details["items"] == {"files": 1, "connections": 1, "variables": 1}
    items = {one.indexed.about.name: one.content for one in proven_items(repository, copy, [])}
    assert items["variables/stage_settings"].decode() == SETTING
    connection = json.loads(items["connections/alpha_database"])
    assert connection["password"] == play.system("alpha").server.passwords["lifeboat"]
    assert play.end("settings unchanged") == "success"
    states = play.states("settings unchanged")
    assert states.pop("store_if_changed") == "success"
    assert set(states.values()) == {"skipped"}
    assert f"unchanged since {named['id']}" in play.log("settings unchanged", "store_if_changed")
    assert play.client.asset_events(*play.runs["settings unchanged"]) == []


def test_a_change_of_a_watched_file_begins_a_run_at_once(play: Play) -> None:
    dag, _ = play.runs["settings unchanged"]
    play.end("settings unchanged")
    play.stage.start_triggerer()
    file = play.stage.directory / "alpha.conf"
    looks = itertools.count()

    def begun_by_the_watch() -> bool:
        # The watch begins when the triggerer is up: what was changed before is the schedule's.
        if (look := next(looks)) % BETWEEN_CHANGES == 0:
            file.write_text(f"{SETTING} {look}")
        return any(run["run_type"] == "asset_triggered" for run in play.client.runs(dag))

    wait_until(begun_by_the_watch, within=120, what="a run was begun by the watch", every=0.5)
    play.stage.airflow.stop_component("triggerer")
    [run, *_] = [run for run in play.client.runs(dag) if run["run_type"] == "asset_triggered"]
    assert play.client.ended(dag, run["dag_run_id"]) == "success"
    [named] = play.client.xcom(dag, run["dag_run_id"], "store_if_changed")
    repository = play.system("alpha").repository
    points = [
        copy.manifest.recovery_point for copy in repository.catalogue("primary").recovery_points("settings").copies
    ]
    assert named["id"] in points[1:]


def test_a_run_for_a_past_date_reads_the_data_of_now(play: Play) -> None:
    assert play.end("second") == "success"
    dag, run = play.runs["second"]
    assert play.client.run(dag, run)["logical_date"].startswith(f"{PAST:%Y-%m-%d}")
    copy = next(copy for copy in play.system("alpha").fulls() if copy.manifest.run.run_id == run)
    for moment in (copy.manifest.moment, RecoveryPointId.parse(copy.manifest.recovery_point).begun):
        assert datetime.now(UTC) - moment < timedelta(hours=1)


def test_a_target_left_out_is_skipped_and_journaled_and_the_run_is_green(play: Play) -> None:
    assert play.end("second") == "success"
    states = play.states("second")
    assert states[f"copies.copy[{NEAR}]"] == "success"
    assert states[f"copies.copy[{OFFSITE}]"] == "skipped"
    assert states[f"copies.verify[{OFFSITE}]"] == "skipped"
    [named] = play.client.xcom(*play.runs["second"], DUMP)
    missing = [event for event in play.system("alpha").events("copy_missing") if event.recovery_point == named["id"]]
    assert [(event.target, event.details["what"]) for event in missing] == [
        ("offsite", "left out by the person who started the run")
    ]


def test_a_target_that_does_not_exist_can_not_be_chosen(play: Play) -> None:
    with pytest.raises(SandboxError, match="400"):
        play.client.trigger(play.system("alpha").daily, {"targets": ["ofsite"]})


def test_a_backfill_is_skipped_and_says_why(play: Play) -> None:
    for name in ("first", "second"):
        play.end(name)
    system = play.system("alpha")
    before = ids(system)
    leap_day = datetime(2024, 2, 29, tzinfo=UTC)  # the only kind of day that its schedule knows
    play.client.backfill(system.daily, leap_day, leap_day + timedelta(days=1))
    runs = [run for run in play.client.runs(system.daily) if run["run_type"] == "backfill"]
    assert len(runs) == 1
    play.runs["backfill"] = (system.daily, runs[0]["dag_run_id"])
    assert play.end("backfill") == "success"
    assert set(play.states("backfill").values()) == {"skipped"}
    assert "a backup reads the data as it is now" in play.log("backfill", "preflight")
    assert ids(system) == before


def test_a_backfill_of_an_export_rebuilds_it_for_its_date_and_is_skipped_where_that_is_out_of_reach(play: Play) -> None:
    system = play.system("recalled")
    [full] = system.fulls()
    moment = (full.manifest.committed + timedelta(minutes=1)).replace(second=0, microsecond=0)
    # One that has just passed would be begun by the clock.
    until("the moment has passed", lambda: datetime.now(UTC) > moment + timedelta(minutes=2, seconds=5), within=200)
    system.server.run_sql("INSERT INTO ledger VALUES (3)")
    collect(system)
    play.backfill(system, "export", early=moment - timedelta(hours=1), rebuilt=moment)
    assert play.end("early") == "success"
    assert set(play.states("early").values()) == {"skipped"}
    said = play.log("early", "preflight")
    assert "can't be brought back from what was kept" in said
    assert "The nearest moment that can be is" in said
    assert [event.details["tiers"] for event in system.events("backup_skipped")] == [["export"]]
    assert play.end("rebuilt") == "success", play.log("rebuilt", DUMP)
    [copy] = made(play, "rebuilt")
    assert (copy.manifest.moment, copy.manifest.tiers, copy.manifest.details["rows"]) == (moment, ("export",), 2)
    assert RecoveryPointId.parse(copy.manifest.recovery_point).begun == moment
    assert copy.manifest.rebuilt is not None
    assert copy.manifest.rebuilt.base == full.manifest.recovery_point
    assert "Rebuilt for" in play.log("rebuilt", DUMP)
    # Whoever waits for the asset waits for news.
    assert play.client.asset_events(*play.runs["rebuilt"]) == []


def test_a_backup_cleared_after_its_success_is_committed_already_and_a_cleared_run_makes_a_new_one(play: Play) -> None:
    for name in ("first", "second"):
        play.end(name)
    system = play.system("alpha")
    before = ids(system)
    [named] = play.client.xcom(*play.runs["first"], DUMP)
    play.client.clear_task(*play.runs["first"], DUMP)
    assert play.end("first") == "success"
    assert play.client.tries(*play.runs["first"], DUMP) == 2
    assert "is committed already" in play.log("first", DUMP, attempt=2)
    assert ids(system) == before
    [again] = play.client.xcom(*play.runs["first"], DUMP)
    assert again["id"] == named["id"]

    play.client.clear_run(*play.runs["second"])
    assert play.end("second") == "success"
    assert ids(system)[:-1] == before
    assert len(ids(system)) == len(before) + 1


def test_a_damaged_copy_fails_its_own_verification_and_with_it_the_run(play: Play) -> None:
    play.end("wal")
    system = play.system("alpha")
    [named] = play.client.xcom(*play.runs["wal"], "collect")
    [near] = play.stage.directory.glob(f"targets/alpha/near/alpha/{SOURCE}/wal/*/{named['id']}/attempt-*")
    stored = next(file for file in near.iterdir() if file.name.endswith(".enc"))
    data = bytearray(stored.read_bytes())
    data[len(data) // 2] ^= 1
    stored.chmod(0o600)
    stored.write_bytes(data)
    play.client.clear_task(*play.runs["wal"], "copies.verify", downstream=True)
    assert play.end("wal") == "failed"
    states = play.states("wal")
    assert states[f"copies.verify[{NEAR}]"] == "failed"
    assert states[f"copies.verify[{OFFSITE}]"] == "success"
    assert states["publish"] == "failed"
    assert "on near" in play.log("wal", "publish", attempt=play.client.tries(*play.runs["wal"], "publish"))
    assert ("near", named["id"]) in [
        (event.target, event.recovery_point) for event in system.events("verification_failed")
    ]


def test_a_target_that_is_away_fails_alone_is_named_and_gets_what_it_missed_from_the_next_run(play: Play) -> None:
    assert play.end("target away") == "failed"
    system, stage = play.system("remote"), play.stage
    states = play.states("target away")
    assert states[DUMP] == states["verify_primary"] == "success"
    assert states[f"copies.copy[{NEAR}]"] == states[f"copies.verify[{NEAR}]"] == "success"
    assert states[f"copies.copy[{OFFSITE}]"] == "failed"
    assert states[f"copies.verify[{OFFSITE}]"] == "upstream_failed"
    assert states["publish"] == "failed"
    assert "on offsite" in play.log("target away", "publish")
    assert len(ids(system)) == len(ids(system, "near")) == 1
    assert [event.target for event in system.events("copy_failed")] == ["offsite"]

    _, run = play.runs["target away"]
    until("Slack is told", lambda: bool(stage.messages(run)))
    [message] = stage.messages(run)
    for piece in ("At risk", "What to do", "Whom to call", "remote", "Night shift"):
        assert piece in message.text

    stage.far.start()
    play.begin("target back", system.daily)
    assert play.end("target back") == "success"
    assert len(ids(system)) == 2
    assert ids(system, "offsite") == ids(system)


def test_after_lost_wal_the_full_is_started_once_says_why_and_is_not_forgotten_where_its_dag_is_paused(
    play: Play,
) -> None:
    system, client = play.system("gapped"), play.client
    [before] = ids(system)
    assert play.end("gap found") == "failed"
    assert play.states("gap found")["start_full"] == "failed"
    assert f"The DAG {system.daily} that takes it is paused" in play.log("gap found", "start_full")
    assert "A new full is needed" in play.log("gap found", "publish")
    assert client.runs(system.daily) == []

    client.pause(system.daily, False)
    play.begin("gap handed on", system.wal)
    assert play.end("gap handed on") == "success"
    [started] = client.runs(system.daily)
    play.runs["full after gap"] = (system.daily, started["dag_run_id"])
    assert started["dag_run_id"].startswith("after_lost_wal__1-")
    assert started["run_type"] == "operator_triggered"

    # It takes some seconds: a WAL run meanwhile starts no other.
    play.begin("gap waited for", system.wal)
    assert play.end("gap waited for") == "success"
    assert "is under way" in play.log("gap waited for", "start_full")

    assert play.end("full after gap") == "success"
    play.begin("gap closed", system.wal)
    assert play.end("gap closed") == "success"
    assert play.states("gap closed")["start_full"] == "skipped"
    assert len(client.runs(system.daily)) == 1
    first, after = system.fulls()
    assert first.manifest.recovery_point == before
    assert after.manifest.note.startswith("A full is due because WAL of timeline 1 from")
    assert after.manifest.run.run_id == started["dag_run_id"]
    [forced] = system.events("full_forced")
    assert forced.details["run"] == started["dag_run_id"]
    assert forced.details["reason"] == after.manifest.note


def test_damaged_pages_end_the_run_as_failed_and_no_other_try_makes_it_green(play: Play) -> None:
    assert play.end("damaged") == "failed"
    states = play.states("damaged")
    assert (states[DUMP], states["verify_primary"], states["publish"]) == ("failed", "upstream_failed", "failed")
    assert play.client.tries(*play.runs["damaged"], DUMP) == 1
    [copy] = play.system("damaged").fulls()
    assert copy.manifest.state == "damaged"
    # Somebody clears it: what is committed is as damaged as before.
    play.client.clear_task(*play.runs["damaged"], DUMP)
    assert play.end("damaged") == "failed"
    assert len(play.system("damaged").fulls()) == 1


@pytest.mark.parametrize("dag", ["daily", "wal"])
def test_a_policy_none_of_whose_connections_exist_is_skipped_quietly(play: Play, dag: str) -> None:
    name = f"quiet {dag}"
    assert play.end(name) == "success"
    assert set(play.states(name).values()) == {"skipped"}
    said = play.log(name, "preflight" if dag == "daily" else "collect")
    for connection in ("quiet_database", "not_there", "not_there_either"):
        assert connection in said


@pytest.mark.parametrize("dag", ["daily", "wal"])
def test_once_a_connection_exists_those_that_are_missing_are_a_failure_that_names_them_all(
    play: Play, dag: str
) -> None:
    name = f"half {dag}"
    assert play.end(name) == "failed"
    assert "not_there, not_there_either" in play.log(name, "preflight" if dag == "daily" else "collect")


def test_a_worker_killed_in_mid_upload_is_tried_again_by_airflow_which_ignores_its_remains(play: Play) -> None:
    system, seen = play.system("killed"), play.seen["killed"]
    assert len(seen.attempts) == 1
    assert any(seen.attempts[0].iterdir())
    assert play.end("killed") == "success"
    assert play.client.tries(*play.runs["killed"], DUMP) == 2
    [copy] = system.fulls()
    assert copy.manifest.attempt.startswith("attempt-02-")
    assert copy.manifest.run.try_number == 2
    assert seen.attempts[0].exists()
    assert all(seen.attempts[0].name not in stream.name for stream in copy.manifest.streams)
    assert [event.recovery_point for event in system.events("backup_committed")] == [copy.manifest.recovery_point]
    assert len(system.events("verified")) == 1


def test_a_task_cleared_against_a_silent_server_ends_and_its_next_try_commits(play: Play) -> None:
    system, seen = play.system("cleared"), play.seen["cleared"]
    assert not is_alive(seen.process)
    assert play.end("cleared") == "success"
    until("the server's sessions are gone", lambda: not system.sessions() and not system.slots(), within=30)
    [copy] = system.fulls()
    assert copy.manifest.attempt != seen.attempts[0].name


def test_a_time_out_against_a_silent_server_ends_the_task_and_commits_nothing(play: Play) -> None:
    system, seen = play.system("silent"), play.seen["silent"]
    assert play.end("silent") == "failed"
    assert not is_alive(seen.process)
    assert system.fulls() == []
    assert "AirflowTaskTimeout" in play.log("silent", DUMP)
    assert [event.details["error"] for event in system.events("backup_failed")] == ["AirflowTaskTimeout"]
    until("the server's session is gone", lambda: not system.sessions() and not system.slots(), within=30)


def test_a_backup_survives_the_end_and_the_return_of_the_api_server(play: Play) -> None:
    for name in list(play.runs):
        play.end(name)
    system, airflow = play.system("steady"), play.stage.airflow
    play.begin("steady", system.daily)
    until("the backup is under way", lambda: system.streamed() > 0 and bool(system.attempts()), within=120)
    [attempt] = system.attempts()
    airflow.stop_component("api-server")
    # It commits, and has to say so to a server that is not there.
    until("the backup is committed", lambda: bool(system.fulls()), within=120)
    airflow.start_component("api-server")
    play.stage.wait_until_ready()
    assert play.end("steady") == "success"
    assert play.client.tries(*play.runs["steady"], DUMP) == 1
    [copy] = system.fulls()
    assert copy.manifest.attempt == attempt.name


def test_each_failed_run_is_told_once_and_no_other_is(play: Play) -> None:
    told = {}
    for name, (_, run) in play.runs.items():
        if play.end(name) == "failed":
            until(f"Slack is told of {name}", lambda run=run: bool(play.stage.messages(run)))
        told[name] = len(play.stage.messages(run))
    # A run that was cleared and failed again is told again.
    again = {"damaged": 2 if play.client.tries(*play.runs["damaged"], DUMP) == 2 else 1}
    # A restore test says how it ended, and a failed run is told of besides.
    again["too old"] = 2
    assert told.pop("tested") == 1
    assert told.pop("drilled") == 1
    assert told == {name: again.get(name, 1) if play.end(name) == "failed" else 0 for name in told}


def test_no_secret_is_in_a_log_an_xcom_a_template_or_anything_else_that_airflow_keeps(play: Play) -> None:
    for name in play.runs:
        play.end(name)
    airflow = play.stage.airflow
    kept = {
        str(file): file.read_text(encoding="utf-8", errors="replace")
        for file in (*airflow.directory.glob("*.log"), *(airflow.directory / "logs").rglob("*.log"))
    }
    kept["metadata"] = play.stage.metadata.run_program("pg_dump", "--data-only", "--inserts", database="airflow")
    everything = "\n".join(kept.values())
    [named] = play.client.xcom(*play.runs["first"], DUMP)
    assert named["id"] in kept["metadata"]
    assert named["id"] in everything.replace(kept["metadata"], "")
    secrets = play.stage.secrets()
    assert len(secrets) > 10
    for secret in secrets:
        assert len(secret) >= 8
        for variant in (secret, json.dumps(secret)[1:-1]):
            found = [name for name, text in kept.items() if variant in text]
            assert found == []
