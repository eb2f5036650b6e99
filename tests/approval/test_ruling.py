"""Whether a restore may begin: one good way, and everything else is an objection."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.policy.people import RestorePolicy, folded
from lifeboat.recovery.approval.options import RestoreOptions
from lifeboat.recovery.approval.request import RestoreRequest
from lifeboat.recovery.approval.ruling import Approval, Found, approvers_of, objection_to, objections
from tests.approval.requests import MADE, request

POLICY = RestorePolicy(approvers=("ann", "ben", "cleo", "Dora"))
REQUEST = request()
LATER = MADE + timedelta(hours=1)


def yes(approver: str, one: RestoreRequest = REQUEST, *, at: datetime = LATER) -> Approval:
    return Approval(one.id, one.sha256, approver, at)


GOOD = Found((REQUEST,), (yes("ben"), yes("cleo")))


def against(found: Found, *, now: datetime = LATER, policy: RestorePolicy = POLICY, of: str = REQUEST.id) -> str:
    return " ".join(objections(found, of, policy, now))


def test_two_others_who_may_and_it_begins() -> None:
    assert against(GOOD) == ""
    assert approvers_of(GOOD, REQUEST, POLICY) == ["ben", "cleo"]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Found(), "holds no request"),
        (replace(GOOD, requests=(REQUEST, REQUEST)), "more than one request"),
        (replace(GOOD, approvals=()), "approval of 2 people, and has 0."),
        (replace(GOOD, approvals=(yes("ben"),)), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes("ben"))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes("BEN "))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes("ann"))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes("Ann"))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes("eve"))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes(""))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes("cleo", request()))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), replace(yes("cleo"), sha256="0" * 64))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes("cleo", at=MADE - timedelta(seconds=1)))), "has 1 (ben)"),
        (replace(GOOD, approvals=(yes("ben"), yes("cleo", at=MADE + timedelta(hours=9)))), "has 1 (ben)"),
        (replace(GOOD, refusals=("dora said no",)), "refused: dora said no."),
        (replace(GOOD, uses=("ab" * 32,)), "began by it already"),
        (replace(GOOD, unreadable=("the event x is forged.",)), "can't be believed: the event x is forged."),
    ],
)
def test_it_does_not_begin(found: Found, words: str) -> None:
    assert words in against(found)


def test_it_does_not_begin_too_late_or_before_it_was_asked_for() -> None:
    assert "It stood until 2026-11-27 11:15:00 UTC" in against(GOOD, now=MADE + timedelta(hours=9))
    assert "It stood until" in against(GOOD, now=MADE - timedelta(seconds=1))


def test_who_may_is_what_the_policy_says_now() -> None:
    assert "has 1 (ben)" in against(GOOD, policy=RestorePolicy(approvers=("ben", "Dora")))
    three = RestorePolicy(approvals=3, approvers=("ben", "cleo", "Dora"))
    assert "approval of 3 people, and has 2" in against(GOOD, policy=three)
    assert "has 0" in against(GOOD, policy=RestorePolicy())


def test_a_scratch_place_alone_can_be_exempt_and_everything_else_holds_for_it() -> None:
    exempt = POLICY.model_copy(update={"exempt_scratch": True})
    scratch = request(destination="scratch")
    found = Found((scratch,))
    assert "has 0" in against(found, of=scratch.id)
    assert against(found, of=scratch.id, policy=exempt) == ""
    assert "began by it already" in against(replace(found, uses=("ab" * 32,)), of=scratch.id, policy=exempt)
    assert "has 0" in against(Found((REQUEST,)), policy=exempt)


def test_an_objection_names_who_and_why() -> None:
    assert objection_to(REQUEST.requester, "ben", POLICY, []) == ""
    assert objection_to(REQUEST.requester, "dora", POLICY, []) == ""
    assert objection_to("", "ben", POLICY) == ""  # a schedule asks for a drill
    assert "not known who" in objection_to(REQUEST.requester, None, POLICY, [])
    assert "not known who" in objection_to(REQUEST.requester, " ", POLICY, [])
    assert "asked for it" in objection_to(REQUEST.requester, "ANN", POLICY, [])
    assert "not among those" in objection_to(REQUEST.requester, "eve", POLICY, [])
    assert "another person must" in objection_to(REQUEST.requester, "ben", POLICY, ["Ben"])


def test_a_request_is_another_when_anything_in_it_is() -> None:
    for field, value in {
        "requester": "ben", "reason": "other", "ticket": "T-1", "source": "files", "destination": "scratch",
        "expires": REQUEST.expires + timedelta(seconds=1), "plan": {"target": "offsite"},
        "options": RestoreOptions(into="/srv/other", target="primary"), "host": "db1",
    }.items():  # fmt: skip
        assert REQUEST.model_copy(update={field: value}).sha256 != REQUEST.sha256, field


NAMES = st.sampled_from(["ann", "Ann", "ben", "BEN", "cleo", "dora", "Dora", "eve", "", " ben "])
APPROVALS = st.builds(
    Approval,
    st.sampled_from([REQUEST.id, "20261127T031500Z-restore-00000000"]),
    st.sampled_from([REQUEST.sha256, "0" * 64]),
    NAMES,
    st.integers(-3600, 10 * 3600).map(lambda seconds: MADE + timedelta(seconds=seconds)),
)


@given(
    approvals=st.lists(APPROVALS, max_size=6),
    refusals=st.lists(st.just("no"), max_size=1),
    uses=st.lists(st.just("ab" * 32), max_size=2),
    now=st.integers(-3600, 10 * 3600).map(lambda seconds: MADE + timedelta(seconds=seconds)),
)
def test_whatever_begins_was_approved_by_two_who_may_in_time_and_never_refused_or_used(
    approvals: list[Approval], refusals: list[str], uses: list[str], now: datetime
) -> None:
    found = Found((REQUEST,), tuple(approvals), tuple(refusals), tuple(uses))
    if objections(found, REQUEST.id, POLICY, now):
        return
    may = {folded(name) for name in POLICY.approvers} - {"ann"}
    people = {
        folded(one.approver)
        for one in approvals
        if (one.request, one.sha256) == (REQUEST.id, REQUEST.sha256) and MADE <= one.time <= REQUEST.expires
    }
    assert len(people & may) >= 2
    assert not refusals
    assert not uses
    assert MADE <= now <= REQUEST.expires
