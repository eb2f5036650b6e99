"""What a scenario leaves, which steps there are, and what is tried first: pure functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifeboat.errors import RestoreError
from lifeboat.policy.drill_steps import PlannedStep, hook_of, planned_steps
from lifeboat.policy.drills import DrillPolicy
from lifeboat.policy.encryption import EncryptionPolicy, LocalKey, RsaPublicKey
from lifeboat.policy.loading import parse_policy
from lifeboat.policy.model import Policy
from lifeboat.policy.problems import PolicyRefused
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.recovery.comparing import changes_since
from lifeboat.recovery.drill.candidates import MOST_TRIED, Candidate, candidates
from lifeboat.recovery.drill.recovering import nothing_after
from lifeboat.recovery.drill.results import LOST, recovery_milliseconds, together, verified
from lifeboat.recovery.drill.scenarios import (
    SCENARIOS,
    choose_scenario,
    keys_left,
    moments_of,
    possible,
    targets_left,
    why_not,
)
from lifeboat.recovery.estimating import estimate
from lifeboat.recovery.evidence import Check, Drill, Proof, Record, Step
from lifeboat.recovery.offers import Chosen, OnTarget
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Manifest
from tests.policy.conftest import MINIMAL
from tests.proving.test_evidence import BEGUN, record

NOW = datetime(2026, 12, 31, 6, tzinfo=UTC)
OFFSITE = "  offsite:\n    url: s3://far/lifeboat\n    connection: far\n"
"""One more target."""


def policy_of(drills: str = "drills: {}\n", *, offsite: bool = True) -> Policy:
    text = MINIMAL + drills
    if offsite:
        text = text.replace("encryption:\n", f"{OFFSITE}encryption:\n", 1)
    return parse_policy(text.encode(), Path("shop.yaml")).policy


def drilled(scenario: str, days: int) -> Record:
    drill = Drill(
        scenario=scenario, incident=BEGUN, known_until=BEGUN, targets=("primary",), steps=(), rto_milliseconds=1,
        recovery_milliseconds=0,
    )  # type: ignore[arg-type]  # fmt: skip
    return record(kind="drill", begun=BEGUN + timedelta(days=days), drill=drill)


def test_without_a_break_glass_key_at_hand_neither_the_key_service_nor_airflow_can_be_lost() -> None:
    policy = policy_of()
    assert possible(policy, glass=False, kit=False) == ("total_loss", "primary_lost", "late_corruption")
    assert possible(policy, glass=True, kit=False) == ("total_loss", "primary_lost", "key_lost", "late_corruption")
    assert possible(policy, glass=True, kit=True) == SCENARIOS


def test_without_another_target_the_primary_one_can_not_be_lost() -> None:
    assert "primary_lost" not in possible(policy_of(offsite=False), glass=True, kit=True)


def test_what_the_policy_names_goes_before_what_could_be_done() -> None:
    policy = policy_of("drills: {scenarios: [primary_lost, total_loss]}\n")
    assert possible(policy, glass=False, kit=False) == ("primary_lost", "total_loss")
    assert choose_scenario(None, policy, [], glass=False, kit=False) == "primary_lost"


def test_a_policy_that_names_a_scenario_without_what_it_needs_is_refused() -> None:
    with pytest.raises(PolicyRefused, match="can't be practised"):
        policy_of("drills: {scenarios: [key_lost]}\n")
    with pytest.raises(PolicyRefused, match="Nobody can agree to a drill"):
        policy_of("drills: {approval: true}\n")
    with pytest.raises(PolicyRefused, match="no source `moon`"):
        policy_of("drills: {heartbeat: {source: moon, database: erp, query: SELECT now()}}\n")


@given(st.lists(st.sampled_from(SCENARIOS), max_size=12))
def test_the_scenario_that_was_practised_longest_ago_is_the_next(practised: list[str]) -> None:
    records = [drilled(scenario, day) for day, scenario in enumerate(practised)]
    chosen = choose_scenario(None, policy_of(), records, glass=True, kit=True)
    if never := [one for one in SCENARIOS if one not in practised]:
        assert chosen == never[0]
    else:
        last = {one: len(practised) - practised[::-1].index(one) for one in SCENARIOS}
        assert last[chosen] == min(last.values())


@given(st.sampled_from(SCENARIOS), st.booleans(), st.booleans())
def test_a_scenario_that_is_asked_for_is_made_or_refused_with_the_reason(scenario: str, glass: bool, kit: bool) -> None:
    policy = policy_of()
    if why := why_not(scenario, policy, glass=glass, kit=kit):  # type: ignore[arg-type]
        with pytest.raises(RestoreError, match=why):
            choose_scenario(scenario, policy, [], glass=glass, kit=kit)  # type: ignore[arg-type]
    else:
        assert choose_scenario(scenario, policy, [], glass=glass, kit=kit) == scenario  # type: ignore[arg-type]


@given(st.sampled_from(SCENARIOS), st.timedeltas(timedelta(), timedelta(days=90)))
def test_nothing_after_the_incident_is_known_unless_corruption_was_found_later(scenario: str, ago: timedelta) -> None:
    incident = NOW - ago
    moments = moments_of(scenario, incident, NOW, DrillPolicy())  # type: ignore[arg-type]
    assert moments.incident == incident
    late = scenario == "late_corruption"
    assert moments.known_until == (NOW if late else incident)
    assert moments.back_to == (incident if late else None)


def test_without_a_stated_moment_the_loss_is_now_and_the_corruption_a_day_ago() -> None:
    assert moments_of("total_loss", None, NOW, DrillPolicy()).incident == NOW
    assert moments_of("late_corruption", None, NOW, DrillPolicy()).incident == NOW - timedelta(days=1)
    with pytest.raises(RestoreError, match="has not happened yet"):
        moments_of("total_loss", NOW + timedelta(seconds=1), NOW, DrillPolicy())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_scenario_takes_away_what_it_says_and_nothing_else(scenario: str) -> None:
    left = targets_left(scenario, ["primary", "offsite"])  # type: ignore[arg-type]
    assert left == (["offsite"] if scenario == "primary_lost" else ["primary", "offsite"])
    local = LocalKey.model_validate({"name": "worker", "kind": "local", "file": "/etc/key"})
    glass = RsaPublicKey.model_validate({"name": "safe", "kind": "rsa_public", "public_key_file": "/etc/pub"})
    keys = keys_left(scenario, EncryptionPolicy(keys=[local, glass])).keys  # type: ignore[arg-type]
    assert keys == ([glass] if scenario == "key_lost" else [local, glass])


def test_the_eight_steps_are_there_whatever_sources_a_system_has() -> None:
    steps = planned_steps(policy_of())
    assert [step.id for step in steps] == [
        "provision", "code", "database.database", "files", "configuration", "dns", "verify", "monitor"
    ]  # fmt: skip
    assert [step.task for step in steps if step.source] == ["database"]
    assert PlannedStep("files", "uploads").task == "files_uploads"


def test_each_hook_belongs_to_its_step() -> None:
    hooks = "".join(
        f"    {name}: {{kind: command, command: [{name}]}}\n" for name in ("provision", "dns", "verify", "monitor")
    )
    policy = policy_of(f"drills:\n  hooks:\n{hooks}")
    found = {step.name: hook_of(policy, step) for step in planned_steps(policy)}
    assert {name: hook.command for name, hook in found.items() if hook is not None} == {
        name: (name,) for name in ("provision", "dns", "verify", "monitor")
    }  # type: ignore[union-attr]  # fmt: skip


def step(name: str, seconds: int) -> Step:
    return Step(name=name, begun=BEGUN, ended=BEGUN + timedelta(seconds=seconds), passed=True)


def test_a_step_that_left_no_result_has_failed() -> None:
    planned = [PlannedStep("dns"), PlannedStep("files", "uploads")]
    steps = together(planned, {"dns": step("dns", 1)})
    assert [(one.name, one.source, one.passed) for one in steps] == [("dns", "", True), ("files", "uploads", False)]
    assert steps[1].what == LOST


def test_what_was_not_there_to_be_verified_has_not_been_verified() -> None:
    def proof(source: str, *, passed: bool) -> Proof:
        check = Check(name="verify", passed=passed, what="seen")
        return record().proofs[0].model_copy(update={"source": source, "checks": (check,)})

    assert verified(["one", "two"], [proof("one", passed=True), proof("two", passed=True)])[0]
    assert not verified(["one", "two"], [proof("one", passed=True), proof("two", passed=False)])[0]
    assert verified(["one", "two"], [proof("one", passed=True)]) == (
        False, "one: seen; two: it was not there to be verified"
    )  # fmt: skip


@given(st.lists(st.integers(0, 10_000)))
def test_the_system_is_back_when_its_last_step_has_ended(seconds: list[int]) -> None:
    steps = [step("dns", each) for each in seconds]
    assert recovery_milliseconds(BEGUN, steps) == max(seconds, default=0) * 1000


@given(st.none() | st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_a_change_after_the_incident_is_found_and_one_before_it_is_kept(
    newest: datetime | None, until: datetime
) -> None:
    check = nothing_after(NOW, newest, until)
    assert check.passed == (newest is None or newest <= NOW)


def test_a_drill_is_compared_with_drills_alone_and_makes_no_estimate_of_a_restore() -> None:
    test, drill = record(begun=BEGUN), drilled("total_loss", 1)
    assert [change.before for change in changes_since(drilled("key_lost", 2), [test, drill])] == [drill]
    assert [change.before for change in changes_since(record(begun=BEGUN + timedelta(days=3)), [test, drill])] == [test]
    assert estimate([drill], "database", "primary", 5) is None
    assert estimate([test, drill], "database", "primary", 5) == estimate([test], "database", "primary", 5)


def snapshot(target: str, minute: int) -> Copy:
    moment = BEGUN + timedelta(minutes=minute)
    manifest = Manifest.model_construct(recovery_point=f"{moment:%Y%m%dT%H%M%SZ}-full-0000", moment=moment, kind="full")
    return Copy(manifest, b"", b"", target)


@given(
    st.dictionaries(st.sampled_from(["primary", "offsite", "local"]), st.sets(st.integers(0, 20)), max_size=3),
    st.none() | st.integers(-1, 21),
)
def test_what_loses_least_is_tried_first_and_nothing_after_the_moment_to_go_back_to(
    held: dict[str, set[int]], back: int | None
) -> None:
    by_target = {
        target: OnTarget(tuple(snapshot(target, minute) for minute in sorted(minutes)))
        for target, minutes in held.items()
    }
    back_to = None if back is None else BEGUN + timedelta(minutes=back)
    found = candidates(by_target, back_to)
    assert len(found) <= MOST_TRIED
    assert all(back_to is None or one.reaches <= back_to for one in found)
    order = list(by_target)
    places = [(-one.reaches.timestamp(), order.index(one.chosen.target)) for one in found]
    assert places == sorted(set(places))
    fitting = [minute for minutes in held.values() for minute in minutes if back is None or minute <= back]
    assert bool(found) == bool(fitting)
    if fitting:
        assert found[0].reaches == BEGUN + timedelta(minutes=max(fitting))
        assert found[0].chosen.chosen == ("newest" if back is None else "asked")


def test_a_cluster_comes_back_as_one_although_an_archive_is_a_little_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a target has is made up: a plan needs a whole chain."""
    plan = object.__new__(RestorePlan)
    physical = Candidate(Chosen("newest", "primary", "20261122T000000Z-full-0000", plan), BEGUN)
    archive = snapshot("primary", 1)
    newer = Candidate(Chosen("newest", "primary", archive.manifest.recovery_point, archive), archive.manifest.moment)
    monkeypatch.setattr("lifeboat.recovery.drill.candidates._on", lambda *_: iter([newer, physical]))
    found = candidates({"primary": OnTarget(())}, None)
    assert [one.chosen.recovery_point for one in found] == [one.chosen.recovery_point for one in (physical, newer)]
