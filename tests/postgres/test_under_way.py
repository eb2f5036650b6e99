from __future__ import annotations

import time
from functools import partial
from threading import Barrier, Event

import pytest

from lifeboat.postgres.under_way import UnderWay


def _until_ended(jobs: UnderWay) -> None:
    while not jobs.wait(0.05):
        pass


def test_jobs_are_done_side_by_side_and_counted() -> None:
    met = Barrier(2, timeout=10)
    with UnderWay("test", [met.wait, met.wait], 2) as jobs:
        assert jobs.wait(10)
        assert jobs.done == jobs.total == 2


def test_no_more_are_under_way_than_were_allowed() -> None:
    now: list[int] = []
    most: list[int] = []

    def job(number: int) -> None:
        now.append(number)
        most.append(len(now))
        now.remove(number)

    with UnderWay("test", [partial(job, number) for number in range(50)], 3) as jobs:
        while not jobs.wait(1):
            pass
    assert len(most) == 50
    assert max(most) <= 3


def test_the_first_failure_is_told_and_lets_no_further_job_begin() -> None:
    begun = []

    def fail() -> None:
        raise ValueError("the first")

    with UnderWay("test", [fail, partial(begun.append, 2)], 1) as jobs:
        with pytest.raises(ValueError, match="the first"):
            jobs.wait(10)
        with pytest.raises(ValueError, match="the first"):
            jobs.check()
    assert not begun


def test_a_failure_is_told_while_another_job_is_still_under_way() -> None:
    go_on = Event()

    def fail() -> None:
        raise ValueError("a failure")

    with UnderWay("test", [partial(go_on.wait, 20), fail], 2) as jobs:
        with pytest.raises(ValueError, match="a failure"):
            _until_ended(jobs)
        assert not go_on.is_set()
        go_on.set()


def test_whoever_leaves_early_gives_the_rest_up_and_waits_for_what_is_under_way() -> None:
    begun, ended, third = Event(), Event(), Event()

    def long() -> None:
        begun.set()
        while not jobs.given_up:
            Event().wait(0.01)
        ended.set()

    jobs = UnderWay("test", [long, third.set], 1)
    with jobs:
        assert begun.wait(10)
    assert ended.is_set()
    assert not third.is_set()


def test_what_hangs_holds_nobody_back_for_long() -> None:
    hanging = Event()
    before = time.monotonic()
    with UnderWay("test", [partial(hanging.wait, 60)], 1, patience=0.2) as jobs:
        assert not jobs.wait(0.05)
    assert time.monotonic() - before < 30
    hanging.set()


def test_no_jobs_at_all_have_ended() -> None:
    with UnderWay("test", [], 4) as jobs:
        assert jobs.wait(0)
