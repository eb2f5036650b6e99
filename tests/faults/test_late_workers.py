"""A worker that was thought dead and is not, and a second run at once: one recovery point, one row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest

from lifeboat.errors import AlreadyCommitted, BackupFailed, LifeboatError
from lifeboat.postgres import advisory_lock
from lifeboat.repository.catalogue import Copy
from tests.faults.ways import (
    EXPORT,
    FULL,
    INCREMENTAL,
    LOGICAL,
    LONG_FULL,
    WAL,
    WAYS,
    Protected,
    Way,
    an_object,
    retry_of,
    the_signature,
)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_worker_thought_dead_in_mid_upload_changes_nothing_when_it_goes_on(protected: Protected, way: Way) -> None:
    assert isinstance(_goes_on_after_its_retry(protected, way, an_object), LifeboatError)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_worker_thought_dead_that_comes_to_its_commit_after_the_retrys_changes_nothing(
    protected: Protected, way: Way
) -> None:
    assert isinstance(_goes_on_after_its_retry(protected, way, the_signature), AlreadyCommitted)


def _goes_on_after_its_retry(protected: Protected, way: Way, gate: Callable[[str], bool]) -> object:
    """Hold a worker at a gate until its retry has committed; returns how it ends, when it goes on."""
    protected.change()
    before, work = protected.copies(way), protected.work(way)
    with protected.at_the_gate(way, work, gate) as (_, late):
        protected.lose_sessions()
        copy = protected.run(way, retry_of(work))
    ended = late.result()
    assert protected.copies(way) == [*before, copy]
    protected.proven(way, copy)
    return ended


@pytest.mark.parametrize("way", [FULL, INCREMENTAL, EXPORT], ids=str)
def test_a_second_run_at_once_is_refused_until_the_first_has_committed(protected: Protected, way: Way) -> None:
    protected.change()
    before = protected.copies(way)
    with (
        protected.at_the_gate(way, protected.work(way), the_signature) as (_, first),
        pytest.raises(BackupFailed, match="under way"),
    ):
        protected.run(way)
    copy = first.result()
    assert isinstance(copy, Copy), copy
    assert protected.copies(way) == [*before, copy]
    protected.proven(way, protected.run(way))


@pytest.mark.parametrize("way", [LOGICAL, LONG_FULL, WAL], ids=str)
def test_a_second_run_at_once_waits_until_the_first_has_committed(
    protected: Protected, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected.change()
    before, due = protected.copies(way), None if way is WAL else date(2026, 1, 4)
    waiting, wait = threading.Event(), advisory_lock._wait_a_moment

    def wait_and_tell(tick: object) -> None:
        waiting.set()
        wait(tick)  # type: ignore[arg-type]

    monkeypatch.setattr(advisory_lock, "_wait_a_moment", wait_and_tell)
    with (
        ThreadPoolExecutor(1) as pool,
        protected.at_the_gate(way, protected.work(way, due=due), the_signature) as (
            gate,
            first,
        ),
    ):
        second = pool.submit(protected.run, way, protected.work(way, due=due))
        while not waiting.wait(0.1):
            assert not second.done(), second.result()
        gate.let_go.set()
        copies = [first.result(60), second.result(60)]
    assert all(isinstance(copy, Copy) for copy in copies), copies
    # Of one day's runs the second finds the first one's; WAL goes on where the first one ended.
    made = copies if way is WAL else copies[:1]
    assert protected.copies(way) == [*before, *made]
    assert copies[-1] == made[-1]
    protected.proven(way, made[-1])
