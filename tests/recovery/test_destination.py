"""Where a restore goes: what is there stays, what is interrupted leaves nothing that looks whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat.errors import Cancelled, DestinationInUse, NotEnoughDisk, RestoreError
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.destination import UNFINISHED
from lifeboat.postgres.moments import Latest
from lifeboat.postgres.recovery_server import RecoveryServer
from lifeboat.postgres.restore import restore
from sandbox.accounts import CLONE, hand_over, remove, server_directory
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import binaries
from sandbox.processes import wait_until
from tests.recovery.line import Line, commit, ledger, prepare, system_in

ROWS = "SELECT n FROM ledger UNION ALL SELECT n FROM elsewhere"


@pytest.fixture(scope="module")
def shared(module_path: Path) -> Iterator[Line]:
    """A system with a full that has a tablespace, and WAL; its server is stopped."""
    place = server_directory(module_path / "place")
    server = PostgresServer(module_path / "server", settings={"fsync": "off"})
    with server:
        prepare(server)
        old = server_directory(module_path / "space")
        server.run_sql(f"CREATE TABLESPACE space LOCATION '{old.resolve()}'")
        server.run_sql("CREATE TABLE elsewhere (n int) TABLESPACE space")
        server.run_sql("INSERT INTO elsewhere VALUES (100)")
        line = Line(module_path, place, server, system_in(module_path))
        commit(server, 1)
        line.full()
        commit(server, 2)
        line.wal()
        server.stop()
        yield line
    remove(place)


def beside(line: Line, into: Path) -> set[str]:
    return {path.name for path in line.place.iterdir() if path.name.startswith(into.name)}


def servers_on(into: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(into) in word for word in process.info["cmdline"] or [])
    ]


def test_a_destination_that_is_not_empty_is_left_untouched(shared: Line) -> None:
    request = shared.request()
    request.into.mkdir()
    (request.into / "precious").write_text("do not touch")
    with pytest.raises(DestinationInUse, match="not empty"):
        shared.restore(Latest(), request)
    assert (request.into / "precious").read_text() == "do not touch"
    assert beside(shared, request.into) == {request.into.name}


def test_a_symbolic_link_and_a_file_are_no_destinations(shared: Line) -> None:
    request = shared.request()
    request.into.symlink_to(shared.place)
    with pytest.raises(DestinationInUse):
        shared.restore(Latest(), request)
    request = shared.request()
    request.into.write_text("a file")
    with pytest.raises(DestinationInUse):
        shared.restore(Latest(), request)


def test_a_place_of_a_tablespace_that_is_not_empty_is_left_untouched(shared: Line) -> None:
    [location] = [one.location for one in shared.offer().bases[0].details.tablespaces if one.location]
    there = shared.place / "taken"
    there.mkdir()
    (there / "precious").write_text("do not touch")
    request = shared.request(tablespaces={location: there})
    with pytest.raises(DestinationInUse, match="not empty"):
        shared.restore(Latest(), request)
    assert [path.name for path in there.iterdir()] == ["precious"]


def test_an_empty_destination_that_exists_is_taken_and_tablespaces_go_beside_it(shared: Line) -> None:
    request = shared.request()
    request.into.mkdir()
    restored = shared.restore(Latest(), request)
    assert beside(shared, request.into) == {request.into.name, f"{request.into.name}.tablespaces"}
    assert ledger(shared.ask(restored, ROWS)) == [1, 2, 100]
    assert not list(shared.place.rglob(f"*{UNFINISHED}*"))


def test_a_failed_restore_removes_what_it_made_and_nothing_else(shared: Line) -> None:
    """A directory of an earlier restore's tablespaces may still be in use."""
    request = shared.request()
    other = Path(f"{request.into}.tablespaces") / "99999"
    other.mkdir(parents=True)
    (other / "in-use").touch()
    with pytest.raises(RestoreError):
        shared.restore(Latest(), replace(request, limit_seconds=0))
    assert [path.name for path in other.parent.iterdir()] == ["99999"]
    assert (other / "in-use").exists()
    assert not request.into.exists()
    assert not servers_on(request.into)


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_fetched(
    shared: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the disk is made up: a real small one can be mounted by root alone."""
    plan = shared.plan(Latest())
    usage = shutil.disk_usage(shared.place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=plan.room_bytes - 1))
    request = shared.request()
    with pytest.raises(NotEnoughDisk, match="Nothing was fetched"):
        shared.restore(plan, request)
    assert not beside(shared, request.into)


@contextmanager
def small_disk(at: Path, size: int) -> Iterator[bool]:
    """A real disk of that size mounted at ``at``; false where that is not allowed."""
    at.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", at], capture_output=True, check=False
    )
    hand_over(at)
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", at], check=True)


def test_a_disk_that_fills_meanwhile_ends_the_restore_and_leaves_nothing(
    shared: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small disk that somebody else fills; where none can be mounted, one file goes to the device that is full."""
    plan = shared.plan(Latest())
    with small_disk(shared.place / "small", plan.room_bytes + 1024**2) as mounted:
        request = replace(shared.request(), into=shared.place / "small" / "data")

        def fill(phase: str, done: int, _total: int) -> None:
            if phase == "fetch" and done > 1024**2 and not (shared.place / "small" / "filler").exists():
                with suppress(OSError), (shared.place / "small" / "filler").open("wb") as filler:
                    while filler.write(bytes(1024**2)):
                        pass

        def to_full_device(path: object, flags: int, *more: object, **words: object) -> int:
            if str(path).endswith("/pg_control"):
                # The device is there already.
                path, flags = "/dev/full", flags & ~os.O_EXCL
            return opened(path, flags, *more, **words)  # type: ignore[arg-type]

        opened = os.open
        if not mounted:
            fill = lambda *_: None  # noqa: E731
            monkeypatch.setattr("lifeboat.postgres.unpacking.os.open", to_full_device)
        with pytest.raises(NotEnoughDisk, match="disk is full"):
            restore(shared.repository, plan, request, progress=fill)
        monkeypatch.undo()
        assert {path.name for path in request.into.parent.iterdir()} <= {"filler"}
        (shared.place / "small" / "filler").unlink(missing_ok=True)
        assert ledger(shared.ask(shared.restore(plan, request), ROWS)) == [1, 2, 100]


def test_server_programs_of_another_major_version_are_refused_before_anything_is_fetched(shared: Line) -> None:
    request = replace(shared.request(), binaries=binaries(16))
    with pytest.raises(RestoreError, match="16"):
        shared.restore(Latest(), request)
    assert not beside(shared, request.into)


@pytest.mark.parametrize("phase", ["fetch", "stage", "replay"])
def test_a_cancelled_restore_leaves_nothing_and_can_be_run_again(shared: Line, phase: str) -> None:
    request = shared.request()
    now = [""]

    def progress(present: str, _done: int, _total: int) -> None:
        now[0] = present

    def tick() -> None:
        if now[0] == phase:
            raise Cancelled("A person stopped it.")

    with pytest.raises(Cancelled):
        restore(shared.repository, shared.plan(Latest()), request, progress=progress, tick=tick)
    assert not beside(shared, request.into)
    assert not servers_on(request.into)
    assert ledger(shared.ask(shared.restore(Latest(), request), ROWS)) == [1, 2, 100]


RESTORING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[6])
from lifeboat.outside import Outside
from lifeboat.policy.loading import load_policy
from lifeboat.postgres.moments import Latest
from lifeboat.postgres.restore import Request, restore
from lifeboat.postgres.restore_sources import read_offer
from lifeboat.repository.system import SystemRepository
policy, into, binaries, phase, reached = sys.argv[1:6]
repository = SystemRepository(load_policy(Path(policy)), Outside(None, None))
def progress(present, done, total):
    if present == phase and (done or present == "replay"):
        Path(reached).touch()
