"""Where the command line restores freely, and what it takes elsewhere: an approved request, or a broken glass."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lifeboat.recovery.approval.options import RestoreOptions
from lifeboat.recovery.approval.records import APPROVALS, REQUESTS, approval_journal, write_approval, write_request
from lifeboat.recovery.approval.request import RestoreRequest, new_request_id, pinned
from lifeboat.recovery.evidence import Record
from lifeboat.recovery.keeping import read_evidence
from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.manifest import Run
from sandbox.slack import SlackReceiver
from tests.cli.test_files import Desk, desk
from tests.files.conftest import FILES, demo_system, files, make_world
from tests.files.test_snapshots import write

__all__ = ["demo_system", "desk", "files", "make_world"]


@pytest.fixture
def slack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackReceiver]:
    with SlackReceiver(tmp_path / "slack") as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_DEMO_SLACK", receiver.airflow_connection())
        yield receiver


@pytest.fixture
def lost(desk: Desk, slack: SlackReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A set of files that was backed up; its directory for temporary files is not where everything of a test lies."""
    assert slack.url
    policy = desk.files.world.policy
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    who = f"restore: {{approvers: [ann, ben, cleo], scratch: [{tmp_path / 'ours'}]}}\n"
    policy.write_text(policy.read_text() + who)
    (tmp_path / "ours").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    write(desk.files, "invoices/1.pdf", "first")
    told = desk.say("backup", "demo", FILES, "--tier", "daily")
    assert told.code == 0, told.err
    return desk


def restore(desk: Desk, into: Path, *words: str) -> tuple[int, str]:
    told = desk.say("restore", "demo", FILES, "--into", str(into), "--yes", *words)
    return told.code, told.err


def events(desk: Desk, kind: str) -> list[Event]:
    repository = desk.files.world.repository()
    found = read_journal(repository.target("primary"), "demo", repository.trusted)
    return [event for event in found if isinstance(event, Event) and event.kind == kind]


def records(desk: Desk) -> list[Record]:
    repository = desk.files.world.repository()
    now = datetime.now(UTC)  # the command line's own clock
    target = repository.target("primary")
    found = read_evidence(target, "demo", repository.trusted, since=now - timedelta(days=40), until=now)
    return [one for one in found if isinstance(one, Record)]


def test_scratch_places_are_free(lost: Desk, tmp_path: Path) -> None:
    assert restore(lost, tmp_path / "scratch" / "back")[0] == 0
    assert restore(lost, tmp_path / "ours" / "back")[0] == 0


def test_elsewhere_it_needs_leave_and_says_how_to_get_it(lost: Desk, tmp_path: Path) -> None:
    place = tmp_path / "live"
    code, said = restore(lost, place)
    assert code == 1
    assert f"{place} is no scratch place" in said
    for way in ("demo_restore", "restore.scratch", "--break-glass REASON"):
        assert way in said
    assert not place.exists()
    assert restore(lost, place, "--plan")[0] == 0  # to look is free
    assert restore(lost, place, "--break-glass", " ")[0] == 1
    assert events(lost, "restore_begun") == []


def test_a_link_out_of_a_scratch_place_is_no_scratch_place(lost: Desk, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "scratch" / "way").symlink_to(tmp_path / "live")
    assert "is no scratch place" in restore(lost, tmp_path / "scratch" / "way" / "back")[1]
    assert "is no scratch place" in restore(lost, tmp_path / "scratch" / ".." / "live" / "back")[1]
    assert "is no scratch place" in restore(lost, tmp_path / "ours")[1]


def test_a_broken_glass_is_recorded_and_told_to_everybody(lost: Desk, tmp_path: Path, slack: SlackReceiver) -> None:
    code, said = restore(lost, tmp_path / "live", "--break-glass", "nobody of <us> is awake")
    assert code == 0, said
    [begun] = events(lost, "restore_begun")
    assert begun.details["glass_broken"] == "nobody of <us> is awake"
    assert records(lost)[-1].reason == "glass broken: nobody of <us> is awake"
    [message] = slack.messages()
    for piece in ("the glass is broken", str(tmp_path / "live"), "nobody of &lt;us&gt; is awake"):
        assert piece in message.text


