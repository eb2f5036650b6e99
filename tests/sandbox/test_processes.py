import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sandbox import accounts, keeper, processes
from sandbox.accounts import SandboxError
from sandbox.processes import free_port, identity, is_alive, start, wait_until

# A service that has a child in a session of its own, which has a child that ignores SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(600)"
middle = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {stubborn!r}]).wait()"
subprocess.Popen([sys.executable, "-c", middle], start_new_session=True)
time.sleep(600)
"""


def kept(log, *, grace="1"):
    return start(
        "the family",
        [sys.executable, "-I", "-S", keeper.__file__, grace, sys.executable, "-c", FAMILY],
        log=log,
        death_signal=signal.SIGTERM,
    )


def whole_family(child):
    wait_until(lambda: child.log.exists() and "x" in child.log.read_text(), within=30, what="all started", child=child)
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(family) == 3
    return family


def all_gone(family):
    wait_until(lambda: not any(is_alive(process) for process in family), within=30, what="all are gone")


def test_a_kept_service_told_to_end_leaves_no_descendant(tmp_path):
    child = kept(tmp_path / "log")
    family = whole_family(child)
    child.stop()
    assert not any(is_alive(process) for process in family)


def test_a_kept_service_that_is_killed_leaves_no_descendant(tmp_path):
    child = kept(tmp_path / "log")
    family = whole_family(child)
    family[0].kill()
    child.wait(30)
    assert not any(is_alive(process) for process in family)


def test_a_kept_service_is_gone_with_the_process_that_asked_for_it(tmp_path):
    code = (
        "import sys, pathlib\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from test_processes import kept\n"
        "print(kept(pathlib.Path(sys.argv[1])).pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = f"{accounts.CLONE}:{accounts.CLONE / 'plugins'}"
    starter = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "log", Path(__file__).parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        top = psutil.Process(int(starter.stdout.readline()))
        wait_until(lambda: "x" in (tmp_path / "log").read_text(), within=30, what="all started")
        family = [top, *top.children(recursive=True)]
        starter.kill()
        all_gone(family)
    finally:
        starter.kill()
        starter.communicate()


def test_the_keeper_returns_its_services_code(tmp_path):
    for words, code in ((["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -9 $$"], 137), (["/no/such/program"], 127)):
        child = start("it", [sys.executable, "-I", "-S", keeper.__file__, "1", *words], log=tmp_path / "log")
        assert child.wait(30) == code


def test_ports_given_are_free_and_never_given_twice(free_port):
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    assert not any(processes.port_answers(port) for port in ports)


def test_a_port_reserved_by_another_process_is_not_given(monkeypatch):
    code = "from sandbox.processes import free_port; print(free_port(), flush=True); import sys; sys.stdin.read()"
    path = f"{accounts.CLONE}:{accounts.CLONE / 'plugins'}"
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        taken = int(other.stdout.readline())
        monkeypatch.setattr(processes.random, "sample", lambda *_: [taken])
        with pytest.raises(SandboxError, match="none is free"):
            free_port()
    finally:
        other.communicate()


def test_waiting_for_a_child_that_ended_shows_the_end_of_its_log(tmp_path):
    child = start("it", ["sh", "-c", "echo the reason; exit 4"], log=tmp_path / "log")
    with pytest.raises(SandboxError, match=r"it ended with code 4 before it works\.\nthe reason"):
        wait_until(lambda: False, within=30, what="it works", child=child)


def test_a_process_that_ended_has_no_identity(tmp_path):
    child = start("it", ["true"], log=tmp_path / "log")
    child.wait(30)
    assert identity(child.pid) is None
    assert identity(os.getpid()) == identity(os.getpid())
