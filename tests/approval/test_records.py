"""Requests and approvals in the journal of real targets: found on any of them, believed on none that was changed."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest

from lifeboat.errors import RestoreError, TargetUnavailable
from lifeboat.recovery.approval.records import (
    APPROVALS,
    REQUESTS,
    USES,
    approval_journal,
    approved,
    ended_restore,
    found_of,
    insist_on_first_use,
    request_of_run,
    write_approval,
    write_refusal,
    write_request,
)
from lifeboat.recovery.approval.request import RestoreRequest
from lifeboat.repository.journal import Event
from lifeboat.repository.system import SystemRepository
from tests.approval.requests import request
from tests.repository.world import World

WHO = "restore: {approvers: [ann, ben, cleo]}\n"


@pytest.fixture
def guarded(world: World) -> World:
    world.policy.write_text(world.policy.read_text() + WHO)
    return world


def asked(world: World, repository: SystemRepository, *approvers: str, **more: object) -> RestoreRequest:
    one = request(world.clock(), **more)
    write_request(approval_journal(repository, REQUESTS, "a test"), one)
    for name in approvers:
        world.clock.advance(minutes=1)
        write_approval(approval_journal(repository, APPROVALS, "a test"), one, name, world.clock())
    return one


def use(repository: SystemRepository, one: RestoreRequest) -> Event:
    return approval_journal(repository, USES, "a test").write("restore_begun", source=one.source, request=one.id)


def test_what_two_people_approved_may_begin_once(guarded: World) -> None:
    repository = guarded.repository()
    one = asked(guarded, repository, "ben", "cleo")
    request_read, found = approved(repository, one.id, "database")
    assert request_read == one
    assert [approval.approver for approval in found.approvals] == ["ben", "cleo"]
    insist_on_first_use(repository, one.id, use(repository, one))
    with pytest.raises(RestoreError, match="began by it already"):
        approved(repository, one.id, "database")


def test_of_two_at_once_at_most_one_begins(guarded: World) -> None:
    repository = guarded.repository()
    one = asked(guarded, repository, "ben", "cleo")
    first, second = use(repository, one), use(repository, one)
    for each in (first, second):
        with pytest.raises(RestoreError, match="at the same time"):
            insist_on_first_use(repository, one.id, each)


def test_another_source_is_not_what_was_approved(guarded: World) -> None:
    repository = guarded.repository()
    one = asked(guarded, repository, "ben", "cleo")
    with pytest.raises(RestoreError, match="for the source database"):
        approved(repository, one.id, "files")


def test_what_is_no_id_of_a_request_is_refused_by_name(guarded: World) -> None:
    for text in ("yesterday", "20269927T031500Z-restore-7f3a12bc", "20261127T031500Z-full-7f3a12bc"):
        with pytest.raises(RestoreError, match="no id of a request"):
            approved(guarded.repository(), text, "database")


def test_the_events_are_found_on_whichever_target_has_them(guarded: World) -> None:
    repository = guarded.repository()
    one = asked(guarded, repository, "ben", "cleo")
    shutil.rmtree(guarded.roots["primary"] / "demo" / "journal")
    assert approved(guarded.repository(), one.id, "database")[0] == one


def test_a_use_that_one_target_lost_is_still_a_use(guarded: World) -> None:
    repository = guarded.repository()
    one = asked(guarded, repository, "ben", "cleo")
    event = use(repository, one)
    guarded.file(event.key).unlink()
    with pytest.raises(RestoreError, match="began by it already"):
        approved(guarded.repository(), one.id, "database")


def test_an_event_that_was_changed_on_every_target_stops_the_restore(guarded: World) -> None:
    repository = guarded.repository()
    one = asked(guarded, repository, "ben", "cleo")
    event = use(repository, one)
    for target in guarded.roots:
        place = guarded.file(event.key, target)
        document = json.loads(place.read_bytes())
        document["details"]["request"] = "another"
        place.chmod(0o600)
        place.write_text(json.dumps(document))
    with pytest.raises(RestoreError, match="can't be believed"):
        approved(guarded.repository(), one.id, "database")


def test_a_refusal_is_not_taken_back(guarded: World) -> None:
    repository = guarded.repository()
    one = asked(guarded, repository, "ben")
    write_refusal(approval_journal(repository, APPROVALS, "a test"), one, "cleo said no")
    write_approval(approval_journal(repository, APPROVALS, "a test"), one, "cleo", guarded.clock())
    with pytest.raises(RestoreError, match="refused: cleo said no"):
        approved(repository, one.id, "database")


def test_a_run_has_its_newest_request_and_no_other_runs(guarded: World) -> None:
    repository = guarded.repository()
    since = guarded.clock() - timedelta(days=1)
    asked(guarded, repository, "ben")
    guarded.clock.advance(minutes=5)
    newest = asked(guarded, repository)
    assert request_of_run(repository, "demo_restore", "manual__1", since) == newest
    with pytest.raises(RestoreError, match="no request of the run manual__2"):
        request_of_run(repository, "demo_restore", "manual__2", since)


def test_a_request_across_midnight_is_found(guarded: World) -> None:
    repository = guarded.repository()
    guarded.clock.advance(minutes=24 * 60 - (guarded.clock().hour * 60 + guarded.clock().minute) - 1)
    one = asked(guarded, repository, "ben", "cleo")
    assert approved(repository, one.id, "database")[0] == one
    assert ended_restore(repository, one.id) is None


def test_where_no_target_answers_nothing_is_approved(guarded: World) -> None:
    one = asked(guarded, guarded.repository(), "ben", "cleo")
    for root in guarded.roots.values():
        shutil.rmtree(root)
    with pytest.raises(TargetUnavailable, match="what was approved can't be known"):
        found_of(guarded.repository(), one.id)
