"""What the core takes from outside: secrets, clients of services, the clock.

The operators fill an :class:`Outside` from Airflow's connections and hooks, the command line from the environment or a
file, the tests from fixtures. Nothing in the core reads a secret or the time in any other way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lifeboat.errors import ConnectionUnknown


@dataclass(frozen=True)
class Connection:
    """A connection as Airflow describes one: where something is, and who we are there.

    ``extra`` is the parsed JSON of Airflow's *extra* field. ``password`` never appears in ``repr``.
    Source: https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html
    """

    id: str
    type: str
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    description: str | None = field(default=None, repr=False)


def as_airflow(connection: Connection) -> dict[str, Any]:
    """A connection in Airflow's JSON form.

    Source: https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html#json-format-example
    """
    fields: dict[str, Any] = {
        "conn_type": connection.type,
        "host": connection.host,
        "port": connection.port,
        "login": connection.login,
        "password": connection.password,
        "schema": connection.schema,
        "extra": dict(connection.extra),
    }
    return {name: value for name, value in fields.items() if value not in (None, {})}


def utc_now() -> datetime:
    """The present moment, timezone-aware, in UTC."""
    return datetime.now(UTC)


def no_variables(name: str) -> str:
    """Finds no Airflow variable: where there is none to ask."""
    raise ConnectionUnknown(f"The Airflow variable {name} can't be looked up here.")


@dataclass(frozen=True)
class Outside:
    """Factories for what lives outside the core.

    Attributes:
        connection: finds a connection by its id; raises ``ConnectionUnknown``.
        aws_client: makes a boto3 client for a service (``"s3"``, ``"kms"``) from a connection id (``None``: the
            default credentials of the machine); keyword arguments reach ``botocore.config.Config``. Its credentials
            refresh themselves: a client may be used for hours.
        clock: the present moment, in UTC.
        variable: finds the value of an Airflow variable by its name; raises ``ConnectionUnknown``.
        environment: the variables of the process that backs up.
    """

    connection: Callable[[str], Connection]
    aws_client: Callable[..., Any]
    clock: Callable[[], datetime] = utc_now
    variable: Callable[[str], str] = no_variables
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
