"""WAL that is still on its way while the first of it is replayed."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import Cancelled, ObjectDamaged, RestoreError
from lifeboat.postgres import staging
from lifeboat.postgres.destination import Request
from lifeboat.postgres.moments import AtTime, Latest
from lifeboat.postgres.restore import restore
from sandbox.accounts import server_directory
from sandbox.processes import wait_until
from tests.object_damage import rewrite
from tests.recovery.line import Line, commit, ledger
from tests.recovery.test_destination import beside, servers_on

ROWS = "SELECT n FROM ledger"


class Late:
    """Holds the last segment of a plan back until recovery has asked for it.

    Everything is read from the target as it is; it is only read later.
    """

    def __init__(self, line: Line, request: Request, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan = line.plan(Latest())
        self.last = self.plan.stages[-1].name
        self.asked = request.unfinished / "wal" / f"asked-{self.last}"
        self.never = threading.Event()
        opened = staging.opened

        @contextmanager
        def held_back(stream: Any, origin: Any) -> Iterator[Any]:
            if self.last in stream.name:
                wait_until(lambda: self.asked.exists() or self.never.is_set(), within=60, what="it is asked for")
            with opened(stream, origin) as plain:
                yield plain

        monkeypatch.setattr(staging, "opened", held_back)


def test_recovery_begins_before_the_last_of_the_wal_is_there(stopped: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    request = stopped.request()
    late = Late(stopped, request, monkeypatch)
    seen = []

    def tick() -> None:
        seen.append(late.asked.exists())

    restored = restore(stopped.repository, late.plan, request, tick=tick)
    assert True in seen
    assert ledger(stopped.ask(restored, ROWS)) == [1, 2, 3]


def test_a_segment_that_is_found_damaged_while_recovery_waits_for_it_ends_the_restore(
    stopped: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = stopped.request()
    late = Late(stopped, request, monkeypatch)
    stage = late.plan.stages[-1]
    manifest = stage.run.copy.manifest
    folder = stopped.directory / "primary" / manifest.folder.attempt(manifest.attempt)
    file = folder / manifest.stream(stage.stream).volumes[0].file
    whole = file.read_bytes()
    rewrite(file, lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    try:
        with pytest.raises(ObjectDamaged, match=late.last):
            restore(stopped.repository, late.plan, request)
    finally:
        file.write_bytes(whole)
    assert not beside(stopped, request.into)
    wait_until(lambda: not servers_on(request.into), within=20, what="nothing waits for the segment any more")


def test_a_restore_that_is_stopped_while_recovery_waits_leaves_nobody_waiting(
    stopped: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = stopped.request()
    late = Late(stopped, request, monkeypatch)
    late.asked, asked = request.unfinished / "nothing", late.asked

    def tick() -> None:
        if asked.exists():
            late.never.set()
            raise Cancelled("A person stopped it.")

    with pytest.raises(Cancelled):
        restore(stopped.repository, late.plan, request, tick=tick)
    assert not beside(stopped, request.into)
    wait_until(lambda: not servers_on(request.into), within=20, what="nothing waits for the segment any more")


def test_a_moment_before_a_tablespace_was_created_is_reached_and_one_after_is_refused(line: Line) -> None:
    """One run of WAL goes up to both of them: recovery never gets the segment that it need not have."""
    server = line.server
    line.full()
    before = commit(server, 1)[0]
    commit(server, 2)
    # More than recovery reads ahead of what it replays.
    server.run_sql("SELECT pg_logical_emit_message(false, 'x', repeat('y', 4000000)), pg_switch_wal()")
    place = server_directory(line.directory / "living").resolve()
    server.run_sql(f"CREATE TABLESPACE living LOCATION '{place}'")
    after = commit(server, 3)[0]
    commit(server, 4)
    line.wal()
    there = sorted(place.rglob("*"))
    assert ledger(line.ask(line.restore(AtTime(before)), ROWS)) == [1]
    with pytest.raises(RestoreError, match=str(place)):
        line.restore(AtTime(after))
    assert sorted(place.rglob("*")) == there


@pytest.fixture
def handed(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """The command that recovery runs, with one planned file; begins it."""
    (tmp_path / "next-wal").write_text(staging._COMMAND)
    (tmp_path / "planned").write_text("00000002.history\n000000010000000000000002\n")

    def begin(name: str, into: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["/bin/sh", str(tmp_path / "next-wal"), str(tmp_path), name, str(into)])

    return begin


PLANNED, ANOTHER = "000000010000000000000002", "000000010000000000000003"


def test_the_command_tells_recovery_at_once_that_there_is_no_other_file(handed: Any, tmp_path: Path) -> None:
    assert handed(ANOTHER, tmp_path / "got").wait(60) == 1
    assert handed("00000003.history", tmp_path / "got").wait(60) == 1


def test_the_command_waits_for_a_file_that_is_on_its_way(handed: Any, tmp_path: Path) -> None:
    process = handed(PLANNED, tmp_path / "got")
    wait_until((tmp_path / f"asked-{PLANNED}").exists, within=60, what="it is asked for")
    (tmp_path / "arriving").write_text("WAL")
    (tmp_path / "arriving").rename(tmp_path / PLANNED)
    assert process.wait(60) == 0
    assert (tmp_path / "got").read_text() == "WAL"


def test_a_file_that_cannot_be_handed_over_is_not_the_end_of_the_wal(handed: Any, tmp_path: Path) -> None:
    (tmp_path / PLANNED).write_text("WAL")
    assert handed(PLANNED, tmp_path / "nowhere" / "got").wait(60) == 126


@pytest.mark.usefixtures("handed")
def test_the_command_ends_with_the_process_that_replays(tmp_path: Path) -> None:
    parent = subprocess.Popen(["/bin/sh", "-c", f"/bin/sh {tmp_path}/next-wal {tmp_path} {PLANNED} got; true"])
    wait_until((tmp_path / f"asked-{PLANNED}").exists, within=60, what="it is asked for")
    assert len(servers_on(tmp_path)) == 2
    parent.kill()
    parent.wait()
    wait_until(lambda: not servers_on(tmp_path), within=60, what="nobody waits any more")
