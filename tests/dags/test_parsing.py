"""The DAG files as Airflow's DAG processor sees them, without a running Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.accounts import CLONE
from tests.policy.conftest import MINIMAL

BOUND_SECONDS = 15  # the design's, far below Airflow's own `dag_file_processor_timeout` of 50
Parse = Callable[..., dict[str, Any]]


class Probe:
    """A process that parses as the DAG processor does; Airflow is imported once in it."""

    def __init__(self, home: Path, seed: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "LIFEBOAT"))}
        environment = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(CLONE / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(CLONE / "plugins"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "PYTHONPATH": os.pathsep.join((str(CLONE), str(CLONE / "plugins"))),
            "PYTHONHASHSEED": seed,
        }
        self._log = (home / "probe.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.dags.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=inherited | environment,
            text=True,
        )

    def parse(self, policies: Path, only: str | None = None, role: str | None = None) -> dict[str, Any]:
        """Parse ``dags/`` with a directory of policies; with ``only``, as a task of that DAG does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"policies": str(policies), "only": only, "role": role}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._log.seek(0)
            raise AssertionError(self._log.read()[-4000:])
        return dict(json.loads(answer))

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Probe]]:
    """Two DAG processors, whose sets and dictionaries of strings have different orders."""
    made = [Probe(tmp_path_factory.mktemp("airflow"), seed) for seed in ("1", "2")]
    yield made
    for probe in made:
        probe.end()


@pytest.fixture
def parse(probes: list[Probe]) -> Parse:
    return probes[0].parse


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    directory = tmp_path / "policies"
    directory.mkdir()
    return directory


def write(policies: Path, system: str, *changes: tuple[str, str], name: str | None = None) -> Path:
    text = MINIMAL.replace("shop-backups", "some-backups").replace("shop", system)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = policies / f"{name or system}.yaml"
    file.write_text(text)
    return file


OFFSITE = (
    "encryption:\n  keys",
    "  offsite:\n    url: s3://far-backups/lifeboat\n    connection: far\nencryption:\n  keys",
)
SLACK = ("sources:\n", "alerts:\n  channels:\n    ops: {kind: slack, connection: ops_slack}\nsources:\n")


@pytest.fixture(scope="module")
def erp(probes: list[Probe]) -> dict[str, Any]:
    """What the policy that comes with the package makes."""
    return probes[0].parse(CLONE / "include" / "policies")


def test_without_policies_there_are_no_dags_and_no_import_errors(parse, policies):
    found = parse(policies)
    assert found["dags"] == {}
    assert found["errors"] == {}


def test_the_erp_policy_makes_a_dag_for_each_tier_that_is_built(erp):
    assert erp["errors"] == {}
    assert {name: dag["file"] for name, dag in erp["dags"].items()} == {
        "erp_code_daily": "source_tiers.py",
        "erp_configuration_change": "source_changes.py",
        "erp_configuration_daily": "source_tiers.py",
        "erp_database_daily": "source_tiers.py",
        "erp_database_incremental": "source_tiers.py",
        "erp_database_monthly": "source_tiers.py",
        "erp_database_wal": "database_wal.py",
        "erp_database_weekly": "source_tiers.py",
        "erp_database_yearly": "source_tiers.py",
        "erp_dr_drill": "dr_drill.py",
        "erp_files_daily": "source_tiers.py",
        "erp_files_incremental": "source_tiers.py",
        "erp_restore": "restore.py",
        "erp_restore_test": "restore_test.py",
        "erp_retention_cleanup": "retention_cleanup.py",
        "sales_scorecard_code_daily": "source_tiers.py",
        "sales_scorecard_configuration_daily": "source_tiers.py",
        "sales_scorecard_database_daily": "source_tiers.py",
        "sales_scorecard_database_export": "source_tiers.py",
        "sales_scorecard_dr_drill": "dr_drill.py",
        "sales_scorecard_restore_test": "restore_test.py",
        "sales_scorecard_retention_cleanup": "retention_cleanup.py",
    }


def test_the_trigger_form_of_an_export_takes_single_tables_and_no_other_form_does(erp):
    params = erp["dags"]["sales_scorecard_database_export"]["params"]
    assert params["tables"]["type"] == "array"
    assert params["tables"]["items"]["type"] == "string"
    assert erp["dags"]["sales_scorecard_database_export"]["defaults"]["tables"] == []
    assert "tables" not in erp["dags"]["erp_database_daily"]["params"]


