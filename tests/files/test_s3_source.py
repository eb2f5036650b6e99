"""A set of files in a bucket: what is in it comes back, what can't be kept is told, and only changes are read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.files.comparing import index_of
from lifeboat.files.entries import Entry
from lifeboat.repository.catalogue import Copy
from sandbox.accounts import CLONE
from sandbox.loopback_server import installed_program
from sandbox.s3_servers import MotoServer, S3Server
from tests.files.conftest import FileSet, details
from tests.files.far_sets import Bucket, bucket_of
from tests.repository.world import World


@pytest.fixture(params=["moto", "rclone"])
def bucket(request: pytest.FixtureRequest, make_world: Callable[..., World], tmp_path: Path) -> Bucket:
    return bucket_of(request.getfixturevalue(request.param), make_world(), tmp_path / "restored")


@pytest.fixture
def moto_bucket(moto: MotoServer, make_world: Callable[..., World], tmp_path: Path) -> Bucket:
    return bucket_of(moto, make_world(), tmp_path / "restored")


def entries(files: FileSet, copy: Copy) -> dict[str, Entry]:
    with index_of(files.world.repository(), copy) as found:
        return {entry.path: entry for entry in found}


def fetched(bucket: Bucket, into: Path) -> Path:
    """The set as rclone, which knows nothing of us, brings it to a disk."""
    assert bucket.place is not None
    server = bucket.place.server
    assert isinstance(server, S3Server)
    connection = server.connection("any")
    into.mkdir()
    subprocess.run(
        [
            installed_program("rclone"), "copy", f":s3:{bucket.name}/set", into, "--s3-provider", "Other",
            "--s3-endpoint", server.endpoint, "--create-empty-src-dirs",
        ],
        env={
            **os.environ, "RCLONE_CONFIG": os.devnull, "RCLONE_S3_ACCESS_KEY_ID": str(connection.login),
            "RCLONE_S3_SECRET_ACCESS_KEY": str(connection.password),
        },
        check=True, cwd=CLONE,
    )  # fmt: skip
    return into


def comes_back(bucket: Bucket, copy: Copy, tmp_path: Path, name: str = "back") -> Path:
    restored = bucket.files.restore(copy, name=name).into
    other = fetched(bucket, tmp_path / f"{name} by rclone")
    same = subprocess.run(["diff", "-r", other, restored], capture_output=True, text=True, check=False)
    assert same.stdout + same.stderr == ""
    return restored


def test_a_bucket_comes_back_as_rclone_brings_it(bucket: Bucket, tmp_path: Path) -> None:
    large = os.urandom(6 * 1024 * 1024)
    for path in ("a-b", "a/c", "a/b/d", "a.b/x", "z", "ünï/cödé", "with space/and+plus%20", "a&b=c?d#e"):
        bucket.put(path, f"content of {path}")
    bucket.put("large", large)
    bucket.put("empty", b"")
    copy = bucket.files.snapshot()
    assert (details(copy).files, details(copy).unread) == (10, ())
    restored = comes_back(bucket, copy, tmp_path)
    assert (restored / "large").read_bytes() == large
    assert ((restored / "z").stat().st_mode & 0o7777, (restored / "a").stat().st_mode & 0o7777) == (0o644, 0o755)
    assert (restored / "z").stat().st_uid == os.getuid()
    bucket.files.verify(copy, deep=True)
