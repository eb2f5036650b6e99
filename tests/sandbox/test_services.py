import json
import os
import signal

import psutil

from sandbox.processes import identity, is_alive, start, wait_until
from sandbox.services import end_recorded, recorded


def record(directory, name, pid, known):
    with (directory / "processes.jsonl").open("a") as kept:
        kept.write(json.dumps({"name": name, "kind": "other", "pid": pid, "identity": known}) + "\n")


def test_what_was_recorded_is_ended_last_started_first(tmp_path):
    children = [start(name, ["sleep", "600"], log=tmp_path / "log") for name in ("first", "second")]
    for child in children:
        record(tmp_path, child.name, child.pid, child.identity)
    assert [entry["alive"] for entry in recorded(tmp_path)] == [True, True]
    assert end_recorded(tmp_path) == ["second", "first"]
    assert [child.wait(5) for child in children] == [-signal.SIGTERM, -signal.SIGTERM]
    assert end_recorded(tmp_path) == []


def test_a_process_that_ignores_the_request_and_its_children_are_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("sandbox.services.PATIENCE", 0.5)
    program = "trap '' TERM; sleep 600 & echo ready; wait; sleep 600"
    child = start("stubborn", ["sh", "-c", program], log=tmp_path / "log")
    wait_until(lambda: "ready" in child.log.read_text(), within=10, what="it ignores SIGTERM", child=child)
    family = psutil.Process(child.pid).children()
    record(tmp_path, child.name, child.pid, child.identity)
    assert end_recorded(tmp_path) == ["stubborn"]
    assert child.wait(5) == -signal.SIGKILL
    assert family
    assert not any(is_alive(process) for process in family)


def test_another_process_that_got_the_number_is_left_alone(tmp_path):
    child = start("bystander", ["sleep", "600"], log=tmp_path / "log")
    record(tmp_path, "long gone", child.pid, identity(os.getpid()))
    assert end_recorded(tmp_path) == []
    assert child.alive
    child.kill()


def test_a_process_that_bears_the_mark_is_found_without_a_record(tmp_path):
    child = start("orphan", ["sleep", "600"], log=tmp_path / "log", environment={"LIFEBOAT_SANDBOX": str(tmp_path)})
    assert end_recorded(tmp_path) == [f"process {child.pid}"]
    assert child.wait(5) == -signal.SIGKILL