def test_a_new_system_is_a_new_file(parse, policies):
    write(policies, "shop")
    assert sorted(parse(policies)["dags"]) == ["shop_database_daily", "shop_database_wal", "shop_retention_cleanup"]
    write(policies, "stock")
    assert sorted(parse(policies)["dags"]) == [
        "shop_database_daily",
        "shop_database_wal",
        "shop_retention_cleanup",
        "stock_database_daily",
        "stock_database_wal",
        "stock_retention_cleanup",
    ]


def test_a_policy_that_breaks_keeps_its_last_dags_and_one_import_error_names_file_line_and_key(parse, policies):
    write(policies, "good")
    broken = write(policies, "bad")
    before = parse(policies)
    assert before["errors"] == {}
    broken.write_text(broken.read_text().replace("retention: 30d}\n", "retention: soon}\n"))

    found = parse(policies)
    assert list(found["errors"]) == ["broken_policies.py"]
    line = 1 + broken.read_text().splitlines().index(next(t for t in broken.read_text().splitlines() if "soon" in t))
    assert f"bad.yaml:{line}" in found["errors"]["broken_policies.py"]
    assert "sources.database.tiers.daily.retention" in found["errors"]["broken_policies.py"]
    assert sorted(found["dags"]) == sorted(before["dags"])
    for name in ("bad_database_daily", "bad_database_wal"):
        assert "stale policy" in found["dags"][name]["tags"]
        assert "last valid copy" in found["dags"][name]["doc"]
    for name in ("good_database_daily", "good_database_wal"):
        assert found["dags"][name]["version"] == before["dags"][name]["version"]


def test_a_policy_that_was_never_valid_makes_an_import_error_and_leaves_the_others_alone(parse, policies):
    write(policies, "good")
    write(policies, "bad", ("retention: 30d}\n", "retention: soon}\n"))
    found = parse(policies)
    assert list(found["errors"]) == ["broken_policies.py"]
    assert sorted(found["dags"]) == ["good_database_daily", "good_database_wal", "good_retention_cleanup"]


def test_two_files_with_one_system_name_make_an_import_error_that_names_both(parse, policies):
    write(policies, "shop")
    write(policies, "shop", name="shop_again")
    found = parse(policies)
    assert list(found["errors"]) == ["broken_policies.py"]
    assert "shop.yaml" in found["errors"]["broken_policies.py"]
    assert "shop_again.yaml" in found["errors"]["broken_policies.py"]
    assert found["dags"] == {}


def test_names_that_collide_make_an_import_error_and_no_dag_of_either(parse, policies):
    write(policies, "shop", ("  database:\n    kind", "  till_orders:\n    kind"))
    write(policies, "shop_till", ("  database:\n    kind", "  orders:\n    kind"))
    found = parse(policies)
    assert list(found["errors"]) == ["broken_policies.py"]
    assert "shop_till_orders_" in found["errors"]["broken_policies.py"]
    assert found["dags"] == {}


def test_a_serialised_dag_comes_back_with_its_tasks_and_its_schedule(erp):
    for dag in erp["dags"].values():
        assert dag["tasks_after_a_round_trip"] == sorted(dag["tasks"])
    assert erp["dags"]["erp_database_daily"]["schedule_after_a_round_trip"] == "0 2 * * *"
    assert erp["dags"]["erp_database_wal"]["schedule_after_a_round_trip"] == "*/15 * * * *"


def test_a_new_dag_waits_for_its_time_unless_it_has_only_just_missed_it(erp):
    runs = erp["dags"]["erp_database_incremental"]["first_run"]
    assert runs == {"1": "2026-11-25 00:00", "30": "2026-11-25 06:00"}


def test_dag_versions_stay_still_from_parse_to_parse_and_from_process_to_process(probes, erp):
    again, elsewhere = (probe.parse(CLONE / "include" / "policies") for probe in probes)
    for name, dag in erp["dags"].items():
        # What Airflow compares before it makes a new version.
        assert again["dags"][name]["version"] == dag["version"]
        assert elsewhere["dags"][name]["version"] == dag["version"]


def test_a_role_may_see_and_start_every_dag_and_versions_of_several_systems_stay_still(probes, policies):
    for system in ("shop", "stock", "till"):
        write(policies, system, OFFSITE, SLACK)
    one, other = (probe.parse(policies, role="DevOps") for probe in probes)
    assert len(one["dags"]) == 9
    for name, dag in one["dags"].items():
        rights = {"DAGs": ["can_edit", "can_read"], "DAG Runs": ["can_create", "can_read"]}
        assert dag["access"] == {"DevOps": rights}
        assert other["dags"][name]["version"] == dag["version"]
    assert {dag["access"] for dag in probes[0].parse(policies)["dags"].values()} == {None}


