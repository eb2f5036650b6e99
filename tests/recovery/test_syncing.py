from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from lifeboat.errors import RestoreError
from lifeboat.postgres import syncing
from lifeboat.postgres.moments import Latest
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.restore import restore
from lifeboat.postgres.syncing import synced_at_the_end, tells_of_every_error
from tests.recovery.line import Line, ledger

ROWS = "SELECT n FROM ledger"


class Disk:
    """Stands for the C library's ``syncfs``: no disk of a test can be made to lose a write."""

    def __init__(self, look: Callable[[], None], fails: bool = False) -> None:
        self.synced: list[int] = []
        self._look = look
        self._fails = fails

    def syncfs(self, descriptor: int) -> int:
        self._look()
        self.synced.append(os.fstat(descriptor).st_dev)
        ctypes.set_errno(errno.EIO)
        return -1 if self._fails else 0


@pytest.mark.parametrize(
    ("system", "release", "tells"),
    [
        ("Linux", "5.8.0", True),
        ("Linux", "6.18.44-fc-v657", True),
        ("Linux", "10.0", True),
        ("Linux", "5.7.19", False),
        ("Linux", "4.18.0-553.el8_10.x86_64", False),
        ("Linux", "unheard of", False),
        ("Darwin", "24.1.0", False),
    ],
)
def test_a_file_system_is_synced_as_a_whole_only_where_its_errors_are_told(
    system: str, release: str, tells: bool
) -> None:
    assert tells_of_every_error(system, release) is tells


def test_what_was_restored_is_on_the_disk_before_it_has_its_name(
    stopped: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = stopped.request()
    seen: list[tuple[bool, bool, bool]] = []

    def look() -> None:
        data = request.unfinished / "data"
        staged = (request.unfinished / "wal").exists()
        seen.append((request.into.exists(), staged, (data / "postmaster.pid").exists()))

    disk = Disk(look)
    monkeypatch.setattr(syncing, "_LIBC", disk)
    restored = stopped.restore(Latest(), request)
    assert seen == [(False, False, False)]
    assert disk.synced == [request.into.stat().st_dev]
    assert ledger(stopped.ask(restored, ROWS)) == [1, 2, 3]


def test_a_write_that_did_not_reach_the_disk_fails_the_restore(stopped: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    request = stopped.request()
    monkeypatch.setattr(syncing, "_LIBC", Disk(lambda: None, fails=True))
    with pytest.raises(RestoreError, match=r"Not everything .* reached the disk .*Input/output error"):
        stopped.restore(Latest(), request)
    assert not [path for path in stopped.place.iterdir() if path.name.startswith(request.into.name)]


def test_where_errors_of_a_file_system_are_not_told_the_server_syncs_each_file(
    stopped: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(lambda: None)
    settings: list[object] = []
    monkeypatch.setattr(syncing, "_LIBC", disk)
    monkeypatch.setattr(platform, "release", lambda: "5.7.19")

    def look(server: OpenServer) -> None:
        with server.session("postgres") as session:
            settings.append(session.execute("SHOW fsync").fetchone())

    restored = restore(stopped.repository, stopped.plan(Latest()), stopped.request(), examine=look)
    assert settings == [("on",)]
    assert disk.synced == []
    assert ledger(stopped.ask(restored, ROWS)) == [1, 2, 3]


def test_each_file_system_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(lambda: None)
    monkeypatch.setattr(syncing, "_LIBC", disk)
    (tmp_path / "another").mkdir()
    with synced_at_the_end([tmp_path, tmp_path / "another", Path("/dev/shm")]) as sync:
        assert sync is not None
        sync()
    assert sorted(disk.synced) == sorted({tmp_path.stat().st_dev, Path("/dev/shm").stat().st_dev})
