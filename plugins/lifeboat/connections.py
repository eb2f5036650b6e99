"""Connections without Airflow, in Airflow's own forms: the same values work in both places.

Where they come from, in this order:

1. The environment variable ``AIRFLOW_CONN_<ID>``, the id in upper case.
2. A YAML or JSON file that maps ids to connections, as Airflow's local filesystem backend reads it.

What a connection looks like, in either place:

- a URI: ``type://login:password@host:port/schema?name=value``; login, password, host and schema percent-encoded; the
  query becomes *extra*, or the JSON in its ``__extra__``; ``postgresql`` is ``postgres``, ``-`` in a type is ``_``;
  ``type://protocol://host`` keeps the protocol in the host;
- JSON (in the file: a mapping) with ``conn_type``, ``host``, ``port``, ``login``, ``password``, ``schema``, ``extra``
  (a mapping, or JSON of one) and ``description``.

Airflow's variables stand in the environment alone, as ``AIRFLOW_VAR_<NAME>``.

Lists of connections for one id, and other secret backends, are Airflow's alone.

Sources: https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html,
https://airflow.apache.org/docs/apache-airflow/stable/security/secrets/secrets-backend/local-filesystem-secrets-backend.html
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from lifeboat.aws_clients import aws_clients
from lifeboat.errors import ConnectionUnknown
from lifeboat.outside import Connection, Outside, utc_now

_ENVIRONMENT = "AIRFLOW_CONN_"
_VARIABLE = "AIRFLOW_VAR_"
_FIELDS = frozenset({"conn_type", "host", "port", "login", "password", "schema", "extra", "description", "conn_id"})


def connections_from(environment: Mapping[str, str], file: Path | None = None) -> Callable[[str], Connection]:
    """What finds connections by their id, in the environment first, then in the file.

    Args:
        environment: usually ``os.environ``; looked at anew for each connection.
        file: a ``.json``, ``.yaml`` or ``.yml`` file that its owner alone (or a group) can read; read at once.

    Raises:
        ConnectionUnknown: the file is missing, open to others, or can't be read; the returned function: there is no
            such connection, or it is not written as Airflow wants it. No message holds any of its values.
    """
    in_file = {} if file is None else _read(file)

    def find(connection_id: str) -> Connection:
        variable = f"{_ENVIRONMENT}{connection_id.upper()}"
        if environment.get(variable):
            return _parse(connection_id, environment[variable], f"the environment variable {variable}")
        if connection_id in in_file:
            return _parse(connection_id, in_file[connection_id], f"{file}, entry {connection_id}")
        places = variable if file is None else f"{variable} and {file}"
        raise ConnectionUnknown(
            f"The connection {connection_id} was not found. Looked at: {places}.",
            f"Set {variable} to the connection in Airflow's URI or JSON form, or name a file of connections.",
        )

    return find


def outside_from(
    environment: Mapping[str, str], file: Path | None = None, *, clock: Callable[[], datetime] = utc_now
) -> Outside:
    """Everything that the core takes from outside, where there is no Airflow.

    Raises:
        ConnectionUnknown: as :func:`connections_from`.
    """
    find = connections_from(environment, file)
    makers: dict[str | None, tuple[Connection | None, Callable[..., Any]]] = {}

    def aws_client(service: str, connection_id: str | None = None, **config: Any) -> Any:
        connection = find(connection_id) if connection_id else None
        # One session for a connection: it keeps the descriptions of services and the credentials of a role.
        if connection_id not in makers or makers[connection_id][0] != connection:
            makers[connection_id] = (connection, aws_clients(connection))
        return makers[connection_id][1](service, **config)

    def variable(name: str) -> str:
        value = environment.get(f"{_VARIABLE}{name.upper()}")
        if value is None:
            raise ConnectionUnknown(
                f"The Airflow variable {name} was not found. Looked at: {_VARIABLE}{name.upper()}.",
                f"Set {_VARIABLE}{name.upper()} to its value.",
            )
        return value

    return Outside(connection=find, aws_client=aws_client, clock=clock, variable=variable, environment=environment)


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConnectionUnknown(f"The file of connections {file} can't be read: {reason}.") from None
    if not stat.S_ISREG(mode) or mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConnectionUnknown(
            f"The file of connections {file} has mode {stat.S_IMODE(mode):04o}: others can read or change its secrets.",
            f"chmod 600 {file}; if others were on this machine, change the passwords.",
        )
    try:
        content = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        # The parser's own message quotes the text around the fault, and that may be a password.
        raise ConnectionUnknown(f"The file of connections {file} can't be read{_line_of(error)}.") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConnectionUnknown(f"{file} does not map connection ids to connections.", "Write `my_id: type://…` lines.")
    return content


def _line_of(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    line = getattr(error, "lineno", None) or (mark.line + 1 if mark is not None else None)
    return f": line {line} is not as it should be" if line else ": it is neither JSON nor YAML"


def _parse(connection_id: str, value: object, place: str) -> Connection:
    """Read either form. ``place`` says where the value stood."""

    def refuse(reason: str) -> ConnectionUnknown:
        return ConnectionUnknown(
            f"The connection {connection_id} in {place} can't be read: {reason}.",
            "Write it as Airflow's URI (type://login:password@host:port/schema?…) or JSON form.",
        )

    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("{"):
            return _from_uri(connection_id, text, refuse)
        try:
            value = json.loads(text)
        except ValueError as error:
            raise refuse(f"its JSON breaks off{_line_of(error)}") from None
    if not isinstance(value, dict):
        raise refuse("it is neither a URI nor a mapping")
    return _from_mapping(connection_id, value, refuse)


def _from_mapping(
    connection_id: str, value: Mapping[str, Any], refuse: Callable[[str], ConnectionUnknown]
) -> Connection:
    unknown = sorted(str(name) for name in value if name not in _FIELDS)
    if unknown:
        raise refuse(f"it has unknown fields: {', '.join(unknown)}")
    if not isinstance(value.get("conn_type"), str) or not value["conn_type"]:
        raise refuse("conn_type is missing")
    texts = {}
    for name in ("host", "login", "password", "schema", "description"):
        text = value.get(name)
        # YAML reads a password of digits as a number.
        if text is not None and (isinstance(text, bool) or not isinstance(text, str | int)):
            raise refuse(f"{name} is not text (put it in quotes)")
        texts[name] = None if text is None else str(text)
    extra = value.get("extra")
    return Connection(
        id=connection_id,
        type=_type(value["conn_type"]),
        port=_port(value.get("port"), refuse),
        extra=_extra(extra, refuse),
        **texts,
    )


def _port(value: object, refuse: Callable[[str], ConnectionUnknown]) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,5}", str(value)) or not 0 < int(str(value)) < 65536:
        raise refuse("port is not a number from 1 to 65535")
    return int(str(value))


def _extra(value: object, refuse: Callable[[str], ConnectionUnknown]) -> dict[str, Any]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise refuse("extra is not JSON") from None
    if not value:
        return {}
    if not isinstance(value, dict):
        raise refuse("extra is not a mapping")
    return value


def _type(text: str) -> str:
    return "postgres" if text == "postgresql" else text.replace("-", "_")


def _from_uri(connection_id: str, uri: str, refuse: Callable[[str], ConnectionUnknown]) -> Connection:
    scheme, separator, rest = uri.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*|[A-Za-z][A-Za-z0-9_]*", scheme):
        raise refuse("it does not begin with type://")
    protocol, separator, beyond = rest.partition("://")
    if separator and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", protocol):
        # The second :// stands in the query, say in an endpoint_url.
        protocol, separator, beyond = "", "", rest
    try:
        parts = urlsplit(f"//{beyond if separator else rest}")
        port = parts.port
    except ValueError:
        raise refuse("host or port are not as in a URL; is something not percent-encoded?") from None
    host = _host(parts)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Connection(
        id=connection_id,
        type=_type(scheme),
        host=f"{protocol}://{host}" if separator and host else host,
        port=port,
        login=unquote(parts.username) if parts.username else parts.username,
        password=unquote(parts.password) if parts.password else parts.password,
        schema=unquote(parts.path[1:]),
        extra=_extra(query["__extra__"], refuse) if "__extra__" in query else query,
    )


def _host(parts: SplitResult) -> str:
    host = unquote(parts.hostname or "")
    if "/" not in host:
        return host
    # A path (of a socket, say): `hostname` made its capital letters small.
    return unquote(parts.netloc.rpartition("@")[2].partition(":")[0])
