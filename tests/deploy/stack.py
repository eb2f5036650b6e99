"""The Compose file as Compose reads it: anchors resolved, variables put in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sandbox.accounts import CLONE

COMPOSE = CLONE / "docker-compose.yaml"
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z][A-Z0-9_]*)([^}]*)\}")
JOBS = {"airflow-init", "store-init"}
"""Services that do their work and end."""


@cache
def text() -> str:
    return COMPOSE.read_text(encoding="utf-8")


def interpolated(values: dict[str, str]) -> dict[str, Any]:
    """The file with its variables put in; ``$$`` becomes ``$``."""
    content = VARIABLE.sub(lambda found: values[found[1]], text()).replace("$$", "$")
    loaded: dict[str, Any] = yaml.safe_load(content)
    return loaded


@cache
def compose() -> dict[str, Any]:
    return interpolated({name: f"a-value-of-{name.lower()}" for name in used_variables()})


def used_variables() -> set[str]:
    return {found[1] for found in VARIABLE.finditer(text())}


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def airflow_services() -> dict[str, dict[str, Any]]:
    """Those that run Airflow."""
    return {
        name: one for name, one in services().items() if "AIRFLOW__CORE__EXECUTOR" in (one.get("environment") or {})
    }


def workers() -> dict[str, dict[str, Any]]:
    return {name: one for name, one in airflow_services().items() if "celery worker" in str(one.get("command"))}


def option(command: str, name: str) -> str:
    """The value of an option of a worker's command."""
    words = command.split()
    return words[words.index(name) + 1]


def queues() -> dict[str, set[str]]:
    """The queues that each worker serves."""
    return {name: set(option(one["command"], "--queues").split(",")) for name, one in workers().items()}


@dataclass(frozen=True)
class Mount:
    """A file or directory of the tree, and where a container sees it."""

    service: str
    source: str
    target: str
    mode: str


def mounts() -> list[Mount]:
    """All mounts of files; volumes of Docker's own are no files."""
    found = []
    for name, one in services().items():
        for line in one.get("volumes", []):
            source, target, *mode = line.split(":")
            if source.startswith("."):
                found.append(Mount(name, source, target, mode[0] if mode else "rw"))
    return found


def connections(service: str) -> dict[str, Any]:
    """The connections in a service's environment, by id."""
    environment = services()[service].get("environment") or {}
    return {
        name.removeprefix("AIRFLOW_CONN_").lower(): json.loads(value)
        for name, value in environment.items()
        if name.startswith("AIRFLOW_CONN_")
    }


def demanded_settings() -> dict[str, str]:
    """What docs/airflow-settings.md demands, as the names of environment variables."""
    page = (CLONE / "docs" / "airflow-settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\[(\w+)\] (\w+)` \| (\S+) \|", page, flags=re.MULTILINE)
    return {f"AIRFLOW__{section.upper()}__{name.upper()}": value for section, name, value in rows}


def example_variables() -> dict[str, str]:
    """What .env.example names, with the value that it gives."""
    lines = (CLONE / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]", line))


def exists(source: str) -> bool:
    return (CLONE / Path(source)).exists()
