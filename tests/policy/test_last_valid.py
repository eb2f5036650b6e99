from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lifeboat.policy.last_valid import policies_to_run

Write = Callable[..., Path]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state" / "policies"


def _break(path: Path) -> None:
    path.write_text("a: [\n")


def test_a_broken_policy_runs_on_from_its_last_valid_copy(write: Write, policies: Path, state: Path) -> None:
    path = write()
    before = policies_to_run(policies, state).policies["shop"]
    assert not before.stale
    _break(path)
    loaded = policies_to_run(policies, state)
    stale = loaded.policies["shop"]
    assert stale.stale
    assert stale.policy == before.policy
    assert (stale.text, stale.digest, stale.path) == (before.text, before.digest, path)
    assert "shop.yaml is broken" in stale.notices[0]
    assert [problem.file for problem in loaded.problems] == [path]


def test_a_broken_policy_without_a_copy_does_not_run(policies: Path, state: Path, write: Write) -> None:
    _break(write())
    loaded = policies_to_run(policies, state)
    assert loaded.policies == {}
    assert len(loaded.problems) == 1


def test_a_mended_policy_runs_again_as_it_is_now(write: Write, policies: Path, state: Path) -> None:
    path = write()
    policies_to_run(policies, state)
    _break(path)
    policies_to_run(policies, state)
    write("shop.yaml", ("rto: 4h", "rto: 5h"))
    assert not policies_to_run(policies, state).policies["shop"].stale
    _break(path)
    assert str(policies_to_run(policies, state).policies["shop"].policy.objectives.rto) == "5h"


def test_a_removed_policy_drops_its_copy(write: Write, policies: Path, state: Path) -> None:
    path = write()
    policies_to_run(policies, state)
    path.unlink()
    assert policies_to_run(policies, state).policies == {}
    assert list(state.iterdir()) == []
    _break(path)
    assert policies_to_run(policies, state).policies == {}


def test_a_directory_that_is_gone_leaves_every_copy_running(write: Write, policies: Path, state: Path) -> None:
    path = write()
    policies_to_run(policies, state)
    path.unlink()
    policies.rmdir()
    loaded = policies_to_run(policies, state)
    assert loaded.policies["shop"].stale
    assert len(loaded.problems) == 1


def test_two_files_of_one_system_leave_its_last_valid_copy_running(write: Write, policies: Path, state: Path) -> None:
    write()
    policies_to_run(policies, state)
    write("copy.yaml", ("rto: 4h", "rto: 5h"))
    stale = policies_to_run(policies, state).policies["shop"]
    assert stale.stale
    assert str(stale.policy.objectives.rto) == "4h"


def test_a_file_renamed_by_mistake_leaves_its_system_running(write: Write, policies: Path, state: Path) -> None:
    path = write()
    policies_to_run(policies, state)
    path.rename(policies / "other.yaml")
    loaded = policies_to_run(policies, state)
    assert loaded.policies["shop"].stale
    assert loaded.policies["shop"].path.name == "other.yaml"


def test_a_variable_that_went_missing_leaves_the_policy_running(write: Write, policies: Path, state: Path) -> None:
    write("shop.yaml", ("s3://shop-backups", "s3://${BUCKET}"))
    policies_to_run(policies, state, environment={"BUCKET": "there", "SECRET": "never kept"})
    loaded = policies_to_run(policies, state, environment={})
    assert loaded.policies["shop"].policy.primary.bucket == "there"
    assert "`BUCKET` is not set" in loaded.problems[0].what
    assert "never kept" not in next(state.iterdir()).read_text()


def test_a_stale_copy_never_collides_with_a_policy_that_is_valid(write: Write, policies: Path, state: Path) -> None:
    path = write("a.yaml", ("system: shop", "system: a"), ("  database:", "  b_c:"))
    policies_to_run(policies, state)
    _break(path)
    write("a_b.yaml", ("system: shop", "system: a_b"), ("  database:", "  c:"))
    loaded = policies_to_run(policies, state)
    assert set(loaded.policies) == {"a_b"}
    assert any("does not run either" in problem.what for problem in loaded.problems)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"text": 1}', b'{"text": "a: 1", "digest": "x", "environment": {}}']
)
def test_a_copy_that_was_damaged_is_not_run(write: Write, policies: Path, state: Path, content: bytes) -> None:
    path = write()
    policies_to_run(policies, state)
    (copy,) = state.iterdir()
    copy.write_bytes(content)
    _break(path)
    loaded = policies_to_run(policies, state)
    assert loaded.policies == {}
    assert "no last valid copy" in loaded.problems[-1].what


