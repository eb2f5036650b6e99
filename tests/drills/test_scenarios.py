"""Drills in every scenario, on a real database and files."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from lifeboat.errors import ManifestInvalid, RestoreError, TargetUnavailable
from lifeboat.policy.drill_steps import PlannedStep
from lifeboat.recovery.actions import Topic, corrective_actions
from lifeboat.recovery.audit_archive import write_archive
from lifeboat.recovery.auditing import Period, gather
from lifeboat.recovery.evidence import parse_record
from tests.drills.story import PAPERS, Story, outcomes, proof_of, rows, what_of
from tests.recovery.line import SOURCE

SCRIPT = Path(__file__).parents[2] / "include" / "auditor" / "check_evidence.py"


def test_after_a_total_loss_everything_comes_back_with_both_objectives_measured(story: Story) -> None:
    with story.saying():
        record = story.drill(checks=(rows("4 to 4"),), reason="the quarter's end")
    assert record.passed, record.model_dump_json(indent=1)
    assert (record.kind, record.reason) == ("drill", "the quarter's end")
    drill = record.drill
    assert drill is not None
    assert [step.title for step in drill.steps] == [
        "provision", "code", "database", f"files ({PAPERS})", "configuration", "dns", "verify", "monitor"
    ]  # fmt: skip
    assert [step.name for step in drill.steps if step.practised] == ["database", "files"]
    assert 0 < drill.recovery_milliseconds < drill.rto_milliseconds
    database = proof_of(record)
    assert (database.recovery_point, database.target) == (story.new.manifest.recovery_point, "primary")
    # Nobody was asked: there is no time that this took.
    assert set(database.milliseconds) == {"find", "fetch", "decrypt", "stage", "replay", "open", "check"}
    assert all(outcomes(database).values())
    assert database.newest_change is not None
    assert abs((database.newest_change - story.moments[4]).total_seconds()) < 1
    assert database.lost_milliseconds is not None
    assert "before the incident" in what_of(database, "recovery point")
    assert list(story.place.iterdir()) == []


def test_the_record_is_on_every_target_announced_and_each_step_stands_signed_in_the_journal(story: Story) -> None:
    with story.saying():
        record = story.drill()
    for target in ("primary", "offsite", "local"):
        assert record in story.records(target)
    assert record.sha256 in [event.details["sha256"] for event in story.line.events("evidence_recorded")]
    (begun,) = [one for one in story.line.events("drill_begun") if one.details["begun"] == record.begun.isoformat()]
    assert begun.details["scenario"] == "total_loss"
    steps = [one for one in story.line.events("drill_step") if one.details["drill"] == begun.details["drill"]]
    assert [one.details["step"] for one in steps] == [
        "provision", "code", "database.database", "files.papers", "configuration", "dns", "verify", "monitor"
    ]  # fmt: skip


def test_with_the_primary_target_lost_everything_comes_from_off_site_alone(story: Story) -> None:
    with story.saying(), story.away("primary"):
        record = story.drill("primary_lost")
    assert record.passed, record.model_dump_json(indent=1)
    assert {proof.target for proof in record.proofs} == {"offsite"}
    assert all(proof.tried == () for proof in record.proofs)
    assert record in story.records("offsite")
    assert record not in story.records("primary")


def test_a_primary_target_that_is_stopped_although_it_should_serve_is_passed_over_and_to_be_put_right(
    story: Story,
) -> None:
    with story.saying(), story.away("primary"):
        record = story.drill("total_loss")
    assert record.passed, record.model_dump_json(indent=1)
    database = proof_of(record)
    assert database.target == "offsite"
    assert [(one.target, one.recovery_point) for one in database.tried] == [("primary", "")]
    assert "primary could not be read" in what_of(database, "fallen back")
    actions = corrective_actions([record]).open
    assert {(one.finding.source, one.finding.topic) for one in actions} == {
        (SOURCE, Topic.FALLEN_BACK), (PAPERS, Topic.FALLEN_BACK)
    }  # fmt: skip


def test_with_every_target_stopped_there_is_no_drill_and_that_is_said(story: Story) -> None:
    with story.saying(), story.away("primary"), ExitStack() as away:
        for place in (story.line.directory / "offsite", story.line.system.local):
            place.rename(place.with_name("gone"))
            away.callback(place.with_name("gone").rename, place)
        with pytest.raises(TargetUnavailable, match="No target of demo can be read"):
            story.drill()


def test_without_its_key_file_a_system_does_not_come_back_and_the_record_says_so(story: Story) -> None:
    key = story.line.system.keys / "local.key"
    with story.saying():
        key.rename(key.with_name("lost"))
        try:
            record = story.drill("total_loss")
        finally:
            key.with_name("lost").rename(key)
    assert not record.passed
    assert record in story.records("primary")
    assert all("No wrapping key can be used here" in proof.error for proof in record.proofs)
    assert all("demo-local" in proof.error for proof in record.proofs)
    assert all(proof.remedy for proof in record.proofs)
    drill = record.drill
    assert drill is not None
    # One failure keeps nothing else from being tried.
    assert [(step.name, step.passed) for step in drill.steps if step.source] == [("database", False), ("files", False)]
    assert [step.name for step in drill.steps][-3:] == ["dns", "verify", "monitor"]


def test_with_the_key_service_lost_the_break_glass_key_alone_opens_everything(story: Story) -> None:
    key, glass = story.line.system.keys / "local.key", story.line.system.break_glass
    with story.saying(f"drills: {{break_glass: {glass}}}\n"):
        key.rename(key.with_name("lost"))
        try:
            record = story.drill("key_lost")
        finally:
            key.with_name("lost").rename(key)
    assert record.passed, record.model_dump_json(indent=1)


def test_a_break_glass_key_that_nobody_brought_fails_the_drill_and_says_where_it_belongs(
    story: Story, tmp_path: Path
) -> None:
    with story.saying(f"drills: {{break_glass: {tmp_path}/from-the-safe.pem}}\n"):
        record = story.drill("key_lost")
    assert not record.passed
    assert "not at" in proof_of(record).error
    assert "from the safe" in proof_of(record).remedy


def test_a_scenario_for_which_something_is_missing_is_refused_before_anything_begins(story: Story) -> None:
    before = len(story.line.events("drill_begun"))
    with story.saying():
        with pytest.raises(RestoreError, match="break-glass key is not at hand"):
            story.drill("key_lost")
        with pytest.raises(RestoreError, match="no recovery kit is named"):
            story.drill("airflow_lost", break_glass=(story.line.system.break_glass,))
        with pytest.raises(RestoreError, match="has not happened yet"):
            story.drill(incident=story.moments[4] + timedelta(days=1))
    assert len(story.line.events("drill_begun")) == before


def test_corruption_found_late_is_gone_back_before_and_what_came_after_it_is_proved_not_to_be_there(
    story: Story,
) -> None:
    corrupted = story.moments[3] + (story.moments[4] - story.moments[3]) / 2
    with story.saying():
        record = story.drill("late_corruption", incident=corrupted, checks=(rows("3 to 3"),))
    database, papers = proof_of(record), proof_of(record, PAPERS)
    assert outcomes(database)["rows.sql"]
    assert outcomes(database)["nothing after the incident"]
    assert database.newest_change is not None
    assert database.newest_change <= corrupted
    assert database.moment == corrupted
    assert database.lost_milliseconds == 0
    assert papers.moment is not None
    assert papers.moment <= corrupted
    assert record.passed


def test_what_reached_its_target_after_the_incident_is_not_used(story: Story) -> None:
    # Between the second full's commit and the last WAL there is a moment at which nobody had row 4.
    incident = story.new.manifest.committed + timedelta(milliseconds=1)
    with story.saying():
        record = story.drill(incident=incident, checks=(rows("3 to 3"),))
    database = proof_of(record)
    assert database.recovery_point == story.new.manifest.recovery_point
    assert outcomes(database)["rows.sql"]
    assert database.newest_change is not None
    assert database.newest_change <= incident
    # It was copied off-site later: at that moment only the primary target had it.
    with story.saying():
        offsite = story.drill("primary_lost", incident=incident)
    assert list(offsite.lacking) == [SOURCE]
    assert not offsite.passed


def test_a_newest_full_that_is_damaged_on_one_target_comes_from_the_other_and_costs_time_alone(story: Story) -> None:
    with story.saying(), story.damaged(story.new, "primary"):
        record = story.drill()
    assert record.passed, record.model_dump_json(indent=1)
    database = proof_of(record)
    assert (database.target, database.recovery_point) == ("offsite", story.new.manifest.recovery_point)
    assert [(one.target, one.recovery_point) for one in database.tried] == [
        ("primary", story.new.manifest.recovery_point)
    ]
    assert "this costs no data and " in what_of(database, "fallen back")
    assert database.milliseconds["failed tries"] > 0


def test_a_newest_full_that_is_damaged_everywhere_gives_way_to_the_chain_before_it(story: Story) -> None:
    with story.saying(), story.damaged(story.new, "primary", "offsite"):
        record = story.drill(checks=(rows("4 to 4"),))
    assert record.passed, record.model_dump_json(indent=1)
    database = proof_of(record)
    # WAL leads on from the older full to the same moment.
    assert database.recovery_point == story.old.manifest.recovery_point
    assert {one.target for one in database.tried} == {"primary", "offsite"}
    assert outcomes(database)["rows.sql"]
    assert [one.finding.topic for one in corrective_actions([record]).open] == [Topic.FALLEN_BACK]


def test_wal_that_is_damaged_everywhere_costs_what_it_held(story: Story) -> None:
    newest = story.runs[-1]
    with story.saying(), story.damaged(newest, "primary", "offsite", pattern="0*.zst.enc"):
        record = story.drill(checks=(rows("3 to 3"),))
    assert record.passed, record.model_dump_json(indent=1)
    database = proof_of(record)
    assert database.recovery_point == story.new.manifest.recovery_point
    assert outcomes(database)["rows.sql"]
    assert database.data_until == story.new.manifest.moment
    assert len(database.tried) >= 2
    assert "this costs the data of" in what_of(database, "fallen back")


def test_falling_back_to_older_files_says_what_it_costs_and_fails_beyond_the_objective(story: Story) -> None:
    snapshots = story.line.repository.catalogue("primary").recovery_points(PAPERS).copies
    older, newest = snapshots
    with story.saying(), story.damaged(newest, "primary", "offsite", pattern="pack-*"):
        record = story.drill()
    papers = proof_of(record, PAPERS)
    assert record.passed, record.model_dump_json(indent=1)
    assert papers.recovery_point == older.manifest.recovery_point
    cost = (newest.manifest.moment - older.manifest.moment).total_seconds()
    assert f"this costs the data of {cost:.1f} s and " in what_of(papers, "fallen back")
    assert papers.lost_milliseconds is not None
    assert papers.lost_milliseconds >= cost * 1000
    with story.saying(**{"rpo: 15m": "rpo: 1s"}), story.damaged(newest, "primary", "offsite", pattern="pack-*"):
        failed = story.drill()
    assert not failed.passed
    assert not outcomes(proof_of(failed, PAPERS))["recovery point"]


def test_a_source_that_is_damaged_everywhere_fails_and_the_others_come_back(story: Story) -> None:
    with (
        story.saying(),
        story.damaged(story.old, "primary", "offsite"),
        story.damaged(story.new, "primary", "offsite"),
    ):
        record = story.drill()
    assert not record.passed
    database, papers = proof_of(record), proof_of(record, PAPERS)
    assert database.error
    assert database.remedy
    assert len(database.tried) >= 3
    assert papers.passed
    assert list(story.place.iterdir()) == []


def test_a_system_that_is_not_back_in_time_has_failed_although_each_source_was(story: Story) -> None:
    with story.saying(**{"rto: 1h": "rto: 1s\n  sources: {database: {rto: 1h}, papers: {rto: 1h}}"}):
        record = story.drill()
    assert all(proof.passed for proof in record.proofs)
    assert record.drill is not None
    assert not record.drill.in_time
    assert not record.passed
    assert [one.finding.topic for one in corrective_actions([record]).open] == [Topic.SYSTEM_TIME]


def test_a_source_of_which_there_is_nothing_is_lacking_and_the_others_come_back(story: Story) -> None:
    more = """
  later:
    kind: files
    url: file:///srv/later
    queue: here
    tiers:
      daily: {schedule: "0 3 * * *", retention: 30d}
  papers:
