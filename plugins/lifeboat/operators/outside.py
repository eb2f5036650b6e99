"""What the core takes from outside, taken from Airflow: its connections, its hooks' clients, the clock."""

from __future__ import annotations

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
        extra=found.extra_dejson,
        description=found.description,
    )


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