def test_the_form_is_the_dags_alone(erp):
    for dag in erp["dags"].values():
        assert dag["params"]
        assert dag["tasks_with_a_form"] == [], "Airflow checks each copy whenever it serialises"


def test_a_hundred_systems_parse_far_below_airflows_limit(parse, policies):
    for number in range(100):
        write(policies, f"system{number:03d}", OFFSITE, SLACK)
    found = parse(policies)
    assert len(found["dags"]) == 300
    for file, seconds in found["seconds"].items():
        print(f"{file}: parsed in {seconds:.2f} s; serialised in {found['serialising'][file]:.2f} s")
        assert seconds < BOUND_SECONDS


def test_a_task_makes_its_own_dag_alone(parse, policies):
    for system in ("shop", "stock"):
        write(policies, system)
    assert list(parse(policies, only="stock_database_daily")["dags"]) == ["stock_database_daily"]


def test_parsing_imports_nothing_that_moves_bytes_or_sends_messages(probes, policies):
    write(policies, "shop", OFFSITE, SLACK)
    found = probes[1].parse(policies)
    assert found["dags"]["shop_database_daily"]["callbacks"] == 1
    assert found["imported"] == []


def test_a_dag_begins_at_once_without_a_start_date_and_runs_once_at_a_time_unless_it_follows(erp):
    for name, dag in erp["dags"].items():
        assert dag["start_date"] is None
        assert dag["catchup"] is False
        assert dag["paused"] is False
        # The copies of one run go on while the next one follows.
        # One restore that waits for people does not hold up another.
        assert dag["max_active_runs"] == {"erp_database_wal": 3, "erp_restore": 16}.get(name, 1)


def test_the_daily_chain_verifies_before_it_copies_and_publishes_in_every_case(erp):
    tasks = erp["dags"]["erp_database_daily"]["tasks"]
    assert {name: task["downstream"] for name, task in tasks.items()} == {
        "preflight": ["dump_compress_upload"],
        "dump_compress_upload": ["verify_primary"],
        "verify_primary": ["copies.copy", "publish"],
        "copies.copy": ["copies.verify"],
        "copies.verify": ["publish"],
        "publish": [],
    }
    assert {name: task["rule"] for name, task in tasks.items()} == dict.fromkeys(tasks, "all_success") | {
        "publish": "all_done"
    }
    assert tasks["publish"]["outlets"] == ["erp/database/daily"]
    assert {task["timeout"] for task in tasks.values()} == {6 * 3600}


def test_the_wal_chain_is_one_task_and_its_copies_which_never_wait_for_another_try(erp):
    tasks = erp["dags"]["erp_database_wal"]["tasks"]
    assert {name: task["downstream"] for name, task in tasks.items()} == {
        "collect": ["copies.copy", "publish", "start_full"],
        "copies.copy": ["copies.verify"],
        "copies.verify": ["publish"],
        "publish": [],
        "start_full": [],
    }
    assert tasks["publish"]["rule"] == "all_done"
    assert tasks["publish"]["outlets"] == ["erp/database/wal"]
    assert {name: task["retries"] for name, task in tasks.items()} == {
        "collect": 2,
        "copies.copy": 0,
        "copies.verify": 0,
        "publish": 0,
        "start_full": 0,
    }


def test_the_cleanup_plans_is_guarded_and_hides_before_it_removes_on_each_target(erp):
    dag = erp["dags"]["erp_retention_cleanup"]
    targets = ("primary", "offsite", "local")
    assert {name: task["downstream"] for name, task in dag["tasks"].items()} == {
        "plan": ["guard"],
        "guard": sorted(["report", *(f"targets.{target}.soft_delete" for target in targets)]),
        **{f"targets.{target}.soft_delete": [f"targets.{target}.purge"] for target in targets},
        **{f"targets.{target}.purge": ["report"] for target in targets},
        "report": [],
    }
    assert dag["tasks"]["report"]["rule"] == "all_done"
    assert dag["defaults"] == {"dry_run": False}


def test_the_restore_test_is_one_task_on_a_form_that_knows_sources_and_targets(erp, parse, policies):
    dag = erp["dags"]["erp_restore_test"]
    assert list(dag["tasks"]) == ["restore_test"]
    assert dag["defaults"] == {
        "sources": ["database", "files", "configuration", "code"], "target": None, "seed": None, "reason": "",
    }  # fmt: skip
    assert dag["params"]["target"]["enum"] == [None, "primary", "offsite", "local"]
    write(policies, "shop", ("sources:\n", 'tests: {schedule: "0 6 * * 1#1", queue: scratch}\nsources:\n'))
    assert parse(policies)["dags"]["shop_restore_test"]["tasks"]["restore_test"]["queue"] == "scratch"


