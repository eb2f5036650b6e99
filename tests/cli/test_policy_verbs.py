"""``lifeboat policy``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.policy.schema import policy_schema
from sandbox.demo_system import DemoSystem, make_demo_system
from tests.cli.conftest import Said

Command = Callable[..., Said]


@pytest.fixture
def demo(tmp_path: Path) -> DemoSystem:
    return make_demo_system(tmp_path, binaries=Path("/usr/lib/postgresql/18/bin"))


def test_a_good_policy_passes_and_its_worst_case_is_shown(demo: DemoSystem, lifeboat: Command) -> None:
    said = lifeboat(None, "--policies", str(demo.policies), "policy", "check")
    assert said.code == 0, said.err
    assert "No problems" in said.out
    document = lifeboat(None, "policy", "check", str(demo.policy), "--json").json
    assert set(document) == {"ok", "problems", "notices", "worst_cases"}
    (case,) = document["worst_cases"]
    assert case["total_seconds"] == case["period_seconds"] + case["queue_seconds"] + case["run_seconds"]
    assert case["total_seconds"] <= case["objective_seconds"] == 900
    assert document["notices"]


def test_all_problems_are_said_with_file_line_and_remedy(demo: DemoSystem, lifeboat: Command) -> None:
    text = demo.policy.read_text()
    text = text.replace("timezone: UTC", "timezone: Nowhere").replace("kind: local", "kind: loocal")
    demo.policy.write_text(text)
    (demo.policies / "other.yml").write_text("x")
    said = lifeboat(None, "--policies", str(demo.policies), "policy", "check")
    assert said.code == 1
    line = next(number for number, words in enumerate(text.splitlines(), 1) if "Nowhere" in words)
    assert f"{demo.policy}:{line}: timezone: `Nowhere` is no time zone." in said.err
    assert "other.yml" in said.err
    assert "→" in said.err
    document = lifeboat(None, "--policies", str(demo.policies), "policy", "check", "--json").json
    assert document["ok"] is False
    assert len(document["problems"]) >= 3
    assert all(set(problem) == {"file", "line", "key", "what", "remedy"} for problem in document["problems"])


def test_a_schedule_that_breaks_the_objective_is_a_problem(demo: DemoSystem, lifeboat: Command) -> None:
    demo.policy.write_text(demo.policy.read_text().replace('"*/5 * * * *"', '"*/15 * * * *"'))
    said = lifeboat(None, "policy", "check", str(demo.policy))
    assert said.code == 1
    assert "above the recovery point objective" in said.err


def test_no_policy_at_all_is_a_notice_and_no_directory_is_a_problem(tmp_path: Path, lifeboat: Command) -> None:
    said = lifeboat(None, "--policies", str(tmp_path), "policy", "check")
    assert said.code == 0
    assert "nothing is backed up" in said.err
    assert lifeboat(None, "--policies", str(tmp_path / "none"), "policy", "check").code == 1


def test_a_policy_is_shown_with_the_connections_that_are_missing(
    demo: DemoSystem, lifeboat: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DEMO_DATABASE", "postgres://lifeboat:not-to-be-shown@127.0.0.1:1/postgres")
    monkeypatch.setenv("LIFEBOAT_POLICIES", str(demo.policies))
    said = lifeboat(None, "policy", "show", "demo")
    assert said.code == 0, said.err
    assert "s3://" in said.out
    assert "not-to-be-shown" not in said.out
    document = lifeboat(None, "policy", "show", "demo", "--json").json
    assert document["connections"]["demo_database"] is True
    assert document["connections"]["demo_primary"] is False
    assert document["policy"]["system"] == "demo"


def test_the_published_schema_is_printed(lifeboat: Command) -> None:
    assert json.loads(lifeboat(None, "policy", "schema").out) == policy_schema()


def test_a_name_that_leads_out_of_the_directory_is_no_system(demo: DemoSystem, lifeboat: Command) -> None:
    shutil.copy(demo.policy, demo.policies.parent / "demo.yaml")
    said = lifeboat(None, "--policies", str(demo.policies), "policy", "show", "../demo")
    assert said.code == 1
    assert "no policy of a system" in said.err
