"""``lifeboat retention plan``: which copies stay, which would go, and why; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.cli.conftest import Ledger, Said, keys_below

Call = Callable[..., Said]


def later(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def test_a_plan_says_of_each_copy_whether_it_stays_and_why(ledger: Ledger, lifeboat: Call) -> None:
    roots = [ledger.protected.primary.root, ledger.protected.offsite.root, ledger.protected.system.local]
    before = [keys_below(root) for root in roots]
    now = lifeboat(ledger.protected, "retention", "plan", "demo")
    assert now.code == 0
    assert "Goes" not in now.out
    assert "demo database on offsite" in now.out
    assert "WAL runs stay" in now.out
    assert "Nothing was changed." in now.err
    first, newest = (path.name for path in ledger.fulls)
    document = lifeboat(ledger.protected, "retention", "plan", "demo", "database", "--at", later(100), "--json").json
    (source,) = document["sources"]
    said = {(one["target"], one["recovery_point"]): one for one in source["copies"]}
    assert {target for target, _ in said} == {"primary", "offsite", "local"}
    assert said["primary", newest]["because"] == "Kept: among the newest verified of its kind."
    assert said["primary", first]["action"] == "goes"
    assert said["primary", first]["because"].startswith("Goes: daily is kept for 30d, and made before ")
    assert source["stopped"] == []
    assert [keys_below(root) for root in roots] == before


def test_a_plan_for_a_moment_before_the_newest_backup_is_stopped_by_the_clock(ledger: Ledger, lifeboat: Call) -> None:
    told = lifeboat(ledger.protected, "retention", "plan", "demo", "database", "--wal", "--at", later(-1))
    assert "one of the two clocks is wrong" in told.err
    assert "-wal-" in told.out
