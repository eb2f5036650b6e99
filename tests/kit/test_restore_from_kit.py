"""``lifeboat --kit``: policies and connections are lost, the targets and the kit are not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.postgres import PostgresServer
from tests.kit.conftest import LostSystem, Papers

LIFEBOAT = Path(sys.executable).with_name("lifeboat")


@pytest.fixture
def kit(lost: LostSystem, papers: Papers, tmp_path: Path) -> Path:
    file = tmp_path / "kit.zip"
    ended = lifeboat(
        ["--policies", lost.system.policies, "kit", "export", file, "--project", papers.project],
        os.environ | lost.variables,
    )
    assert ended.returncode == 0, ended.stderr
    return file


def lifeboat(words: list[str | Path], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LIFEBOAT, *words], env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def bare(room: Path) -> dict[str, str]:
    """The environment of a machine that knows nothing of the lost one."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(room)}


def test_a_database_comes_back_from_the_kit_and_the_break_glass_key_alone(
    lost: LostSystem, kit: Path, tmp_path: Path, server_place: Path
) -> None:
    key = tmp_path / "from-the-safe.pem"
    shutil.copyfile(lost.system.break_glass, key)
    moment = lost.times[7].isoformat()
    ended = lifeboat(
        [
            "--kit", kit, "--break-glass-key", key, "restore", "demo", "database", "--target", "offsite",
            "--at", moment, "--into", server_place / "data", "--binaries", lost.binaries, "--yes",
        ],
        bare(tmp_path),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    # The superuser's password went with the lost machine; the restored data's owner can let himself in.
    (server_place / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    with PostgresServer.on_data(tmp_path / "server", server_place / "data") as server:
        assert server.run_sql("SELECT count(*), max(n) FROM ledger") == [(8, 7)]


def test_without_the_break_glass_key_the_kit_says_what_is_missing(kit: Path, tmp_path: Path) -> None:
    ended = lifeboat(["--kit", kit, "list"], bare(tmp_path))
    assert ended.returncode == 1
    assert "break-glass" in ended.stderr
    assert "Traceback" not in ended.stderr
