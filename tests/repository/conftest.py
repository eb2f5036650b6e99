"""A system whose targets are directories; and one whose primary target is an S3 server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.demo_system import MARKER, DemoSystem, make_demo_system
from sandbox.s3_servers import S3Server
from sandbox.sftp_servers import SftpServer
from tests.conftest import Clock
from tests.repository.world import World
from tests.targets.conftest import moto, openssh, own_rclone, rclone, s3_place, sftp_place

__all__ = ["moto", "openssh", "own_rclone", "rclone"]

PRIMARY = "url: s3://backups/lifeboat\n    connection: demo_primary"
OFFSITE = "url: s3://backups/lifeboat\n    connection: demo_offsite"


@pytest.fixture(scope="session")
def demo_system(tmp_path_factory: pytest.TempPathFactory) -> DemoSystem:
    """Keys and a policy that all tests share."""
    return make_demo_system(tmp_path_factory.mktemp("system") / "demo", binaries=Path("/nowhere"))


@pytest.fixture
def make_world(demo_system: DemoSystem, tmp_path: Path, clock: Clock) -> Callable[..., World]:
    """Call it for a system of its own; ``primary`` may be an S3 server, with what its bucket is made with, or an SFTP
    server."""

    def make(primary: S3Server | SftpServer | None = None, **bucket: Any) -> World:
        roots = {}
        text = demo_system.policy.read_text()
        for name, old in (("primary", PRIMARY), ("offsite", OFFSITE), ("local", f"url: file://{demo_system.local}")):
            roots[name] = tmp_path / name
            roots[name].mkdir()
            (roots[name] / ".lifeboat-target").write_text(MARKER + "\n")
            marker = "" if name == "local" else f"\n    marker: {MARKER}"
            assert old in text
            text = text.replace(old, f"url: file://{roots[name]}{marker}")
        environment = {}
        if primary is not None:
            far = isinstance(primary, SftpServer)
            place = sftp_place("sftp", primary) if far else s3_place("s3", primary, **bucket)
            text = text.replace(
                f"url: file://{roots.pop('primary')}\n    marker: {MARKER}",
                f"url: {place.policy['url']}\n    connection: store",
            )
            environment = dict(place.environment)
        policy = tmp_path / "policies" / "demo.yaml"
        policy.parent.mkdir()
        policy.write_text(text)
        return World(policy, clock, roots, environment)

    return make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture(params=["local", "moto", "rclone"])
def any_world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    """The same with each kind of primary target."""
    return make_world(None if request.param == "local" else request.getfixturevalue(request.param))
