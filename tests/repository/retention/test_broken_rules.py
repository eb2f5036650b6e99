"""Each promise is one that made-up histories can break: with a rule of the planner taken out, its property fails."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from lifeboat.repository.retention import planning
from lifeboat.repository.retention.decisions import Action, Decision, Reason
from tests.repository.retention import test_properties as properties
from tests.repository.retention.histories import history

MOST = 2_000
"""Histories that are looked at; most rules are missed within the first hundred."""

Rules = planning._TargetPlan
Break = Callable[[pytest.MonkeyPatch], None]


def _without(rule: str) -> Break:
    def out(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Rules, rule, lambda self, *_: None)

    return out


def _decided_otherwise(change: Callable[[Decision], Iterable[Decision]]) -> Break:
    def bend(patch: pytest.MonkeyPatch) -> None:
        decisions = Rules.decisions
        patch.setattr(
            Rules, "decisions", lambda self: (new for decision in decisions(self) for new in change(decision))
        )

    return bend


def _seen_otherwise(**values: Any) -> Break:
    """Each target's state as if some of its values were others."""

    def bend(patch: pytest.MonkeyPatch) -> None:
        begin = Rules.__init__
        patch.setattr(Rules, "__init__", lambda self, state, *rest: begin(self, replace(state, **values), *rest))

    return bend


def _a_day_later(patch: pytest.MonkeyPatch) -> None:
    """The planner believes that it is a day later than it is."""
    begin = Rules.__init__
    patch.setattr(Rules, "__init__", lambda self, state, rules, now: begin(self, state, rules, now + timedelta(days=1)))


def _the_last_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    """Of several the newest is kept, but not the only one: each run makes another one the only one."""
    keep_newest = Rules._keep_newest

    def broken(plan: Any) -> None:
        keep_newest(plan)
        kinds = Counter(point.kind for point in plan._there if point.good)
        for point in plan._there:
            if kinds[point.kind] == 1 and plan.kept.get(point.recovery_point, ("",))[0] is Reason.NEWEST:
                del plan.kept[point.recovery_point]

    patch.setattr(Rules, "_keep_newest", broken)


BREAKS: dict[str, tuple[Callable[..., None], Break]] = {
    "a copy is forgotten": (
        properties.every_copy_is_decided_upon,
        _decided_otherwise(lambda one: [] if one.reason is Reason.UNDELETE else [one]),
    ),
    "what is needed is not kept": (properties.what_stays_can_be_restored, _without("_keep_needed")),
    "what a deletion that can be taken back needs is removed": (
        properties.what_stays_can_be_restored,
        lambda patch: patch.setattr(Rules, "_needed_by_deleted", lambda self: {}),
    ),
    "tiers keep nothing": (properties.nothing_inside_its_window_goes, _without("_keep_tiers")),
    "it is a day later": (properties.nothing_inside_its_window_goes, _a_day_later),
    "copies elsewhere are not counted": (properties.nothing_inside_its_window_goes, _without("insist_on_copies")),
    "the newest are not kept": (properties.the_newest_verified_stay, _without("_keep_newest")),
    "the window is not kept": (properties.any_moment_of_the_window_can_be_recovered, _without("_keep_window")),
    "holds are not heeded": (properties.what_is_held_locked_or_out_of_reach_stays, _without("_keep_held")),
    "locks are not heeded": (properties.what_is_held_locked_or_out_of_reach_stays, _without("_keep_locked")),
    "a target out of reach is judged": (
        properties.what_is_held_locked_or_out_of_reach_stays,
        _seen_otherwise(frozen=""),
    ),
    "a deletion can't be taken back": (
        properties.bytes_go_only_when_nobody_can_take_it_back,
        _decided_otherwise(lambda one: [replace(one, action=Action.PURGED) if one.action is Action.WAITS else one]),
    ),
    "the last one of a kind is not kept": (properties.a_second_run_deletes_nothing, _the_last_is_not_kept),
}


def test_every_property_is_broken_once() -> None:
    assert {insist for insist, _ in BREAKS.values()} == set(properties.PROPERTIES)


@pytest.mark.parametrize("broken", BREAKS)
def test_a_property_fails_when_its_rule_is_taken_out(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    insist, out = BREAKS[broken]
    # The same histories hold with the rule in.
    drawn = random.Random(broken)
    histories = [history(drawn.randbytes(drawn.randrange(4, 160))) for _ in range(MOST)]
    for made in histories[:200]:
        insist(made, properties.planned(made))
    out(monkeypatch)
    for made in histories:
        try:
            insist(made, properties.planned(made))
        except AssertionError:
            return
    pytest.fail(f"{insist.__name__} holds over {MOST} histories although {broken}.")
