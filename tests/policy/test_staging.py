"""The staging connection of a restore test: what a policy may name, and what of it does not come there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.policy.built import not_built
from lifeboat.policy.loading import load_policy
from lifeboat.policy.problems import PolicyRefused

Write = Callable[..., Path]
TESTS = 'tests: {{schedule: "0 6 * * 1#1", connection: {}}}\n'
WEEKLY = '      weekly: {schedule: "0 1 * * 0", retention: 92d}\n'
EXPORT = '      export: {schedule: "0 3 * * *", retention: 30d}\n'


def noticed(write: Write, tiers: str, more: str = TESTS.format("shop_staging")) -> list[str]:
    head, _, _ = write().read_text().partition("      wal:")
    return not_built(load_policy(write("shop.yaml", text=head + tiers + more)).policy)


def test_the_source_s_own_connection_is_refused(write: Write) -> None:
    with pytest.raises(PolicyRefused) as caught:
        noticed(write, WEEKLY, TESTS.format("shop_database"))
    [problem] = caught.value.problems
    assert "leads to the source `database` itself" in problem.what
    assert problem.key == "tests.connection"


def test_what_never_comes_to_it_is_said(write: Write) -> None:
    daily = '      daily: {schedule: "0 2 * * *", retention: 30d}\n'
    assert noticed(write, WEEKLY) == noticed(write, WEEKLY + daily + EXPORT) == []
    [physical] = noticed(write, daily)
    assert "`database` has no logical archives" in physical
    assert "scratch server" in physical
    [exported] = noticed(write, EXPORT)
    assert "`database` has exports alone" in exported
    assert noticed(write, daily, "") == []


def test_that_of_a_drill_is_not_built_yet(write: Write) -> None:
    [said] = noticed(write, WEEKLY, "drills: {connection: shop_staging}\n")
    assert said.startswith("The staging connection of the drill is validated, not built yet")
