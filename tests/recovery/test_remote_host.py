"""A restore on another host over SSH: heard as it goes, and ended there whatever becomes of us, the network or it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from lifeboat import __version__
from lifeboat.errors import Cancelled, LifeboatError, RestoreError, TargetUnavailable
from lifeboat.outside import Connection
from lifeboat.postgres.destination import UNFINISHED
from lifeboat.recovery.remote_host import RemoteFailed, RemoteHost, check_remote, remote_host, run_remote
from sandbox.accounts import CLONE, remove, server_directory
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from sandbox.sftp_servers import OpenSsh, SftpServer
from tests.recovery.line import Line, commit, ledger, prepare, system_in
from tests.recovery.silent_proxy import SilentProxy
from tests.recovery.ssh_host import connection_to, ssh_host
from tests.recovery.test_destination import servers_on

SOON = 20.0


@pytest.fixture(scope="module")
def shared(module_path: Path) -> Iterator[Line]:
    """A system with a full; its server is stopped."""
    place = server_directory(module_path / "place")
    server = PostgresServer(module_path / "server", settings={"fsync": "off"})
    with server:
        prepare(server)
        line = Line(module_path, place, server, system_in(module_path))
        commit(server, 1)
        line.full()
        server.stop()
        yield line
    remove(place)


@pytest.fixture(scope="module")
def server(module_path: Path) -> Iterator[SftpServer]:
    with ssh_host(module_path / "host") as running:
        yield running


def options(line: Line) -> tuple[str, ...]:
    return ("--policies", str(line.system.policies))


@pytest.fixture
def host(shared: Line, server: SftpServer) -> RemoteHost:
    return remote_host(connection_to(server, options=options(shared)))


def restore_words(line: Line, into: Path, binaries: Path | None = None) -> list[str]:
    return [
        *("restore", "demo", "database", "--into", str(into)),
        *("--binaries", str(binaries or line.server.binaries), "--break-glass", "a test", "--yes"),
    ]


@pytest.fixture
def slow(shared: Line, tmp_path: Path) -> Path:
    """Server programs whose server never opens: a restore with them stays in its replay."""
    real = shared.server.binaries / "postgres"
    program = tmp_path / "postgres"
    program.write_text(
        f'#!/bin/bash\n[ "$1" = --version ] && exec {real} --version\nexec -a "postgres -D $2" sleep 600\n'
    )
    program.chmod(0o755)
    return tmp_path


def nothing_left(into: Path) -> None:
    wait_until(lambda: not servers_on(into), within=SOON, what="every process of the restore has ended")
    assert not into.exists()
    assert not [path for path in into.parent.iterdir() if path.name.startswith(into.name)]


def test_a_restore_runs_there_and_each_line_is_heard_as_it_comes(shared: Line, host: RemoteHost) -> None:
    request = shared.request()
    heard: list[tuple[str, str]] = []
    callers: set[int] = set()

    def hear(stream: str, line: str) -> None:
        heard.append((stream, line))
        callers.add(threading.get_ident())

    run_remote(host, restore_words(shared, request.into), heard=hear)
    assert callers == {threading.get_ident()}
    assert any(stream == "out" and "stopped cleanly" in line for stream, line in heard)
    assert any(stream == "err" and line.startswith("Fetched: ") for stream, line in heard)
    plan = next(number for number, (_, line) in enumerate(heard) if "Restore demo database" in line)
    fetched = next(number for number, (_, line) in enumerate(heard) if line.startswith("Fetched: "))
    done = next(number for number, (_, line) in enumerate(heard) if line == "Done.")
    assert plan < done > fetched
    restored = replace(shared.restore(shared.plan(latest())), into=request.into)
    assert ledger(shared.ask(restored, "SELECT n FROM ledger")) == [1]


def latest() -> object:
    from lifeboat.postgres.moments import Latest

    return Latest()


def test_what_it_said_last_is_the_error_with_its_remedy_and_code(shared: Line, host: RemoteHost) -> None:
    with pytest.raises(RemoteFailed, match="has no source 'nothing'") as caught:
        run_remote(host, ["restore", "demo", "nothing", "--yes"], heard=lambda *_: None)
    assert caught.value.code == 1
    assert "It has: " in caught.value.remedy
    with pytest.raises(RemoteFailed) as caught:
        run_remote(host, ["restaurant"], heard=lambda *_: None)
    assert caught.value.code == 2


def in_replay(into: Path) -> bool:
    """Whether the server that never opens has been started."""
    return any(_cmdline(process)[:1] == [f"postgres -D {into}{UNFINISHED}/data"] for process in servers_on(into))


@contextmanager
def under_way(line: Line, host: RemoteHost, into: Path, slow: Path, **more: object) -> Iterator[_Restore]:
    """A restore there that is in its replay, run by a thread of ours."""
    with ThreadPoolExecutor(1) as pool:
        restore = _Restore(pool.submit(_run, host, restore_words(line, into, slow), more))
        try:
            wait_until(
                lambda: in_replay(into) or restore.running.done(), within=60, what="the restore is in its replay"
            )
            assert not restore.running.done(), restore.running.result()
            yield restore
        finally:
            for process in servers_on(into):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


class _Restore:
    def __init__(self, running: Future[BaseException | None]) -> None:
        self.running = running

    def outcome(self) -> BaseException | None:
        return self.running.result(60)


def _run(host: RemoteHost, words: list[str], more: dict[str, object]) -> BaseException | None:
    try:
        run_remote(host, words, heard=lambda *_: None, **more)  # type: ignore[arg-type]
    except BaseException as error:
        return error
    return None


def test_one_that_is_cancelled_is_ended_there_before_we_are_told(shared: Line, host: RemoteHost, slow: Path) -> None:
    into, stop = shared.request().into, threading.Event()

    def tick() -> None:
        if stop.is_set():
            raise Cancelled("A person stopped it.")

    with under_way(shared, host, into, slow, tick=tick) as restore:
        begun = time.monotonic()
        stop.set()
        assert isinstance(restore.outcome(), Cancelled)
        assert time.monotonic() - begun < SOON
        assert not servers_on(into)
    nothing_left(into)


def test_a_connection_that_is_cut_ends_it_there(shared: Line, server: SftpServer, host: RemoteHost, slow: Path) -> None:
    into = shared.request().into
    if not isinstance(server, OpenSsh):
        pytest.skip("cutting is sshd's")
    with under_way(shared, host, into, slow) as restore:
        for session in server.sessions():
            with suppress(psutil.NoSuchProcess):
                if "sshd" in session.name():
                    session.kill()
        error = restore.outcome()
        assert isinstance(error, RestoreError)
        assert "was lost" in error.what
        nothing_left(into)


def test_a_network_that_falls_silent_ends_it_on_both_sides(shared: Line, server: SftpServer, slow: Path) -> None:
    into = shared.request().into
    with SilentProxy(server.port) as proxy:
        host = remote_host(connection_to(server, port=proxy.port, options=options(shared)))
        with under_way(shared, host, into, slow, silence=4.0) as restore:
            proxy.fall_silent()
            error = restore.outcome()
            assert isinstance(error, RestoreError)
            assert "was lost" in error.what
            nothing_left(into)


def test_a_worker_killed_with_9_leaves_nothing_there(
    shared: Line, server: SftpServer, slow: Path, tmp_path: Path
) -> None:
    into = shared.request().into
    file = tmp_path / "connection.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(connection_to(server, options=options(shared)))))
    worker = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("remote_worker.py")), file, *restore_words(shared, into, slow)],
        env={**os.environ, "PYTHONPATH": f"{CLONE / 'plugins'}:{CLONE}"},
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: in_replay(into), within=60, what="the restore is in its replay")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    nothing_left(into)


def test_who_attends_there_killed_with_9_takes_the_restore_along(shared: Line, host: RemoteHost, slow: Path) -> None:
    into = shared.request().into
    with under_way(shared, host, into, slow) as restore:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "attended" in words and str(into) in words:
                process.kill()
        assert isinstance(restore.outcome(), LifeboatError)
        nothing_left(into)


def test_no_secret_of_ours_goes_there(shared: Line, server: SftpServer, slow: Path) -> None:
    into = shared.request().into
    known = replace(connection_to(server, options=options(shared)), password="hunter2 of ours")
    with under_way(shared, remote_host(known), into, slow):
        seen = [
            " ".join(process.cmdline())
            for process in psutil.process_iter()
            if any(str(into) in word for word in _cmdline(process))
        ]
    assert seen
    assert not any("hunter2" in words or "PRIVATE KEY" in words for words in seen)


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.fixture
def scripted(server: SftpServer, shared: Line, tmp_path: Path) -> Callable[[str], RemoteHost]:
    """Call it with a shell script for a host whose ``lifeboat`` is that."""

    def make(script: str) -> RemoteHost:
        program = tmp_path / "lifeboat"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return remote_host(connection_to(server, program=str(program), options=options(shared)))

    return make


def test_a_host_that_is_ready_passes(shared: Line, host: RemoteHost) -> None:
    check_remote(host, shared.repository.loaded)


def test_what_a_host_lacks_is_told_with_the_remedy(
    shared: Line, server: SftpServer, host: RemoteHost, scripted: Callable[[str], RemoteHost], tmp_path: Path
) -> None:
    loaded = shared.repository.loaded
    missing = remote_host(connection_to(server, program="/nowhere/lifeboat", options=options(shared)))
    with pytest.raises(RestoreError, match="no program /nowhere/lifeboat") as caught:
        check_remote(missing, loaded)
    assert "lifeboat_program" in caught.value.remedy
    with pytest.raises(RestoreError, match=r"has lifeboat 9\.9\.9") as caught:
        check_remote(scripted("echo lifeboat 9.9.9"), loaded)
    assert f"Install Lifeboat {__version__}" in caught.value.remedy
    with pytest.raises(RestoreError, match="has another policy of demo"):
        check_remote(host, replace(loaded, digest="sha256:of-another"))
    with pytest.raises(RestoreError, match="lacks the connections demo_nowhere"):
        check_remote(host, loaded, needs=["demo_nowhere"])
    with pytest.raises(RemoteFailed, match="no policy of a system"):
        check_remote(remote_host(connection_to(server, options=("--policies", str(tmp_path)))), loaded)


def test_another_host_key_is_never_spoken_to(server: SftpServer, shared: Line) -> None:
    known = connection_to(server, options=options(shared))
    stranger = " ".join(server.private_key.export_public_key().decode().split()[:2])
    for key, words in ((stranger, "another host key"), ("", "does not say which host key")):
        wrong = replace(known, extra={**known.extra, "host_key": key})
        with pytest.raises(TargetUnavailable, match=words):
            run_remote(remote_host(wrong), ["policy", "check"], heard=lambda *_: None)


def test_a_host_that_is_away_is_told(server: SftpServer, free_port: Callable[[], int]) -> None:
    away = remote_host(connection_to(server, port=free_port()))
    with pytest.raises(TargetUnavailable, match="does not answer"):
        run_remote(away, ["policy", "check"], heard=lambda *_: None)


def test_a_host_that_says_nothing_holds_nobody_who_is_cancelled(server: SftpServer) -> None:
    begun = time.monotonic()

    def tick() -> None:
        if time.monotonic() - begun > 1:
            raise Cancelled("A person stopped it.")

    with SilentProxy(server.port) as proxy:
        proxy.fall_silent()
        silent = remote_host(connection_to(server, port=proxy.port))
        with pytest.raises(Cancelled, match="A person"):
            run_remote(silent, ["policy", "check"], heard=lambda *_: None, tick=tick)
    assert time.monotonic() - begun < 8


def test_a_connection_that_is_not_of_that_form_is_refused() -> None:
    good = Connection("db", "ssh", "db1", 22, "dba", "secret")
    for wrong, words in (
        (replace(good, host=None), "has no host"),
        (replace(good, extra={"lifeboat_options": "--policies /x"}), "no list of words"),
        (replace(good, type="postgres"), "is of type 'postgres'"),
        (replace(good, login=None), "has no login"),
    ):
        with pytest.raises(LifeboatError, match=words) as caught:
            remote_host(wrong)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("code", "kind"), [(1, RemoteFailed), (70, RemoteFailed), (143, Cancelled), (130, Cancelled)])
def test_each_way_to_end_is_an_error_of_its_own(
    scripted: Callable[[str], RemoteHost], code: int, kind: type[LifeboatError]
) -> None:
    with pytest.raises(kind, match="no room on the disk"):
        run_remote(scripted(f"echo 'error: no room on the disk' >&2; exit {code}"), ["x"], heard=lambda *_: None)


@pytest.mark.parametrize("way", ["its input ends", "its input is silent"])
def test_what_nobody_attends_to_is_stopped_and_takes_back_what_it_began(shared: Line, slow: Path, way: str) -> None:
    into = shared.request().into
    silence = "2" if way == "its input is silent" else "60"
    words = [*("attended", "--silence", silence, "--"), *options(shared), *restore_words(shared, into, slow)]
    attended = subprocess.Popen(
        [sys.executable, "-m", "lifeboat.cli", *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(CLONE / "plugins")},
    )
    assert attended.stdin is not None
    assert attended.stderr is not None

    def beaten() -> bool:
        attended.stdin.write(b"\n")  # type: ignore[union-attr]
        attended.stdin.flush()  # type: ignore[union-attr]
        return in_replay(into)

    wait_until(beaten, within=60, what="the restore is in its replay")
    begun = time.monotonic()
    if way == "its input ends":
        attended.stdin.close()
    said = attended.stderr.read()
    assert attended.wait(60) == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 2 * SOON
    assert b"Nobody attends to it any more" in said
    assert b"Stopped." in said
    nothing_left(into)
