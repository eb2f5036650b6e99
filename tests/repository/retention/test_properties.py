"""What no retention plan ever does, over ten thousand made-up histories."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lifeboat.repository.retention.decisions import Action, Decision
from lifeboat.repository.retention.planning import plan_source
from lifeboat.repository.retention.points import HeldPoint, Role
from lifeboat.repository.retention.rules import Cutoffs
from tests.repository.retention.histories import History, carried_out, history

HISTORIES = 10_000
THERE = (Action.STAYS, Action.RETURNS)
PRESENT = (*THERE, Action.GOES)
LEAVES = (Action.GOES, Action.PURGED)

Plan = dict[str, dict[str, Decision]]
"""By target and recovery point."""


def planned(made: History) -> Plan:
    found: Plan = {state.target: {} for state in made.states}
    for decision in plan_source(made.states, made.rules, made.now):
        assert decision.point.recovery_point not in found[decision.target]
        found[decision.target][decision.point.recovery_point] = decision
    return found


def every_copy_is_decided_upon(made: History, plan: Plan) -> None:
    for state in made.states:
        assert {point.recovery_point for point in state.points} == plan[state.target].keys()
        for decision in plan[state.target].values():
            assert (decision.point.deleted is None) == (decision.action in (Action.STAYS, Action.GOES))
            assert decision.sentence(made.rules.zone).endswith(".")


def what_stays_can_be_restored(made: History, plan: Plan) -> None:
    """A chain is whole or gone: what something that stays needs, and was there, stays."""
    for decisions in plan.values():
        for decision in decisions.values():
            for name in decision.point.needs:
                if (needed := decisions.get(name)) is None:
                    continue
                if decision.action in THERE and decision.reason.value != "frozen":
                    assert needed.action in THERE
                if decision.action is Action.WAITS and decision.reason.value == "undelete":
                    assert needed.action is not Action.PURGED


def nothing_inside_its_window_goes(made: History, plan: Plan) -> None:
    """The tiers are reckoned forwards from when it was made, which the planner does not do."""
    for target, decisions in plan.items():
        kept_here = made.rules.targets[target].retention
        for decision in decisions.values():
            if decision.action is not Action.GOES:
                continue
            point = decision.point
            ends = [made.rules.tiers[tier].after(point.moment) for tier in point.tiers]
            if max(ends) <= made.now:
                continue
            assert kept_here is not None
            assert kept_here.after(point.moment) <= made.now
            elsewhere = [
                other[point.recovery_point]
                for name, other in plan.items()
                if name != target and point.recovery_point in other
            ]
            good = [one for one in elsewhere if one.action in THERE and one.point.good and one.reason.value != "frozen"]
            assert len(good) >= made.rules.minimum_copies


def the_newest_verified_stay(made: History, plan: Plan) -> None:
    for decisions in plan.values():
        kinds: dict[str, list[HeldPoint]] = {}
        for decision in decisions.values():
            returns = decision.action is Action.RETURNS
            if (decision.point.deleted is None or returns) and decision.point.role is not Role.LOG:
                kinds.setdefault(decision.point.kind, []).append(decision.point)
        for points in kinds.values():
            good = sorted((point for point in points if point.good), key=lambda point: point.moment)
            for point in good[-made.rules.keep_at_least :]:
                assert decisions[point.recovery_point].action in THERE
            if not good:  # all unverified: none goes
                assert all(decisions[point.recovery_point].action in THERE for point in points)


def any_moment_of_the_window_can_be_recovered(made: History, plan: Plan) -> None:
    """If it could be before: from a verified base at or before the window's beginning, with all WAL since."""
    for target, decisions in plan.items():
        opens = Cutoffs.of(made.rules, target, made.now).of_tier("wal")
        logs = [one for one in decisions.values() if one.point.role is Role.LOG and one.action in PRESENT]
        bases = [one for one in decisions.values() if is_base(one, decisions)]
        if not logs or not bases:
            assert all(one.action in THERE for one in logs)
            continue
        begins = max([one.point.begun for one in bases if one.point.begun <= opens], default=None)
        begins = begins or min(one.point.begun for one in bases)
        stay = [one.point.begun for one in bases if one.action in THERE]
        assert begins in stay
        assert all(one.action in THERE for one in logs if one.point.moment >= begins)
        newest = max(one.point.begun for one in bases)
        assert newest in stay
        assert all(one.action in THERE for one in logs if one.point.moment >= newest)


def is_base(decision: Decision, decisions: dict[str, Decision]) -> bool:
    point = decision.point
    if point.role not in (Role.BASE, Role.LINK) or not point.good or decision.action not in PRESENT:
        return False
    asked = list(point.needs)
    while asked:
        found = decisions.get(asked.pop())
        if found is None:
            return False
        asked += found.point.needs
    return True


def what_is_held_locked_or_out_of_reach_stays(made: History, plan: Plan) -> None:
    for state in made.states:
        for decision in plan[state.target].values():
            locked = decision.point.locked_until
            if state.frozen or decision.point.hold or (locked is not None and locked > made.now):
                assert decision.action not in LEAVES
            if state.frozen:
                assert decision.action in (Action.STAYS, Action.WAITS)


def bytes_go_only_when_nobody_can_take_it_back(made: History, plan: Plan) -> None:
    for target, decisions in plan.items():
        for decision in decisions.values():
            if decision.action is Action.PURGED:
                deleted = decision.point.deleted
                assert deleted is not None
                assert deleted + made.rules.targets[target].undelete <= made.now


def a_second_run_deletes_nothing(made: History, plan: Plan) -> None:
    first = [decision for decisions in plan.values() for decision in decisions.values()]
    again = plan_source(carried_out(made.states, first, made.now), made.rules, made.now)
    undelete = {target: rules.undelete for target, rules in made.rules.targets.items()}
    for decision in again:
        assert decision.action is not Action.GOES
        assert decision.action is not Action.RETURNS
        if decision.action is Action.PURGED:  # what went just now, where nothing can be taken back
            assert decision.point.deleted is not None
            assert decision.point.deleted + undelete[decision.target] <= made.now


PROPERTIES: tuple[Callable[[History, Plan], None], ...] = (
    every_copy_is_decided_upon,
    what_stays_can_be_restored,
    nothing_inside_its_window_goes,
    the_newest_verified_stay,
    any_moment_of_the_window_can_be_recovered,
    what_is_held_locked_or_out_of_reach_stays,
    bytes_go_only_when_nobody_can_take_it_back,
    a_second_run_deletes_nothing,
)


@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=4, max_size=160))
@example(b"")
def test_no_plan_over_ten_thousand_histories_breaks_a_promise(data: bytes) -> None:
    made = history(data)
    plan = planned(made)
    for insist in PROPERTIES:
        insist(made, plan)
