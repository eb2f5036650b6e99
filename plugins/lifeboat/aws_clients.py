"""boto3 clients from a connection of Airflow's ``aws`` type, without Airflow.

The fields that are understood, as Airflow's Amazon provider understands them:

- login, password: access key id and secret key; or ``aws_access_key_id`` and ``aws_secret_access_key`` in *extra*;
  without either, the machine's own credentials (environment, profile, instance role);
- *extra*: ``aws_session_token``, ``region_name``, ``profile_name``, ``endpoint_url`` (of every service), ``verify``
  (``false``, or the file of an authority's certificates), ``config_kwargs`` (of ``botocore.config.Config``: they win
  over what Lifeboat sets), ``service_config.<service>.endpoint_url`` (of one service), ``role_arn`` (a role to assume,
  with ``assume_role_kwargs``; its credentials are renewed as long as the client lives). STS is asked for the role at
  ``service_config.sts.endpoint_url`` or at AWS, never at ``endpoint_url``.

Any other ``assume_role_method`` than ``assume_role`` (SAML, web identity) needs Airflow. Fields that are not named here
are passed over.

Source: https://airflow.apache.org/docs/apache-airflow-providers-amazon/stable/connections/aws.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from lifeboat.errors import ConnectionUnknown
from lifeboat.outside import Connection

_ANY_REGION = "us-east-1"


def aws_clients(connection: Connection | None) -> Callable[..., Any]:
    """What makes boto3 clients: called with a service's name (``"s3"``) and arguments of ``botocore.config.Config``.

    boto3 is imported, and a role is asked for, when the first client is made or used.

    Args:
        connection: a connection of type ``aws``; ``None``: the machine's own credentials.

    Raises:
        ConnectionUnknown: the connection's fields contradict each other or are not understood here.
    """
    if connection is None:
        connection = Connection(id="(default credentials)", type="aws")
    extra = connection.extra
    _check(connection, extra)
    lock = threading.Lock()
    sessions: list[Any] = []

    def client(service: str, **config: Any) -> Any:
        from botocore.config import Config

        with lock:  # a session makes one client at a time
            if not sessions:
                sessions.append(_session(connection, extra))
            return sessions[0].client(
                service,
                config=Config(**config).merge(Config(**_of_mapping(extra, "config_kwargs"))),
                endpoint_url=_endpoint(extra, service) or extra.get("endpoint_url"),
                verify=extra.get("verify"),
            )

    return client


def _check(connection: Connection, extra: Mapping[str, Any]) -> None:
    def refuse(reason: str, remedy: str = "") -> ConnectionUnknown:
        return ConnectionUnknown(f"The connection {connection.id} can't be used for AWS: {reason}.", remedy)

    if connection.type != "aws":
        raise refuse(f"its type is {connection.type}", "Name a connection of type aws.")
    if extra.get("assume_role_method", "assume_role") != "assume_role":
        raise refuse(
            f"assume_role_method {extra['assume_role_method']} needs Airflow", "Use keys or a role without federation."
        )
    for name in ("config_kwargs", "service_config", "assume_role_kwargs"):
        if not isinstance(extra.get(name) or {}, Mapping):
            raise refuse(f"{name} in its extra is not a mapping", "Write the connection in JSON form.")
    if bool(connection.login) != bool(connection.password):
        raise refuse("it has only one of login and password", "Set both, or neither for the machine's own credentials.")


def _of_mapping(extra: Mapping[str, Any], name: str) -> dict[str, Any]:
    return dict(extra.get(name) or {})


def _endpoint(extra: Mapping[str, Any], service: str) -> str | None:
    endpoint = (_of_mapping(extra, "service_config").get(service) or {}).get("endpoint_url")
    return str(endpoint) if endpoint else None


def _session(connection: Connection, extra: Mapping[str, Any]) -> Any:
    import boto3
    import botocore.session

    region = extra.get("region_name") or (_ANY_REGION if extra.get("endpoint_url") else None)
    basic = boto3.session.Session(
        aws_access_key_id=connection.login or extra.get("aws_access_key_id"),
        aws_secret_access_key=connection.password or extra.get("aws_secret_access_key"),
        aws_session_token=extra.get("aws_session_token"),
        region_name=region,
        profile_name=extra.get("profile_name"),
    )
    if not extra.get("role_arn"):
        return basic
    assumed = botocore.session.get_session()
    assumed._credentials = _role(basic, extra)  # the way botocore's own documentation of refreshable sessions goes
    return boto3.session.Session(botocore_session=assumed, region_name=region or basic.region_name)


def _role(basic: Any, extra: Mapping[str, Any]) -> Any:
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    def sts(service: str, **arguments: Any) -> Any:
        return basic.client(service, endpoint_url=_endpoint(extra, "sts"), verify=extra.get("verify"), **arguments)

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=sts,
        source_credentials=basic.get_credentials(),
        role_arn=extra["role_arn"],
        extra_args=_of_mapping(extra, "assume_role_kwargs"),
    )
    return DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="sts-assume-role")
