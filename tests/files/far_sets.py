"""Sets of files that are not on the worker: in buckets, and on SFTP servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sandbox.s3_servers import S3Server
from tests.files.conftest import FILES, FileSet
from tests.repository.world import World
from tests.targets.conftest import Place, s3_place

TIERS = """
    tiers:
      incremental: {schedule: "0 */3 * * *", retention: 30d}
      daily: {schedule: "0 3 * * *", retention: 30d}
"""


def far_set(world: World, back: Path, url: str, environment: Mapping[str, str], more: str = "") -> FileSet:
    """A system that protects what is at ``url``, by the connection ``far``."""
    source = f"\nsources:\n  {FILES}:\n    kind: files\n    url: {url}\n    connection: far\n{more}{TIERS}"
    bent = world.bent("\nsources:\n", source)
    back.mkdir(exist_ok=True)
    return FileSet(replace(bent, environment={**bent.environment, **environment}), Path(), back)


@dataclass
class Bucket:
    """A bucket whose folder ``set`` is protected."""

    files: FileSet
    name: str
    client: Any
    root: str = "set/"
    place: Place | None = field(default=None, repr=False)

    def put(self, path: str, data: bytes | str = b"some bytes", **more: Any) -> None:
        body = data.encode() if isinstance(data, str) else data
        self.client.put_object(Bucket=self.name, Key=f"{self.root}{path}", Body=body, **more)

    def delete(self, path: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=f"{self.root}{path}")


def bucket_of(
    server: S3Server, world: World, back: Path, *, endpoint: str | None = None, more: str = "", **made: Any
) -> Bucket:
    """A new bucket on a server.

    Args:
        endpoint: of a proxy that the set is read through.
        more: lines of the source in the policy.
        made: what the bucket is made with.
    """
    place = s3_place("s3", server, **made)
    (name, client) = (place.extra["bucket"], place.extra["client"])
    uri = place.environment["AIRFLOW_CONN_STORE"]
    if endpoint is not None:
        assert quote(server.endpoint, safe="") in uri
        uri = uri.replace(quote(server.endpoint, safe=""), quote(endpoint, safe=""))
    return Bucket(far_set(world, back, f"s3://{name}/set", {"AIRFLOW_CONN_FAR": uri}, more), name, client, place=place)
