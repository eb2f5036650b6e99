"""A logical archive of a moment that has passed, at the command line: made, listed, verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sandbox.postgres_template import Template
from tests.cli.conftest import Ledger, Said, a_ledger

Command = Callable[..., Said]
WORDS = ("backup", "demo", "database", "--tier", "weekly", "--at")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]) -> Iterator[Ledger]:
    """One of their own: what they make stays there."""
    with a_ledger(tmp_path_factory.mktemp("rebuilt"), postgres_template(18)) as made:
        yield made


def test_an_archive_of_a_past_moment_is_made_copied_listed_and_verified_and_not_made_twice(
    ledger: Ledger, lifeboat: Command
) -> None:
    moment = ledger.times[1]
    made = lifeboat(ledger.protected, *WORDS, moment, "--json")
    assert made.code == 0, made.err
    (point,) = made.json["recovery_points"]
    assert point["kind"] == "logical"
    assert point["copies"] == ["primary", "offsite", "local"]
    assert made.json["message"].startswith("Rebuilt for")
    (source,) = lifeboat(ledger.protected, "list", "demo", "database", "--json").json["sources"]
    (listed,) = [one for one in source["recovery_points"] if one["id"] == point["id"]]
    assert listed["rebuilt"]["base"] == ledger.full
    assert "good (rebuilt)" in lifeboat(ledger.protected, "list", "demo", "database").out
    assert lifeboat(ledger.protected, "verify", "demo", "database", "--deep", "--recovery-point", point["id"]).code == 0

    again = lifeboat(ledger.protected, *WORDS, moment, "--json")
    assert again.code == 0, again.err
    assert (again.json["recovery_points"], again.json["there"]) == ([], point["id"])
    assert "There is a recovery point of the tier weekly" in again.err


def test_what_can_not_be_made_for_a_past_moment_fails_and_says_what_can(ledger: Ledger, lifeboat: Command) -> None:
    early = lifeboat(ledger.protected, *WORDS, "2026-01-01 00:00Z")
    assert early.code == 1
    assert "The tier weekly keeps what stands for 2026-01-01 00:00:00 UTC until" in early.err
    daily = lifeboat(ledger.protected, "backup", "demo", "database", "--tier", "daily", "--at", ledger.times[1])
    assert daily.code == 1
    assert "The tier daily of demo database can't be made for a moment that has passed" in daily.err
    assert "is not read as a moment" in lifeboat(ledger.protected, *WORDS, "yesterday").err
