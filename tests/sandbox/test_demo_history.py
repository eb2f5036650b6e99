"""The demo's made-up history: what would be due in two years, what is left of it, and backups made at another date."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.logical_verification import verify_deep_logical
from lifeboat.repository.retention.decisions import Action
from lifeboat.repository.retention.source_plan import source_plan
from sandbox.demo_history import DATABASE, SOURCE, SYSTEM, History, begin_ledger, due_between, left_by_cleanup
from sandbox.demo_retention import GUARD
from sandbox.demo_system import MARKER, DemoSystem, make_demo_system
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_reading_role

BEGIN, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def system(tmp_path: Path) -> DemoSystem:
    """The demo's, with the history's policy; its targets are directories."""
    made = make_demo_system(tmp_path / "system", binaries=tmp_path, offsite=f"file://{tmp_path}/offsite")
    text = made.policy_text(SYSTEM).replace("s3://backups/lifeboat", f"file://{tmp_path}/primary")
    for name in ("primary", "offsite"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".lifeboat-target").write_text(MARKER + "\n")
        text = text.replace(f"connection: demo_{name}", f"marker: {MARKER}")
    (made.policies / f"{SYSTEM}.yaml").write_text(text)
    return made


@pytest.fixture
def source(system: DemoSystem) -> PostgresSource:
    file = system.policies / f"{SYSTEM}.yaml"
    found = load_policy(file).policy.sources[SOURCE]
    assert isinstance(found, PostgresSource)
    return found


def test_each_tier_is_due_by_its_schedule_and_one_archive_counts_for_all_that_are_due_on_a_day(
    source: PostgresSource,
) -> None:
    dues = due_between(source, BEGIN, END)
    carried = [tier for due in dues for tier in due.tiers]
    assert {tier: carried.count(tier) for tier in source.tiers} == {
        Tier.DAILY: 730, Tier.WEEKLY: 104, Tier.MONTHLY: 24, Tier.YEARLY: 2,
    }  # fmt: skip
    assert len(dues) < len(carried)
    assert [due.tiers for due in dues if due.day.isoformat() == "2026-02-01"] == [
        (Tier.WEEKLY, Tier.MONTHLY),
        (Tier.DAILY,),
    ]
    assert dues == sorted(dues, key=lambda due: due.moment)
    assert dues[0].moment >= BEGIN
    assert dues[-1].moment < END


def test_what_a_cleanup_leaves_is_what_a_person_would_expect_of_the_policy(
    system: DemoSystem, source: PostgresSource
) -> None:
    file = system.policies / f"{SYSTEM}.yaml"
    policy = load_policy(file).policy
    at = datetime(2026, 11, 21, 12, tzinfo=UTC)
    left = left_by_cleanup(policy, SOURCE, due_between(source, BEGIN, END), at)
    dailies = [due.day for due in left if due.tier is Tier.DAILY]
    assert (min(dailies).isoformat(), max(dailies).isoformat(), len(dailies)) == ("2026-11-12", "2026-11-21", 10)
    assert [due.day.isoformat() for due in left if Tier.YEARLY in due.tiers] == ["2025-01-01", "2026-01-01"]
    assert sum(Tier.MONTHLY in due.tiers for due in left) == 13  # the twelve months, and January 2025 as yearly
    for due, targets in left.items():
        assert targets == (("primary", "offsite", "local") if due.moment >= at - timedelta(days=7) else targets[:2])


def test_backups_are_real_ones_of_the_dates_that_they_are_made_for(
    system: DemoSystem, source: PostgresSource, make_postgres: Callable[..., PostgresServer]
) -> None:
    server = make_postgres()
    create_reading_role(server)
    begin_ledger(server, BEGIN.date())
    connection = {"AIRFLOW_CONN_DEMO_HISTORY_DATABASE": server.airflow_connection("lifeboat", DATABASE)}
    text = (system.policies / f"{SYSTEM}.yaml").read_text()
    (system.policies / f"{SYSTEM}.yaml").write_text(text.replace("binaries: ", f"binaries: {server.binaries} #"))
    history = History(system, server, connection, BEGIN.date(), BEGIN)
    old = due_between(source, BEGIN, BEGIN + timedelta(days=2))
    new = due_between(source, END - timedelta(days=1), END)
    history.make(
        {due: ("primary", "offsite") for due in old} | {due: ("primary", "local") for due in new}, lambda _: None
    )
    assert history.made == [due.moment for due in (*old, *new)]
    repository = history.repository()
    for target, moments in (("primary", history.made), ("offsite", history.made[:3]), ("local", history.made[3:])):
        copies = repository.catalogue(target).recovery_points(SOURCE).copies
        assert [copy.manifest.moment for copy in copies] == moments
        assert [copy.manifest.begun for copy in copies] == moments
        for copy in copies:
            verify_deep_logical(repository, target, copy)
    plan = source_plan(history.repository(lambda: END), SOURCE, history.roles(), END)
    assert all(one.point.good for one in plan.decisions)
    goes = [one.point.moment.day for one in plan.of("primary", Action.GOES)]
    assert goes == [1, 2]
    rows = server.run_sql("SELECT count(*), min(day), max(day) FROM days", database=DATABASE)
    assert rows == [(730, BEGIN.date(), (END - timedelta(days=1)).date())]


def test_the_guard_that_the_demo_raises_stands_in_its_policy(system: DemoSystem) -> None:
    assert system.policy_text(SYSTEM).count(GUARD) == 1
