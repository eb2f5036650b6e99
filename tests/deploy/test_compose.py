"""docker-compose.yaml against the Compose specification, against Airflow itself, and against this tree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from check_jsonschema.builtin_schemas import get_builtin_schema

from lifeboat.connections import connections_from
from lifeboat.policy.loading import load_policies
from sandbox.accounts import CLONE
from tests.deploy import stack

HOURS = re.compile(r"(\d+)h")


def test_it_follows_the_compose_specification() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(stack.compose())] == []
    broken = json.loads(json.dumps(stack.compose())) | {"services": {"redis": {"imagine": "redis"}}}
    assert list(validator.iter_errors(broken)), "the schema would take anything"


def test_every_variable_is_required_and_explained_and_none_has_a_default() -> None:
    assert {found[2] for found in stack.VARIABLE.finditer(stack.text())} == {":?"}
    assert stack.used_variables() == set(stack.example_variables())
    assert set(stack.example_variables().values()) == {""}
    # Each is explained: the lines before the group of its name are comments.
    paragraphs = (CLONE / ".env.example").read_text(encoding="utf-8").strip().split("\n\n")
    assert all(paragraph.startswith("# ") for paragraph in paragraphs)


def test_no_secret_is_written_down_and_every_secret_comes_from_a_variable() -> None:
    names = re.compile(r"PASSWORD|SECRET|FERNET|BROKER_URL|RESULT_BACKEND|SQL_ALCHEMY_CONN$|AIRFLOW_CONN")
    for name, service in stack.services().items():
        for variable, value in (service.get("environment") or {}).items():
            if names.search(variable) and "SMTP" not in variable and "OFFSITE" not in variable:
                assert "a-value-of-" in str(value), f"{name}: {variable}"
        for part in ("command", "entrypoint"):
            assert "a-value-of-" not in str(service.get(part)), f"{name}: a secret on a command line"


def test_mounted_files_exist_or_are_made_by_the_preparation(prepared: Path) -> None:
    for mount in stack.mounts():
        made = mount.source.startswith("./secrets/")
        assert ((prepared if made else CLONE) / mount.source).exists(), mount
        # The store keeps its accounts' file itself; nothing else of the tree can be changed from inside.
        assert mount.mode == "ro" or (mount.service, mount.source) == ("store", "./secrets/store")


def test_policies_dags_and_plugins_are_where_each_process_of_airflow_looks() -> None:
    for name, service in stack.airflow_services().items():
        targets = {line.split(":")[1] for line in service["volumes"]}
        assert {f"/opt/airflow/{folder}" for folder in ("dags", "plugins", "include", "deploy")} <= targets, name
        place = service["environment"]["LIFEBOAT_POLICIES"].removeprefix("/opt/airflow/")
        assert (CLONE / place).is_dir()


@pytest.mark.parametrize("name", sorted(stack.airflow_services()))
def test_every_process_of_airflow_has_the_same_settings(name: str) -> None:
    environment = stack.services()[name]["environment"]
    demanded = stack.demanded_settings()
    assert len(demanded) == 7
    assert {setting: environment.get(setting) for setting in demanded} == demanded
    for same in ("API_AUTH__JWT_SECRET", "CORE__EXECUTION_API_SERVER_URL", "CORE__FERNET_KEY", "API__SECRET_KEY"):
        assert len({str(one["environment"][f"AIRFLOW__{same}"]) for one in stack.airflow_services().values()}) == 1


def test_tasks_find_the_api_server_where_it_listens() -> None:
    url = stack.services()["scheduler"]["environment"]["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    assert url == "http://api-server:8080/execution/"
    assert stack.services()["api-server"]["ports"] == ["127.0.0.1:8080:8080"]


def test_every_setting_is_one_that_airflow_knows() -> None:
    named = {name for one in stack.airflow_services().values() for name in one["environment"]}
    settings = sorted(name for name in named if re.match(r"AIRFLOW__[A-Z]", name))
    known = _airflow("known")
    unknown = [name for name in settings if tuple(name.removeprefix("AIRFLOW__").lower().split("__")) not in known]
    assert unknown == []


def test_each_command_is_one_of_airflows() -> None:
    commands = _airflow("commands")
    for name, service in stack.airflow_services().items():
        if name not in stack.JOBS:
            words = str(service["command"]).split(" --")[0]
            assert tuple(words.split()) in commands, f"{name}: airflow {words}"
    script = (CLONE / "deploy" / "airflow-init.sh").read_text(encoding="utf-8")
    called = {
        tuple(found.split()) for found in re.findall(r"\bairflow ((?:[a-z]+[a-z-]* ?){1,2})(?=[-\"\\\n])", script)
    }
    assert called == {("db", "migrate"), ("sync-perm",), ("roles", "import"), ("users", "create")}
    assert called <= commands


def test_every_queue_of_a_policy_has_a_worker_and_so_has_a_task_without_one() -> None:
    served = set().union(*stack.queues().values())
    assert served == {"backup", "wal", "restore"}
    named = set()
    for loaded in load_policies(CLONE / "deploy" / "policies").policies.values():
        for source in loaded.policy.sources.values():
            named |= {tier.queue for tier in source.tiers.values() if tier.queue}
    assert named == {"backup", "wal"}
    assert {one["environment"]["AIRFLOW__OPERATORS__DEFAULT_QUEUE"] for one in stack.airflow_services().values()} == {
        "backup"
    }


def test_wal_waits_behind_no_backup_and_restores_have_a_worker_of_their_own() -> None:
    assert sorted(map(sorted, stack.queues().values())) == [["backup"], ["restore"], ["wal"]]


def test_a_worker_may_finish_what_it_has_begun() -> None:
    longest = max(_timeouts())
    for name, worker in stack.workers().items():
        assert worker["environment"]["DUMB_INIT_SETSID"] == "0", name
        hours = HOURS.fullmatch(worker["stop_grace_period"])
        assert hours is not None
        assert int(hours[1]) * 3600 > longest, f"{name} is killed before its longest task ends"
        timeout = worker["environment"]["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]
        assert int(timeout) > 10 * longest, "Redis would hand a running task out again"


def test_connections_are_where_they_are_used_and_read_as_connections() -> None:
    (loaded,) = load_policies(CLONE / "deploy" / "policies").policies.values()
    needed = set(loaded.connections("database"))
    for name in ("worker-backup", "worker-wal", "triggerer"):
        found = stack.connections(name)
        assert needed <= set(found), name
        find = connections_from(stack.services()[name]["environment"])
        kinds = {connection: find(connection).type for connection in found}
        assert kinds == {"erp_database": "postgres", "erp_primary": "aws", "erp_offsite": "sftp", "erp_smtp": "smtp"}
    for name in ("api-server", "scheduler"):
        assert stack.connections(name) == {}, f"{name} runs no task and needs no credentials"
    # Failure callbacks of DAGs, and so alerts, run in the DAG processor.
    channels = {str(channel.connection) for channel in loaded.policy.alerts.channels.values()}
    assert set(stack.connections("dag-processor")) == channels


def test_restores_use_other_credentials_than_backups() -> None:
    backup, restore = (stack.connections(f"worker-{name}") for name in ("backup", "restore"))
    assert set(restore) < set(backup)
    assert backup["erp_primary"]["login"] == "lifeboat-backup"
    assert restore["erp_primary"]["login"] == "lifeboat-restore"
    assert backup["erp_primary"]["password"] != restore["erp_primary"]["password"]
    assert "erp_database" not in restore
    local = [line for line in stack.services()["worker-restore"]["volumes"] if line.startswith("local:")]
    assert local == ["local:/backups:ro"]


def test_every_service_is_watched_and_nothing_starts_before_what_it_needs() -> None:
    for name, service in stack.services().items():
        if name in stack.JOBS:
            assert service["restart"] == "no"
        else:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
        for needed, how in (service.get("depends_on") or {}).items():
            wanted = "service_completed_successfully" if needed in stack.JOBS else "service_healthy"
            assert how == {"condition": wanted}, f"{name} waits for {needed}"
    for name, service in stack.airflow_services().items():
        assert name == "airflow-init" or {"metadata", "redis", "airflow-init"} <= set(service["depends_on"])


def test_every_image_has_a_version_and_no_port_is_open_to_the_network() -> None:
    for name, service in stack.services().items():
        if "build" not in service:
            tag = service["image"].partition(":")[2]
            assert re.search(r"\d+\.\d+", tag), f"{name}: {service['image']}"
        assert "latest" not in service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_monitoring_is_a_profile_and_scrapes_what_there_is() -> None:
    assert {name for name, one in stack.services().items() if one.get("profiles")} == {"prometheus", "grafana"}
    text = (CLONE / "deploy" / "monitoring" / "prometheus.yaml").read_text(encoding="utf-8")
    assert re.findall(r'targets: \["(\w+):(\d+)"\]', text) == [("statsd", "9102")]
    environment = stack.services()["scheduler"]["environment"]
    assert environment["AIRFLOW__METRICS__STATSD_HOST"] in stack.services()


def _timeouts() -> list[float]:
    (loaded,) = load_policies(CLONE / "deploy" / "policies").policies.values()
    tiers = [tier for source in loaded.policy.sources.values() for tier in source.tiers.values()]
    return [tier.timeout.fixed.total_seconds() for tier in tiers if tier.timeout is not None and tier.timeout.fixed]


_ASK = """
import json, sys
from airflow.configuration import conf
from airflow.cli import cli_parser
known = [[section, name] for section, one in conf.configuration_description.items() for name in one["options"]]
commands = []
def walk(parser, words):
    import argparse
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        commands.append(words)
    for group in groups:
        for name, sub in group.choices.items():
            walk(sub, [*words, name])
walk(cli_parser.get_parser(), [])
print("ANSWER", json.dumps({"known": known, "commands": commands}))
"""
_ANSWER: dict[str, Any] = {}


def _airflow(what: str) -> set[tuple[str, ...]]:
    """What Airflow itself says, with FAB as its auth manager, in a process of its own."""
    if not _ANSWER:
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "AIRFLOW_HOME": "/nonexistent/airflow",
            "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2://nobody@127.0.0.1/nowhere",
        }
        ended = subprocess.run(
            [sys.executable, "-c", _ASK], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        lines = [line for line in ended.stdout.splitlines() if line.startswith("ANSWER ")]
        assert lines, ended.stderr[-2000:]
        _ANSWER.update(json.loads(lines[0].removeprefix("ANSWER ")))
    return {tuple(words) for words in _ANSWER[what]}
