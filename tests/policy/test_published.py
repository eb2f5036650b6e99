"""What is published beside the code agrees with it: the schema, the page, the ERP policy."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lifeboat.policy.built import built_tiers
from lifeboat.policy.checking import check
from lifeboat.policy.document import read_document
from lifeboat.policy.loading import load_policies, load_policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.schema import policy_schema, policy_schema_text

ROOT = Path(__file__).resolve().parents[2]
ERP = ROOT / "include" / "policies" / "erp.yaml"
SCORECARD = ERP.with_name("sales_scorecard.yaml")
NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)


def _validate(text: str) -> None:
    jsonschema.Draft202012Validator(policy_schema()).validate(read_document(text, Path("shop.yaml")).data)


def test_the_published_schema_is_the_one_of_the_code() -> None:
    assert (ROOT / "docs" / "policy.schema.json").read_text() == policy_schema_text()


def test_the_schema_is_valid_itself_and_takes_valid_policies(minimal: str) -> None:
    jsonschema.Draft202012Validator.check_schema(policy_schema())
    _validate(minimal)
    _validate(ERP.read_text())
    _validate(SCORECARD.read_text())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rto: 4h", "rto: soon"),
        ("  rto: 4h", "  rtoo: 4h"),
        ("kind: postgres", "kind: oracle"),
        ("  primary:", "  Primary:"),
        ("  database:", "  Data-base:"),
        ("      daily:", "      dayly:"),
        ("system: shop", "system: Shop"),
    ],
)
def test_the_schema_marks_mistakes_in_an_editor(minimal: str, old: str, new: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        _validate(minimal.replace(old, new))


def test_every_key_of_a_policy_is_on_the_page() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    schema = policy_schema()
    keys = set(schema["properties"])
    for definition in schema["$defs"].values():
        keys |= set(definition.get("properties", {}))
    missing = {key for key in keys if not re.search(rf"`([a-z_.<>]+\.)?{key}(:[^`]*)?`", page)}
    assert missing == set()


def test_every_key_of_a_policy_is_described_to_editors() -> None:
    def _undescribed(name: str, node: dict[str, Any]) -> list[str]:
        return [f"{name}.{key}" for key, value in node.get("properties", {}).items() if "description" not in value]

    schema = policy_schema()
    parts = {"Policy": schema, **schema["$defs"]}
    assert [missing for name, node in parts.items() for missing in _undescribed(name, node)] == []


def test_the_examples_on_the_page_are_valid() -> None:
    page = (ROOT / "docs" / "policy.md").read_text()
    (whole,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "format_version" in block]
    _validate(whole)


def test_the_erp_policy_is_valid_and_keeps_its_promises() -> None:
    loaded = load_policy(ERP)
    verdict = check(loaded, clock=lambda: NOW)
    assert verdict.problems == ()
    assert verdict.worst_cases["database"].total == timedelta(minutes=2, seconds=30)
    assert verdict.worst_cases["files"].total <= timedelta(hours=4)
    assert set(load_policies(ERP.parent).policies) >= {"erp"}


def test_the_erp_policy_tells_editors_where_its_schema_is() -> None:
    first = ERP.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (ERP.parent / first.split("=", 1)[1]).resolve() == ROOT / "docs" / "policy.schema.json"


def test_the_erp_policy_would_break_its_promise_if_its_wal_runs_did_not_follow(tmp_path: Path) -> None:
    path = tmp_path / "erp.yaml"
    path.write_text(ERP.read_text().replace("mode: follow", "mode: batch"))
    (problem,) = check(load_policy(path), clock=lambda: NOW).problems
    assert problem.key == "sources.database.tiers.wal.schedule"


def test_the_erp_policy_says_what_its_owners_asked_for() -> None:
    policy = load_policy(ERP).policy
    database = policy.sources["database"]
    kept = {tier.value: str(database.tiers[tier].retention) for tier in database.tiers}
    assert kept == {
        "wal": "30d",
        "incremental": "30d",
        "daily": "30d",
        "weekly": "92d",
        "monthly": "1 year",
        "yearly": "7 years",
    }
    assert set(policy.targets) == {"primary", "offsite", "local"}
    assert str(policy.targets["local"].retention) == "7d"
    assert database.tiers[Tier.WAL].schedule == "*/15 * * * *"
    assert policy.objectives.rto_of("database") == timedelta(hours=4)
    assert policy.objectives.rpo_of("database") == timedelta(minutes=15)
    assert policy.objectives.rpo_of("files") == timedelta(hours=4)
    assert set(policy.sources) == {"database", "files", "configuration", "code"}
    assert policy.restore.approvals == 2
    assert policy.tests is not None
    assert policy.tests.schedule == "0 6 * * 1#1"
    assert policy.drills is not None
    assert policy.drills.schedule == "0 6 L 3,6,9,12 *"
    assert policy.alerts.conditions.storage_over == 80
    assert {channel.kind for channel in policy.alerts.channels.values()} == {"email", "sms", "slack"}
    assert policy.budget is not None
    assert sum(line.cost for line in policy.budget.lines.values()) == policy.budget.limit == 118
    assert [tier for source, tier in built_tiers(policy) if source == "database"] == [
        *(Tier.WAL, Tier.INCREMENTAL, Tier.DAILY, Tier.WEEKLY, Tier.MONTHLY, Tier.YEARLY)
    ]
    assert ("code", Tier.DAILY) in built_tiers(policy)


def test_the_sales_scorecard_policy_is_valid_and_keeps_its_promises() -> None:
    loaded = load_policy(SCORECARD)
    verdict = check(loaded, clock=lambda: NOW)
    assert verdict.problems == ()
    assert verdict.worst_cases["database"].total < timedelta(hours=24)
    policy = loaded.policy
    assert list(built_tiers(policy)) == [
        ("database", Tier.EXPORT),
        ("database", Tier.DAILY),
        ("configuration", Tier.DAILY),
        ("code", Tier.DAILY),
    ]
    assert str(policy.sources["database"].tiers[Tier.EXPORT].retention) == "30d"
    assert policy.objectives.rto_of("database") == timedelta(hours=1)
    assert not any("source `database`" in notice for notice in verdict.notices)


def test_an_export_once_a_day_would_break_the_promise_of_a_day(tmp_path: Path) -> None:
    path = tmp_path / "sales_scorecard.yaml"
    path.write_text(SCORECARD.read_text().replace("0 3,15 * * *", "0 3 * * *", 1))
    (problem,) = check(load_policy(path), clock=lambda: NOW).problems
    assert problem.key == "sources.database.tiers.export.schedule"