def test_a_copy_that_was_changed_is_not_run(write: Write, policies: Path, state: Path) -> None:
    path = write()
    policies_to_run(policies, state)
    (copy,) = state.iterdir()
    content = json.loads(copy.read_text())
    content["text"] = content["text"].replace("rto: 4h", "rto: 9h")
    copy.write_text(json.dumps(content))
    _break(path)
    assert "not what was written" in policies_to_run(policies, state).problems[-1].what


def test_a_copy_is_written_only_when_the_policy_changed(write: Write, policies: Path, state: Path) -> None:
    write()
    policies_to_run(policies, state)
    (copy,) = state.iterdir()
    first = copy.stat().st_ino
    policies_to_run(policies, state)
    assert copy.stat().st_ino == first
    write("shop.yaml", ("rto: 4h", "rto: 5h"))
    policies_to_run(policies, state)
    assert copy.stat().st_ino != first
    assert copy.stat().st_mode & 0o077 == 0


def test_a_state_directory_that_cannot_be_written_stops_nothing_and_is_told(
    write: Write, policies: Path, tmp_path: Path
) -> None:
    write()
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    loaded = policies_to_run(policies, blocked / "state")
    assert not loaded.policies["shop"].stale
    assert loaded.problems == ()
    assert "could not be kept" in loaded.notices[0]


def _as_an_ordinary_user(policies: Path, state: Path, answer: multiprocessing.SimpleQueue[tuple[bool, str]]) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    loaded = policies_to_run(policies, state)
    answer.put(("shop" in loaded.policies, " ".join(loaded.notices)))


def test_a_read_only_state_directory_stops_nothing_and_is_told(minimal: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        policies, state = Path(name) / "policies", Path(name) / "state"
        for directory in (policies, state):
            directory.mkdir()
        (policies / "shop.yaml").write_text(minimal)
        for path, mode in ((Path(name), 0o755), (policies, 0o755), (policies / "shop.yaml", 0o644), (state, 0o555)):
            path.chmod(mode)
        context = multiprocessing.get_context("fork")
        answer: multiprocessing.SimpleQueue[tuple[bool, str]] = context.SimpleQueue()
        process = context.Process(target=_as_an_ordinary_user, args=(policies, state, answer))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        runs, notices = answer.get()
    assert runs
    assert "Permission denied" in notices


def test_what_a_dead_process_left_is_cleared_once_it_is_old(write: Write, policies: Path, state: Path) -> None:
    write()
    state.mkdir(parents=True)
    left = state / ".shop.abc.tmp"
    left.write_text("half")
    now = datetime.now(UTC)
    policies_to_run(policies, state, clock=lambda: now)
    assert left.exists()
    write("shop.yaml", ("rto: 4h", "rto: 5h"))
    policies_to_run(policies, state, clock=lambda: now + timedelta(hours=2))
    assert not left.exists()


def _load_often(policies: Path, state: Path, answer: multiprocessing.SimpleQueue[int]) -> None:
    whole = 0
    for number in range(20):
        text = (policies / "shop.yaml").read_text()
        (policies / f".{os.getpid()}").write_text(text.replace("rto: 4h", f"rto: {number + 1}h"))
        (policies / f".{os.getpid()}").replace(policies / "shop.yaml")
        loaded = policies_to_run(policies, state)
        whole += not loaded.problems and not loaded.notices and "shop" in loaded.policies
    answer.put(whole)


def test_several_processes_may_keep_copies_at_once(write: Write, policies: Path, state: Path) -> None:
    path = write()
    context = multiprocessing.get_context("fork")
    answer: multiprocessing.SimpleQueue[int] = context.SimpleQueue()
    processes = [context.Process(target=_load_often, args=(policies, state, answer)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [answer.get() for _ in processes] == [20, 20, 20]
    _break(path)
    assert policies_to_run(policies, state).policies["shop"].stale
    assert [entry.name for entry in state.iterdir()] == ["shop.last-valid.json"]
