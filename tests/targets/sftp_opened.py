"""SFTP targets opened with more to say about them than a policy has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lifeboat.connections import outside_from
from lifeboat.targets.sftp import SftpTarget
from sandbox.sftp_servers import SftpServer
from tests.targets.conftest import Place
from tests.targets.cutting_proxy import CuttingProxy


def document(server: SftpServer, **fields: Any) -> dict[str, Any]:
    """The server's connection in Airflow's JSON form; fields that are ``None`` are left out."""
    known = server.document("store")
    extra = {**known["extra"], **fields.pop("extra", {})}
    return {**known, **fields, "extra": {name: value for name, value in extra.items() if value is not None}}


def opened(
    place: Place, *, port: int | None = None, silence: float = 60, patience: float = 120, **fields: Any
) -> SftpTarget:
    assert isinstance(place.server, SftpServer)
    if port is not None:
        fields["port"] = port
    outside = outside_from({"AIRFLOW_CONN_STORE": json.dumps(document(place.server, **fields))})
    root = urlsplit(place.policy["url"]).path
    return SftpTarget(
        "store", host="127.0.0.1", root=root, outside=outside, connection="store", silence=silence, patience=patience
    )


def root_of(place: Place) -> Path:
    root = place.extra["root"]
    assert isinstance(root, Path)
    return root


def port_of(proxy: CuttingProxy) -> int:
    return urlsplit(proxy.endpoint).port or 0
