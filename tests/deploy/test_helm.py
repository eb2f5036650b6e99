"""The values for Kubernetes say what the Compose file says."""

from __future__ import annotations

from typing import Any

import yaml

from sandbox.accounts import CLONE
from tests.deploy import stack


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CLONE / "deploy" / "helm" / "values.yaml").read_text(encoding="utf-8"))
    return loaded


def test_settings_version_and_queues_are_those_of_the_compose_file() -> None:
    found = values()
    settings = {
        f"AIRFLOW__{section.upper()}__{name.upper()}": value
        for section, names in found["config"].items()
        for name, value in names.items()
    }
    compose = stack.services()["scheduler"]["environment"]
    assert settings == {name: compose[name] for name in settings}
    assert set(stack.demanded_settings()) <= set(settings)
    assert found["executor"] == compose["AIRFLOW__CORE__EXECUTOR"]
    assert found["airflowVersion"] == stack.services()["scheduler"]["build"]["args"]["AIRFLOW_VERSION"]
    celery = found["workers"]["celery"]
    assert {one["queue"] for one in celery["sets"]} == set().union(*stack.queues().values())
    assert not celery["enableDefault"], "nobody would serve its queue"
    assert celery["terminationGracePeriodSeconds"] == 8 * 3600


def test_every_set_of_workers_has_its_own_credentials_and_the_keys() -> None:
    celery = values()["workers"]["celery"]
    for one in celery["sets"]:
        secrets = {item["secretRef"]["name"] for item in yaml.safe_load(one["extraEnvFrom"])}
        own = "lifeboat-restore" if one["name"] == "restore" else "lifeboat-backup"
        assert secrets == {"lifeboat-alerts", own}
        mounted = one.get("extraVolumeMounts", celery["extraVolumeMounts"])
        volumes = {volume["name"] for volume in one.get("extraVolumes", celery["extraVolumes"])}
        assert {mount["name"] for mount in mounted} == volumes
        assert "/etc/lifeboat" in {mount["mountPath"] for mount in mounted}
    text = (CLONE / "deploy" / "helm" / "values.yaml").read_text(encoding="utf-8")
    assert "password:" not in text.replace("passwordSecretName:", "")
