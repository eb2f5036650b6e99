"""S3 servers for the demo and the tests: rclone over a directory, and moto, which also plays KMS and STS."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

from lifeboat.outside import Connection
from sandbox.accounts import CLONE, SandboxError
from sandbox.loopback_server import LoopbackServer, installed_program

REGION = "us-east-1"


class S3Server(LoopbackServer):
    """A server with an S3 interface on a port of 127.0.0.1; a context manager that starts and stops it.

    Args:
        name: how messages call it.
        log: its log file.
        access_key: the access key id that it accepts.
        secret_key: the secret access key; reaches the server through its environment, never through its arguments.
        port: where it listens; a free one when ``None``. The same after every start.
    """

    def __init__(self, name: str, log: Path, access_key: str, secret_key: str, port: int | None = None) -> None:
        super().__init__(name, log, port)
        self.access_key = access_key
        self._secret_key = secret_key

    @property
    def endpoint(self) -> str:
        """The address that clients use."""
        return f"http://127.0.0.1:{self.port}"

    def connection(self, connection_id: str) -> Connection:
        """The server as a connection of type ``aws``."""
        return Connection(
            id=connection_id,
            type="aws",
            login=self.access_key,
            password=self._secret_key,
            extra={"endpoint_url": self.endpoint, "region_name": REGION, "service_config": self._service_config()},
        )

    def airflow_connection_uri(self) -> str:
        """The server as the value of an ``AIRFLOW_CONN_…`` variable, in Airflow's URI form. It holds the secret key."""
        extra = json.dumps(dict(self.connection("any").extra))
        login, password = quote(self.access_key, safe=""), quote(self._secret_key, safe="")
        return f"aws://{login}:{password}@/?{urlencode({'__extra__': extra})}"

    def _service_config(self) -> dict[str, dict[str, str]]:
        # Airflow's hook never asks the connection's endpoint for a role: STS wants its own entry.
        return {"sts": {"endpoint_url": self.endpoint}}


class RcloneS3(S3Server):
    """``rclone serve s3`` over a directory: a bucket is a directory below ``root``, an object is a file in it.

    Started without a VFS cache, as is rclone's default: a multipart upload streams, in the order of its parts, into a
    hidden temporary file that is renamed on completion. Only parts that come out of turn are kept in memory, 64 MiB of
    them at most here (256 MiB by default); ``--disable-multipart-streaming`` would keep whole uploads there.
    Source: https://rclone.org/commands/rclone_serve_s3/#multipart-uploads

    It remembers for 5 minutes which files a directory holds: change a file's bytes behind its back, but make and remove
    objects through it. Access keys of two letters are refused.

    Args:
        root: the directory that holds the buckets; made if missing.
        buckets: names of buckets that exist from the start.
    """

    def __init__(
        self,
        root: Path,
        log: Path,
        access_key: str,
        secret_key: str,
        *,
        port: int | None = None,
        buckets: tuple[str, ...] = (),
        name: str = "rclone serve s3",
    ) -> None:
        if '"' in access_key + secret_key or "," in access_key + secret_key:
            raise SandboxError("Keys of rclone's S3 server can't contain commas and double quotes.")
        super().__init__(name, log, access_key, secret_key, port)
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for bucket in buckets:
            self.make_bucket(bucket)

    def make_bucket(self, bucket: str) -> Path:
        """Make a bucket and return its directory; one that exists is no error."""
        directory = self.root / bucket
        directory.mkdir(mode=0o700, exist_ok=True)
        return directory

    def arguments(self) -> list[str | Path]:
        # Not --dir-cache-time 0: with it two writers of one object lock each other up for ever (rclone 1.75.2).
        return [
            installed_program("rclone"), "serve", "s3", self.root, "--addr", f"127.0.0.1:{self.port}",
            "--vfs-cache-mode", "off", "--multipart-streaming-buffer-limit", "64Mi",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {
            "RCLONE_AUTH_KEY": f'"{self.access_key},{self._secret_key}"',
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CACHE_DIR": str(self.log.parent / "rclone-cache"),
        }


class MotoServer(S3Server):
    """moto's server: S3 with versions and object lock, KMS, STS and the rest of AWS, all in memory.

    It takes any keys, unless told to check them. What it kept is gone when it stops.
    Source: https://docs.getmoto.org/en/latest/docs/server_mode.html
    """

    def __init__(
        self,
        log: Path,
        access_key: str = "moto",
        secret_key: str = "moto-secret",
        *,
        port: int | None = None,
        name: str = "moto",
    ) -> None:
        super().__init__(name, log, access_key, secret_key, port)

    def arguments(self) -> list[str | Path]:
        # -P: modules of this folder are called as others are.
        launcher = CLONE / "sandbox" / "moto_launcher.py"
        return [sys.executable, "-P", launcher, "-H", "127.0.0.1", "-p", str(self.port)]

    def environment(self) -> dict[str, str]:
        # moto answers an unknown action with a redirect into the real AWS unless it is told where it lives.
        return {"AWS_DEFAULT_REGION": REGION}
