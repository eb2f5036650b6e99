"""Server programs from Debian packages: unpacked, never installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandbox import debian_packages
from sandbox.accounts import SandboxError, server_account
from sandbox.debian_packages import fetch, program


@pytest.mark.parametrize("arguments", [("sshd", "-V"), ("redis-server", "--version")], ids=["sshd", "redis-server"])
def test_a_fetched_program_runs_as_the_account_of_the_servers(arguments: tuple[str, str]) -> None:
    name, question = arguments
    found = program(name)
    account = server_account()
    ended = subprocess.run(
        [found.path, question],
        env={**os.environ, **found.environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )

    assert {"sshd": "OpenSSH_", "redis-server": "Redis server"}[name] in ended.stdout + ended.stderr


def test_a_program_that_is_not_here_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_packages, "_ROOM", tmp_path)
    monkeypatch.setattr(debian_packages, "_SYSTEM_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SandboxError, match=r"no redis-server here[^\n]*\n?.*package redis-server"):
        program("redis-server")
    with pytest.raises(SandboxError, match=r"sshd and sftp-server.*no apt-get.*package openssh-server"):
        fetch("openssh-server")