def test_a_broken_glass_restores_although_nobody_can_be_told(
    lost: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DEMO_SLACK", "slackwebhook://:secret-part@127.0.0.1:1")
    code, said = restore(lost, tmp_path / "live", "--break-glass", "the network is gone")
    assert code == 0, said
    assert "The channel operations was not told" in said
    assert "secret-part" not in said


def requested(desk: Desk, into: Path, *approvers: str) -> RestoreRequest:
    """A request as Airflow makes one."""
    desk.files.world.clock.now = now = datetime.now(UTC)  # the command line's own
    repository = desk.files.world.repository()
    plan = desk.say("restore", "demo", FILES, "--into", str(into), "--plan", "--json").json
    options = pinned(RestoreOptions(into=str(into)), plan)
    request = RestoreRequest(
        id=new_request_id(now), system="demo", source=FILES, options=options, destination="worker_directory",
        requester="ann", reason="the disk is gone", ticket="OPS-7",
        run=Run(dag_id="demo_restore", run_id="manual__1", try_number=1), made=now,
        expires=now + timedelta(hours=8), policy_digest=repository.loaded.digest, plan={"target": plan["target"]},
    )  # fmt: skip
    write_request(approval_journal(repository, REQUESTS, "a test"), request)
    for name in approvers:
        desk.files.world.clock.advance(seconds=0.01)
        write_approval(approval_journal(repository, APPROVALS, "a test"), request, name, now)
    return request


def test_an_approved_request_is_carried_out_as_it_stands_and_once(lost: Desk, tmp_path: Path) -> None:
    request = requested(lost, tmp_path / "live", "ben", "cleo")
    write(lost.files, "invoices/1.pdf", "changed after the plan")
    assert lost.say("backup", "demo", FILES, "--tier", "incremental").code == 0
    told = lost.say("restore", "demo", FILES, "--approval", request.id, "--yes")
    assert told.code == 0, told.err
    assert "approved by ben, cleo" in told.err
    assert (tmp_path / "live" / "invoices" / "1.pdf").read_text() == "first"  # what was shown, whatever came after
    record = records(lost)[-1]
    assert (record.actor, record.reason) == ("airflow user ann, approved by ben and cleo", "the disk is gone · OPS-7")
    assert record.run.run_id == "manual__1"
    assert "approve" in record.proofs[0].milliseconds
    again = lost.say("restore", "demo", FILES, "--approval", request.id, "--yes")
    assert again.code == 1
    assert "began by it already" in again.err


def test_a_request_that_one_person_approved_is_not_carried_out(lost: Desk, tmp_path: Path) -> None:
    request = requested(lost, tmp_path / "live", "ben")
    told = lost.say("restore", "demo", FILES, "--approval", request.id, "--yes")
    assert told.code == 1
    assert "needs the approval of 2 people, and has 1 (ben)" in told.err
    assert not (tmp_path / "live").exists()


def test_nothing_is_added_to_an_approved_request(lost: Desk, tmp_path: Path) -> None:
    request = requested(lost, tmp_path / "live", "ben", "cleo")
    for words in (("--into", str(tmp_path / "other")), ("--target", "offsite"), ("--break-glass", "both")):
        told = lost.say("restore", "demo", FILES, "--approval", request.id, "--yes", *words)
        assert told.code == 1
        assert "and no other option" in told.err
    assert events(lost, "restore_begun") == []


def test_a_restore_whose_use_of_an_approval_can_not_be_recorded_does_not_begin(lost: Desk, tmp_path: Path) -> None:
    request = requested(lost, tmp_path / "live", "ben", "cleo")
    key = lost.files.world.loaded.policy.signing.key.file
    assert key is not None
    gone = key.rename(key.with_suffix(".gone"))
    try:
        told = lost.say("restore", "demo", FILES, "--approval", request.id, "--yes")
    finally:
        gone.rename(key)  # other tests sign with it, too
    assert told.code == 1
    assert "could not be recorded" in told.err
    assert not (tmp_path / "live").exists()


def test_an_approval_is_used_up_by_a_restore_that_failed(lost: Desk, tmp_path: Path) -> None:
    request = requested(lost, tmp_path / "live", "ben", "cleo")
    for volume in lost.files.world.roots["local"].glob(f"demo/{FILES}/*/attempt-*/pack-*"):
        volume.chmod(0o600)
        volume.write_bytes(volume.read_bytes()[:-9])
    told = lost.say("restore", "demo", FILES, "--approval", request.id, "--yes")
    assert told.code == 1
    assert not (tmp_path / "live").exists()
    assert len(events(lost, "restore_failed")) == 1
    assert "began by it already" in lost.say("restore", "demo", FILES, "--approval", request.id, "--yes").err
