"""Names of work, clocks that are wrong, and many things done side by side."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from lifeboat.errors import Cancelled, PolicyError, RepositoryError
from lifeboat.repository.layout import RecoveryPointId
from lifeboat.repository.manifest import Run
from lifeboat.repository.side_by_side import side_by_side
from lifeboat.repository.system import Work
from tests.repository.world import World
from tests.streams.keys_made import threads_of_streams

NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)


def work(begun: datetime = NOW) -> Work:
    return Work.new("full", begun=begun, tiers=("daily",), run=Run(command="a test"), actor="tester", mark="7f3a")


def newest(begun: datetime) -> str:
    return str(RecoveryPointId(begun, "full", "0000"))


@pytest.mark.parametrize(
    ("before", "shift"),
    [
        (None, 0),
        (timedelta(days=-400), 0),
        (timedelta(seconds=-1), 0),
        (timedelta(0), 1),
        (timedelta(seconds=1), 2),
        (timedelta(minutes=4, seconds=59), 300),
        (timedelta(minutes=5), 301),
    ],
    ids=str,
)
def test_an_id_sorts_behind_the_newest_also_when_the_clock_is_a_little_behind(
    before: timedelta | None, shift: int
) -> None:
    after = work().after(None if before is None else newest(NOW + before))
    assert after.recovery_point.begun == NOW + timedelta(seconds=shift)
    assert after.recovery_point.mark == "7f3a"
    if before is not None:
        assert str(after.recovery_point) > newest(NOW + before)


@pytest.mark.parametrize("ahead", [timedelta(minutes=5, seconds=1), timedelta(hours=3), timedelta(days=300)], ids=str)
def test_a_clock_set_back_by_more_than_minutes_is_refused(ahead: timedelta) -> None:
    with pytest.raises(RepositoryError, match="is of a later time than this worker's clock says it is") as caught:
        work().after(newest(NOW + ahead))
    assert "NTP" in caught.value.remedy


def test_fractions_of_a_second_do_not_make_two_ids_of_one(world: World) -> None:
    begun = NOW + timedelta(milliseconds=900)
    after = work(begun).after(newest(NOW))
    assert str(after.recovery_point) == "20261122T020001Z-full-7f3a"


def test_two_processes_that_both_believe_to_be_one_attempt_have_folders_of_their_own() -> None:
    assert work().attempt != work().attempt
    assert work().recovery_point == work().recovery_point


def test_a_target_that_the_policy_has_not_is_named(world: World) -> None:
    with pytest.raises(PolicyError, match="has no target 'moon'"):
        world.repository().target("moon")


def test_results_come_in_the_order_of_the_items() -> None:
    assert side_by_side(lambda number: number * 2, range(50), at_once=4, name="read back") == list(range(0, 100, 2))
    assert side_by_side(str, [], at_once=4, name="read back") == []
    assert threads_of_streams() == []


def test_no_more_calls_than_asked_for_are_under_way() -> None:
    under_way, most = 0, 0
    lock = threading.Lock()
    together = threading.Barrier(3, timeout=30)

    def call(number: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait()  # three at a time, or this never ends
        with lock:
            under_way -= 1

    side_by_side(call, range(9), at_once=3, name="read back")
    assert most == 3


def test_after_a_failure_nothing_more_is_begun_and_long_calls_are_told() -> None:
    stop = threading.Event()
    begun: list[int] = []

    def call(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise RepositoryError("broken")
        stop.wait(30)

    with pytest.raises(RepositoryError, match="broken"):
        side_by_side(call, range(100), at_once=2, name="read back", stop=stop)
    assert stop.is_set()
    assert len(begun) <= 3
    assert threads_of_streams() == []


def test_what_is_meant_to_end_everything_comes_through() -> None:
    def call(number: int) -> None:
        raise Cancelled("stopped") if number == 3 else KeyboardInterrupt

    with pytest.raises((Cancelled, KeyboardInterrupt)):
        side_by_side(call, range(3, 8), at_once=1, name="read back")
