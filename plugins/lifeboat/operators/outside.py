"""What the core takes from outside, taken from Airflow: its connections, its hooks' clients, the clock."""

from __future__ import annotations

import json
from typing import Any

from lifeboat.errors import ConnectionUnknown
from lifeboat.outside import Connection, Outside


def airflow_outside() -> Outside:
    """The factories for a running task. Airflow masks every password that it hands out in the task's log."""
    return Outside(connection=_connection, aws_client=_aws_client, variable=_variable)


def has_connection(connection_id: str) -> bool:
    """Whether Airflow knows a connection."""
    try:
        _connection(connection_id)
    except ConnectionUnknown:
        return False
    return True


def _connection(connection_id: str) -> Connection:
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        found = BaseHook.get_connection(connection_id)
    except AirflowNotFoundException as error:
        raise ConnectionUnknown(
            f"Airflow has no connection {connection_id!r}.",
            "Make it (Admin, Connections), or set it in the secrets backend or as an AIRFLOW_CONN_… variable.",
        ) from error
    return Connection(
        id=connection_id,
        type=found.conn_type or "",
        host=found.host,
        port=found.port,
        login=found.login,
        password=found.password,
        schema=found.schema,
        extra=_extra(connection_id, found),
        description=found.description,
    )


def _extra(connection_id: str, found: Any) -> Any:
    """The extra, parsed; Airflow's own parser gives nothing for what it can't read, which would be lost in silence."""
    if found.extra:
        try:
            whole = isinstance(json.loads(found.extra), dict)
        except ValueError:
            whole = False
        if not whole:
            raise ConnectionUnknown(
                f"The extra of Airflow's connection {connection_id!r} is no JSON mapping.", "Mend it, or empty it."
            )
    return found.extra_dejson  # this one masks it in logs


def _variable(name: str) -> str:
    from airflow.sdk import Variable

    missing = object()
    value = Variable.get(name, default=missing)
    if value is missing:
        raise ConnectionUnknown(
            f"Airflow has no variable {name!r}.",
            "Make it (Admin, Variables), or set it in the secrets backend or as an AIRFLOW_VAR_… variable.",
        )
    return str(value)


def _aws_client(service: str, connection_id: str | None = None, **config: Any) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
    from botocore.config import Config

    # The hook's sessions renew credentials of assumed roles themselves, so a client lives as long as its task.
    hook: Any = AwsGenericHook(aws_conn_id=connection_id, client_type=service)
    return hook.get_client_type(config=Config(**config))
