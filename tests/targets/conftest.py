"""Places to keep objects, each a real one: a directory, moto's S3, rclone's S3, OpenSSH, rclone's SFTP.

A new kind of target joins the contract suite by one more name in ``KINDS`` and one more branch in ``place``.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from lifeboat.connections import outside_from
from lifeboat.errors import Cancelled
from lifeboat.outside import Outside
from lifeboat.policy.targets import TargetPolicy
from lifeboat.targets.opening import open_target
from lifeboat.targets.s3_listing import uploads as uploads_in_progress
from lifeboat.targets.target import Target
from sandbox.s3_servers import MotoServer, RcloneS3, S3Server
from sandbox.sftp_servers import OpenSsh, RcloneSftp, SftpServer

KINDS = ("local", "moto", "rclone", "openssh", "rclone-sftp")
SFTP = ("openssh", "rclone-sftp")
_numbers = itertools.count()


@dataclass
class Place:
    """Somewhere empty that a target can be opened on, in this process or another one.

    Attributes:
        kind: of ``KINDS``.
        policy: what a policy would say of it.
        environment: the variables that hold its connection.
        remains: everything that lies there, listed or not: keys, hidden files, uploads in progress.
        plant: puts an object there behind the target's back.
    """

    kind: str
    policy: dict[str, Any]
    environment: Mapping[str, str]
    remains: Callable[[], list[str]]
    plant: Callable[[str, bytes], None]
    server: S3Server | SftpServer | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def open(self, **options: Any) -> Target:
        """The place as a target; ``options`` are fields of the policy."""
        return open_target("store", TargetPolicy(**{**self.policy, **options}), _outside(**self.environment))


@cache
def _outside(**environment: str) -> Outside:
    return outside_from(environment)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    with MotoServer(tmp_path_factory.mktemp("moto") / "moto.log") as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneS3]:
    room = tmp_path_factory.mktemp("rclone")
    with RcloneS3(room / "buckets", room / "rclone.log", "rclone-access", "rclone-secret") as server:
        yield server


@pytest.fixture
def own_rclone(tmp_path: Path) -> Iterator[RcloneS3]:
    """A server that a test may kill."""
    with RcloneS3(tmp_path / "buckets", tmp_path / "rclone.log", "rclone-access", "rclone-secret") as server:
        yield server


@pytest.fixture(scope="session")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    room = tmp_path_factory.mktemp("openssh")
    with OpenSsh(room / "room", room / "sshd.log") as server:
        yield server


@pytest.fixture(scope="session")
def rclone_sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RcloneSftp]:
    room = tmp_path_factory.mktemp("rclone-sftp")
    with RcloneSftp(room / "root", room / "room", room / "rclone.log") as server:
        yield server


@pytest.fixture
def own_openssh(tmp_path: Path) -> Iterator[OpenSsh]:
    """A server that a test may kill."""
    with OpenSsh(tmp_path / "room", tmp_path / "sshd.log") as server:
        yield server


async def _make_directory(server: SftpServer, name: str) -> None:
    # Through the server: rclone remembers for a while what a directory holds.
    login = {"username": server.login, "client_keys": [server.private_key], "known_hosts": None, "config": None}
    async with (
        asyncssh.connect("127.0.0.1", server.port, **login) as connection,
        connection.start_sftp_client() as sftp,
    ):
        await sftp.mkdir(f"{server.shown_root.rstrip('/')}/{name}", asyncssh.SFTPAttrs(permissions=0o700))


def sftp_place(kind: str, server: SftpServer) -> Place:
    name = f"place-{os.getpid()}-{next(_numbers)}"
    root = server.root / name
    account = server.account()
    asyncio.run(_make_directory(server, name))

    def remains() -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.name != ".lifeboat-target")

    def plant(key: str, data: bytes) -> None:
        (root / key).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / key).write_bytes(data)
        for path in (root / key, *(root / key).parents):
            if path == root:
                break
            if account is not None:
                os.chown(path, account.uid, account.gid)

    environment = {"AIRFLOW_CONN_STORE": server.airflow_connection_uri()}
    return Place(
        kind, {"url": server.url(name), "connection": "store"}, environment, remains, plant, server, {"root": root}
    )


def local_place(root: Path) -> Place:
    root.mkdir(exist_ok=True)

    def remains() -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.name != ".lifeboat-target")

    def plant(key: str, data: bytes) -> None:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)

    return Place("local", {"url": root.as_uri(), "queue": "here"}, {}, remains, plant, extra={"root": root})


def s3_place(kind: str, server: S3Server, **extra: Any) -> Place:
    bucket = f"bucket-{os.getpid()}-{next(_numbers)}"
    client = client_of(server)
    client.create_bucket(Bucket=bucket, **extra)

    def remains() -> list[str]:
        keys = [found["Key"] for found in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
        uploads = [{"Key": key} for key, _, _ in uploads_in_progress(client, bucket, "")]
        hidden = []
        if isinstance(server, RcloneS3):
            hidden = [str(path) for path in (server.root / bucket).rglob(".rclone_temp*")]
        return sorted(keys + [f"upload of {upload['Key']}" for upload in uploads] + hidden)

    return Place(
        kind,
        {"url": f"s3://{bucket}/some/root", "connection": "store"},
        {"AIRFLOW_CONN_STORE": server.airflow_connection_uri()},
        remains,
        lambda key, data: client.put_object(Bucket=bucket, Key=f"some/root/{key}", Body=data),
        server,
        {"bucket": bucket, "client": client},
    )


@cache
def client_of(server: S3Server, service: str = "s3") -> Any:
    outside = outside_from({"AIRFLOW_CONN_STORE": server.airflow_connection_uri()})
    return outside.aws_client(service, "store", retries={"total_max_attempts": 1})


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return local_place(tmp_path / "store")
    if request.param in SFTP:
        return sftp_place(request.param, request.getfixturevalue(request.param.replace("-", "_")))
    return s3_place(request.param, request.getfixturevalue(request.param))


@pytest.fixture
def target(place: Place) -> Target:
    return place.open()


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Raises ``Cancelled`` in the main thread after so many seconds, as ``on_kill`` does."""

    def cancel(number: int, frame: object) -> None:
        raise Cancelled("The task was stopped.")

    old = signal.signal(signal.SIGALRM, cancel)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", mount], capture_output=True)
    if made.returncode != 0:
        pytest.skip("only root mounts; the test with a limit on file sizes runs for everybody")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)
