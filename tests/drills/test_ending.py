"""How drills end: asked by hooks, stopped, killed; and what the next one finds."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat.errors import Cancelled
from lifeboat.recovery.actions import Topic, corrective_actions
from lifeboat.recovery.evidence import Record, Step
from lifeboat.recovery.reporting import reports_of
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.repository.manifest import Run
from sandbox.postgres_builds import binaries
from tests.drills.killed_drill import PHASES, killed_drill
from tests.drills.story import PAPERS, Story, outcomes, proof_of, what_of
from tests.proving.test_restore_test import servers_in
from tests.recovery.line import SOURCE

ASKING = f"""
  application:
    {SOURCE}:
      kind: command
      command: [{binaries()}/psql, --no-psqlrc, --tuples-only, "--command=SELECT 'rows: ' || count(*) FROM ledger"]
    {PAPERS}: {{kind: command, command: [sh, -c, 'cat "$LIFEBOAT_DIRECTORY"/*.txt; touch asked; WAIT']}}
"""
HEARTBEAT = f"  heartbeat: {{source: {SOURCE}, database: postgres, query: QUERY}}\n"


def asking(wait: str = "true", more: str = "") -> str:
    return f"drills:{ASKING.replace('WAIT', wait)}{more}"


def step_of(record: Record, name: str) -> Step:
    assert record.drill is not None
    return next(step for step in record.drill.steps if step.name == name)


def test_the_application_is_asked_while_the_restored_copy_is_there(story: Story) -> None:
    with story.saying(asking()):
        record = story.drill()
    assert record.passed, record.model_dump_json(indent=1)
    assert what_of(proof_of(record), "application") == "psql ended well: rows: 4"
    assert what_of(proof_of(record, PAPERS), "application") == "sh ended well: firstsecond"
    assert list(story.place.iterdir()) == []


def test_a_restore_test_asks_the_application_as_well(story: Story) -> None:
    with story.saying(asking("false").replace("drills:", 'tests:\n  schedule: "0 6 * * 1#1"')):
        wish = Wish(sources=(PAPERS,), scratch=story.place, target="primary")
        record = RestoreTest(story.repository(), wish, Run(command="lifeboat test"), "a test").carry_out()
    assert not record.passed
    assert [outcomes(proof)["application"] for proof in record.proofs] == [False, False]
    assert what_of(record.proofs[0], "application") == "sh ended with code 1: firstsecond"


def test_a_heartbeat_tells_what_was_lost_where_the_policy_has_one(story: Story) -> None:
    beat = story.moments[4].isoformat()
    with story.saying(asking(more=HEARTBEAT.replace("QUERY", f"\"SELECT timestamptz '{beat}'\""))):
        record = story.drill(incident=None)
    database = proof_of(record)
    assert record.drill is not None
    assert database.lost_milliseconds == int((record.drill.incident - story.moments[4]).total_seconds() * 1000)
    with story.saying(asking(more=HEARTBEAT.replace("QUERY", "SELECT 1"))):
        failed = story.drill()
    assert what_of(proof_of(failed), "heartbeat") == "its query gives no moment with a time zone"
    assert not failed.passed


def test_a_hook_that_fails_fails_its_step_and_keeps_no_later_one_from_being_made(story: Story, tmp_path: Path) -> None:
    hooks = f"""drills:
  hooks:
    provision: {{kind: command, command: [sh, -c, 'echo no servers; exit 7']}}
    dns: {{kind: http, url: 'http://127.0.0.1:9/zone'}}
    verify: {{kind: command, command: [sh, -c, 'echo "$LIFEBOAT_SCENARIO $LIFEBOAT_STEP" > {tmp_path}/told']}}
"""
    tmp_path.chmod(0o777)
    with story.saying(hooks):
        record = story.drill()
    assert not record.passed
    assert all(proof.passed for proof in record.proofs)
    assert step_of(record, "provision").what == "sh ended with code 7: no servers"
    assert "ConnectionRefusedError" in step_of(record, "dns").what
    assert step_of(record, "verify").passed
    assert (tmp_path / "told").read_text() == "total_loss verify\n"
    assert {one.finding.source for one in corrective_actions([record]).open} == {"provision", "dns"}
    assert {one.finding.topic for one in corrective_actions([record]).open} == {Topic.STEP}
    report = reports_of(record, [], story.line.repository.policy.zone, record.ended).markdown
    assert report.startswith("# FAILED: drill of demo (total loss of the system)")
    assert "Steps that failed: provision, dns." in report.splitlines()[2]


VERIFYING = f"""drills:
  hooks:
    verify:
      kind: command
      command:
        - sh
        - -c
        - |
          case $LIFEBOAT_SOURCE in
            {SOURCE}) {binaries()}/psql --no-psqlrc --no-align --tuples-only --command='SELECT count(*) FROM ledger';;
            *) cat "$LIFEBOAT_DIRECTORY"/*.txt;;
          esac
          echo "$LIFEBOAT_STEP"; WAIT
    monitor: {{kind: command, command: [sh, -c, 'ls -A "{{place}}"']}}
"""


def test_the_hook_verify_is_called_while_what_came_back_is_there_and_monitor_afterwards(story: Story) -> None:
    with story.saying(VERIFYING.replace("WAIT", "true").replace("{place}", str(story.place))):
        record = story.drill()
    assert record.passed, record.model_dump_json(indent=1)
    seen = {SOURCE: "sh ended well: 4 | verify", PAPERS: "sh ended well: firstsecondverify"}
    assert {proof.source: what_of(proof, "verify") for proof in record.proofs} == seen
    assert step_of(record, "verify").what == "; ".join(f"{source}: {what}" for source, what in seen.items())
    assert step_of(record, "monitor").what == "sh ended well"


def test_a_system_that_does_not_stand_the_hook_verify_fails_that_step(story: Story) -> None:
    with story.saying(VERIFYING.replace("WAIT", f'test "$LIFEBOAT_SOURCE" = {SOURCE}')):
        record = story.drill()
    assert not record.passed
    assert [(proof.source, proof.passed) for proof in record.proofs] == [(SOURCE, True), (PAPERS, False)]
    verify = step_of(record, "verify")
    assert not verify.passed
    assert f"{PAPERS}: sh ended with code 1" in verify.what
    assert step_of(record, "monitor").practised


def test_a_drill_that_is_stopped_leaves_nothing_and_has_no_record(story: Story) -> None:
    before = story.records("primary")

    def stop_when_the_server_runs() -> None:
        if servers_in(story.place):
            raise Cancelled("Stopped.")

    with story.saying(), pytest.raises(Cancelled):
        story.drill(tick=stop_when_the_server_runs)
    assert list(story.place.iterdir()) == []
    assert servers_in(story.place) == []
    assert story.records("primary") == before


@pytest.mark.parametrize("phase", PHASES)
def test_a_drill_that_is_killed_leaves_no_server_and_the_next_removes_what_it_left(story: Story, phase: str) -> None:
    # What the hook starts has a session of its own, and another parent once the hook is gone.
    with story.saying(asking("setsid sleep 600 & exec sleep 600")):
        child = killed_drill(story.line.system.policy, story.place, phase)
        child.start()
        child.join()
    assert child.exitcode == -signal.SIGKILL
    for pid in servers_in(story.place):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(20)
    assert servers_in(story.place) == []
    assert list(story.place.iterdir()) != []
    with story.saying():
        assert story.drill().passed
    assert list(story.place.iterdir()) == []