def test_a_drill_is_the_eight_steps_one_after_the_other_whatever_became_of_those_before(erp, parse, policies):
    dag = erp["dags"]["erp_dr_drill"]
    steps = ["provision", "code", "database", "files", "configuration", "dns", "verify", "monitor", "record"]
    assert sorted(dag["tasks"]) == sorted(steps)
    assert {name: task["downstream"] for name, task in dag["tasks"].items()} == {
        name: [following] if following else [] for name, following in zip(steps, [*steps[1:], ""], strict=True)
    }  # fmt: skip
    assert {task["rule"] for task in dag["tasks"].values()} == {"all_done"}
    assert dag["defaults"] == {"scenario": None, "incident": None, "reason": ""}
    assert "late_corruption" in dag["params"]["scenario"]["enum"]
    write(policies, "shop", ("sources:\n", "drills: {queue: scratch}\nsources:\n"))
    tasks = parse(policies)["dags"]["shop_dr_drill"]["tasks"]
    assert {task["queue"] for task in tasks.values()} == {"scratch"}


def test_a_set_of_files_is_read_by_the_workers_that_see_it(erp):
    assert {task["queue"] for task in erp["dags"]["erp_files_incremental"]["tasks"].values()} == {"erp_files"}


def test_a_huge_set_of_files_is_read_by_several_tasks_and_brought_together(parse, policies):
    files = """sources:
  uploads:
    kind: files
    url: file:///srv/uploads
    queue: here
    shares: 4
    tiers:
      daily: {schedule: "0 3 * * *", retention: 30d}
"""
    write(policies, "vast", ("sources:\n", files))
    tasks = parse(policies)["dags"]["vast_uploads_daily"]["tasks"]
    assert tasks["preflight"]["downstream"] == ["dump_compress_upload", "shares.read"]
    assert tasks["shares.read"]["downstream"] == ["dump_compress_upload"]
    assert tasks["shares.read"]["queue"] == "here"


def test_a_target_is_cleaned_by_the_workers_that_reach_it(parse, policies):
    write(policies, "far", (OFFSITE[0], OFFSITE[1].replace("connection: far", "connection: far\n    queue: near_it")))
    tasks = parse(policies)["dags"]["far_retention_cleanup"]["tasks"]
    queues = {name: task["queue"] for name, task in tasks.items()}
    assert {name for name, queue in queues.items() if queue == "near_it"} == {
        "targets.offsite.soft_delete", "targets.offsite.purge"
    }  # fmt: skip


def test_the_trigger_form_knows_its_types_and_the_targets_by_name(erp, parse, policies):
    dag = erp["dags"]["erp_database_daily"]
    assert {name: schema["type"] for name, schema in dag["params"].items()} == {
        "targets": "array",
        "deep_verification": "boolean",
        "note": "string",
    }
    assert dag["params"]["targets"]["items"]["enum"] == ["offsite", "local"]
    assert dag["defaults"] == {"targets": ["offsite", "local"], "deep_verification": False, "note": ""}
    write(policies, "alone")
    assert parse(policies)["dags"]["alone_database_daily"]["defaults"]["targets"] == []


def test_each_dag_has_a_page_that_says_where_its_copies_are_and_how_to_bring_them_back(erp):
    for dag in erp["dags"].values():
        system = next(name for name in ("erp", "sales_scorecard") if name in dag["tags"])
        assert {"erp": "s3://your-erp-backups/lifeboat", "sales_scorecard": "s3://sales-scorecard-backups/lifeboat"}[
            system
        ] in dag["doc"]
        backs = tuple(f"restore {system} {source}" for source in ("database", "files", "configuration", "code"))
        if "retention" in dag["tags"]:
            backs = (f"retention plan {system}",)
        if "restore test" in dag["tags"]:
            backs = (f"test {system}",)
        if "restore" in dag["tags"]:
            backs = ("restore`",)  # its form says the rest
        if "drill" in dag["tags"]:
            backs = (f"drill {system}",)
        assert any(f"lifeboat {back}" in dag["doc"] for back in backs)
    assert "--only schema.table" in erp["dags"]["sales_scorecard_database_export"]["doc"]


def test_the_rules_of_ruff_for_airflow_find_nothing():
    ended = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "AIR", "dags", "plugins"],
        cwd=CLONE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
