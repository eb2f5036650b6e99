"""Values that are no files: variables of the environment, Airflow's connections and variables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

from lifeboat.configuration.gathered import Gathered, Problem
from lifeboat.configuration.items import About, item_name
from lifeboat.errors import Cancelled, ConnectionUnknown, LifeboatError
from lifeboat.outside import Connection, Outside


def take_environment(patterns: Iterable[str], outside: Outside, gathered: Gathered) -> None:
    """Variables of the process that backs up."""
    environment = outside.environment
    for pattern in patterns:
        literal = not any(sign in pattern for sign in "*?[")
        names = [name for name in environment if name == pattern or (not literal and fnmatchcase(name, pattern))]
        for name in names:
            gathered.add(About(item_name("environment", name), "value"), os.fsencode(environment[name]))
        if names:
            continue
        remedy = "Set it for the workers of the source's `queue`, or take it out of the policy."
        if literal:
            gathered.problems.append(Problem(item_name("environment", pattern), "is not set", "missing", remedy))
        else:
            gathered.problems.append(Problem(f"environment/{pattern}", "fits no variable", "nothing", remedy))


def take_connections(names: Iterable[str], outside: Outside, gathered: Gathered, tick: Callable[[], None]) -> None:
    """Airflow connections: a task can read them by name, not list them."""
    for name in names:
        tick()
        item = item_name("connections", name)
        content = _asked(item, lambda name=name: connection_document(outside.connection(name)), gathered)  # type: ignore[misc]
        if content is not None:
            gathered.add(About(item, "value"), content)


def take_variables(names: Iterable[str], outside: Outside, gathered: Gathered, tick: Callable[[], None]) -> None:
    """Airflow variables."""
    for name in names:
        tick()
        item = item_name("variables", name)
        content = _asked(item, lambda name=name: os.fsencode(outside.variable(name)), gathered)  # type: ignore[misc]
        if content is not None:
            gathered.add(About(item, "value"), content)


def _asked(item: str, ask: Callable[[], bytes], gathered: Gathered) -> bytes | None:
    try:
        return ask()
    except Cancelled:
        raise
    except UnicodeEncodeError:
        gathered.problems.append(Problem(item, "can't be kept: it is no text", "unread", "Write it anew."))
    except ConnectionUnknown as error:
        gathered.problems.append(Problem(item, f"can't be had: {error.what}", "missing", error.remedy))
    except LifeboatError as error:
        gathered.problems.append(Problem(item, f"can't be read: {error.what}", "unread", error.remedy))
    return None


def connection_document(connection: Connection) -> bytes:
    """A connection in Airflow's JSON form: what an ``AIRFLOW_CONN_…`` variable takes.

    Source: https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#json-format-example
    """
    told: dict[str, Any] = {
        "conn_type": connection.type, "description": connection.description, "host": connection.host,
        "login": connection.login, "password": connection.password, "schema": connection.schema,
        "port": connection.port, "extra": dict(connection.extra) or None,
    }  # fmt: skip
    known = {key: value for key, value in told.items() if value is not None}
    return json.dumps(known, indent=2, sort_keys=True).encode() + b"\n"