"""
    with story.saying(**{"\n  papers:\n": more}):
        record = story.drill()
    assert not record.passed
    assert list(record.lacking) == ["later"]
    assert all(proof.passed for proof in record.proofs)


def test_scenarios_come_in_turn(story: Story) -> None:
    with story.saying("drills: {scenarios: [total_loss, primary_lost]}\n"):
        chosen = [record.drill.scenario for record in (story.drill(None), story.drill(None)) if record.drill]
    assert set(chosen) == {"total_loss", "primary_lost"}


def test_steps_of_several_processes_make_one_record_and_what_a_killed_one_left_out_has_failed(story: Story) -> None:
    with story.saying():
        story.practice(drill="0a0b0c0d", part="provision").begin()
        story.practice(drill="0a0b0c0d", part="database").step(PlannedStep("database", SOURCE))
        record = story.practice(drill="0a0b0c0d", part="record").conclude()
    assert not record.passed
    assert proof_of(record).passed
    assert record.drill is not None
    lost = [step for step in record.drill.steps if not step.passed]
    assert "files" in [step.name for step in lost]
    assert all("left no result" in step.what for step in lost)


def test_a_step_of_a_drill_that_was_never_begun_is_refused(story: Story) -> None:
    with story.saying(), pytest.raises(RestoreError, match="No drill 0000ffff of demo was begun"):
        story.practice(drill="0000ffff").step(PlannedStep("dns"))


def test_an_auditor_s_script_believes_the_record_of_a_drill_and_finds_one_that_was_changed(
    story: Story, tmp_path: Path
) -> None:
    with story.saying():
        begun = story.repository().outside.clock()
        record = story.drill()
    repository = story.line.repository
    period = Period.of(begun, repository.outside.clock())
    archive = tmp_path / "evidence.tar.gz"
    write_archive(gather(repository, "primary", period, made_by="a test", tick=lambda: None), archive)
    told = subprocess.run([sys.executable, SCRIPT, archive], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
    assert f"passed  records/{record.id}.json" in told.stdout
    changed = record.to_json().replace(b'"scenario":"total_loss"', b'"scenario":"primary_lost"')
    with pytest.raises(ManifestInvalid):
        parse_record(changed, record.key, repository.trusted)