def tick():
    while Path(reached).exists() and phase != "replay":
        pass
restore(repository, read_offer(repository, "database", "primary").plan(Latest()),
        Request("primary", Path(into), Path(binaries)), progress=progress, tick=tick)
"""


@pytest.mark.parametrize("phase", ["fetch", "replay"])
def test_a_killed_restore_leaves_no_server_and_nothing_that_looks_whole_and_can_be_run_again(
    shared: Line, phase: str, tmp_path: Path
) -> None:
    request = shared.request()
    reached = tmp_path / "reached"
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            RESTORING,
            shared.system.policy,
            request.into,
            request.binaries,
            phase,
            reached,
            CLONE / "plugins",
        ],
    )
    unfinished = Path(f"{request.into}{UNFINISHED}")
    wait_until(
        lambda: bool(reached.exists() and (phase != "replay" or servers_on(unfinished))),
        within=60,
        what=f"the restore is in its phase {phase}",
    )
    child.send_signal(signal.SIGKILL)
    child.wait()
    wait_until(lambda: not servers_on(unfinished), within=30, what="the server has died with its parent")
    assert not request.into.exists()
    assert unfinished.exists()
    assert ledger(shared.ask(shared.restore(Latest(), request), ROWS)) == [1, 2, 100]
    assert not unfinished.exists()


def test_two_restores_to_one_destination_do_not_disturb_each_other(shared: Line) -> None:
    request = shared.request()
    tried: list[BaseException] = []

    def progress(phase: str, _done: int, _total: int) -> None:
        if phase == "fetch" and not tried:
            with pytest.raises(DestinationInUse, match="Another restore") as raised:
                shared.restore(Latest(), request)
            tried.append(raised.value)

    restored = restore(shared.repository, shared.plan(Latest()), request, progress=progress)
    assert tried
    assert ledger(shared.ask(restored, ROWS)) == [1, 2, 100]


def test_the_second_target_alone_brings_everything_back(shared: Line) -> None:
    for listing in (
        shared.repository.catalogue("primary").recovery_points("database"),
        shared.repository.catalogue("primary").wal("database"),
    ):
        for copy in listing.copies:
            shared.carry(copy)
    restored = shared.restore(Latest(), target="offsite")
    assert ledger(shared.ask(restored, ROWS)) == [1, 2, 100]


HOSTILE = """
shared_preload_libraries = 'missing'
session_preload_libraries = 'missing'
archive_mode = 'on'
archive_command = 'touch {witness}'
primary_conninfo = 'host=127.0.0.1 port={port}'
primary_slot_name = 'stolen'
restore_command = 'touch {witness}'
archive_cleanup_command = 'touch {witness}'
recovery_end_command = 'touch {witness}'
listen_addresses = '*'
port = '{port}'
data_directory = '/nonexistent'
hba_file = '/nonexistent'
recovery_target_time = '2001-01-01'
"""


def test_the_scratch_server_harms_nobody_and_obeys_nothing_that_came_with_the_data(
    make_line: Callable[..., Line], free_port: Callable[[], int]
) -> None:
    """No TCP listener, no archiving, no upstream, no subscription; what came with the data is intact afterwards."""
    line = make_line(settings={"wal_level": "logical", "max_logical_replication_workers": "0"})
    server, port = line.server, free_port()
    witness = line.place / "witness"
    auto = server.data_directory / "postgresql.auto.conf"
    auto.write_text(HOSTILE.format(witness=witness, port=port))
    (server.data_directory / "standby.signal").touch()
    hand_over(auto)
    hand_over(server.data_directory / "standby.signal")
    server.run_sql("CREATE TABLE replicated (n int)")
    server.run_sql("CREATE PUBLICATION all_of_it FOR ALL TABLES")
    server.run_sql(
        f"CREATE SUBSCRIPTION sub CONNECTION '{server.dsn()}' PUBLICATION all_of_it"
        " WITH (connect = false, slot_name = 'stolen')"
    )
    server.run_sql("ALTER SUBSCRIPTION sub ENABLE")
    server.run_sql(
        "CREATE FUNCTION keep_out() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF session_user = 'postgres' THEN RAISE EXCEPTION 'nobody comes in'; END IF; END $$"
    )
    server.run_sql("CREATE EVENT TRIGGER keep_out ON login EXECUTE FUNCTION keep_out()")
    with server.connect(options="-c event_triggers=off") as session:
        session.execute("ALTER EVENT TRIGGER keep_out ENABLE ALWAYS")
        session.execute("ALTER ROLE postgres SET session_preload_libraries = 'missing'")
    seen: dict[str, list[object]] = {"listening": [], "workers": []}

    def progress(phase: str, _done: int, _total: int) -> None:
        if phase == "check":
            for process in servers_on(Path(f"{request.into}{UNFINISHED}")):
                for one in [process, *process.children(recursive=True)]:
                    seen["listening"] += one.net_connections("inet")
                    seen["workers"].append(" ".join(one.cmdline()))

    line.full()
    request = line.request()
    restored = restore(line.repository, line.plan(Latest()), request, progress=progress)
    assert restored.databases == ("postgres", "template1")
    assert seen["workers"]
    assert not seen["listening"]
    assert not [words for words in seen["workers"] if "logical" in str(words) or "archiver" in str(words)]
    assert not witness.exists()
    assert (restored.into / "postgresql.auto.conf").read_text() == HOSTILE.format(witness=witness, port=port)
    assert not (restored.into / "standby.signal").exists()
    assert not (restored.into / "postgresql.auto.conf.set-aside").exists()


def test_the_scratch_server_hears_what_ends_it_also_where_a_shell_made_us_deaf(shared: Line, tmp_path: Path) -> None:
    """A job in the background of a shell ignores SIGINT and SIGQUIT. The server program is a script that tells which
    signals it ignores: a real one has handlers of its own a moment later, and no test could hit that moment."""
    program = tmp_path / "postgres"
    program.write_text("#!/bin/sh\nexec grep SigIgn /proc/self/status\n")
    program.chmod(0o755)
    facts = shared.plan(Latest()).base.details.server
    ends = (signal.SIGINT, signal.SIGQUIT)
    before = [signal.signal(each, signal.SIG_IGN) for each in ends]
    try:
        with (
            RecoveryServer(tmp_path, tmp_path, tmp_path, facts, None) as server,
            pytest.raises(RestoreError, match="SigIgn") as ended,
        ):
            server.recover(
                restore_command="false", timeline=1, target={}, superuser="postgres", tick=no_tick, limit_seconds=60
            )
    finally:
        for each, handler in zip(ends, before, strict=True):
            signal.signal(each, handler)
    ignored = int(str(ended.value).partition("SigIgn:")[2].split()[0], 16)
    assert [each for each in ends if ignored >> (each - 1) & 1] == []
