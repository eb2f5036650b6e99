"""A cleanup that is killed with -9, at each of its changes, and several at once: the next one ends the work."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from itertools import count

import pytest

from lifeboat.repository.marking import read_marks, read_removed
from sandbox.s3_servers import S3Server
from sandbox.sftp_servers import SftpServer
from tests.repository.retention.cleaned_system import CleanedSystem
from tests.repository.retention.killed_cleanup import cleanup_process, new_gate
from tests.repository.world import SOURCE, SYSTEM, World

STEPS = pytest.mark.parametrize("days", [0, 8], ids=["soft deletion", "purge"])


class Aged(CleanedSystem):
    """A system of whose primary target a full and a WAL run are past their retention, and two fulls are not."""

    gone: list[str]
    stay: list[str]

    def grow_old(self, days: int) -> Aged:
        """With days, the old is deleted already, and its time to be taken back has ended."""
        clock = self.world.clock
        self.gone = self.days(1)
        self.gone += [self.point(kind="wal", timeline=1, tiers=("wal",))]
        clock.advance(days=1)
        self.stay = self.days(1)
        clock.advance(days=31)
        self.stay += [self.point()]
        if days:
            self.clean()
            clock.advance(days=days)
        return self

    def insist_on_the_end(self, days: int) -> None:
        """Nothing is lost, nothing left half, and a further cleanup finds nothing to do."""
        assert self.shown() == self.stay
        if days:
            repository = self.repository()
            target = repository.target("primary")
            self.whole()
            keys = [info.key for info in target.list(f"{SYSTEM}/{SOURCE}/")]
            assert not [key for key in keys if any(point in key.split("/") for point in self.gone)]
            assert read_removed(target, SYSTEM, SOURCE, repository.trusted)[self.gone[0]] == 1
            assert read_marks(target, SYSTEM, SOURCE, repository.trusted) == []
        done = self.clean()
        assert (done.deleted.gone, done.removed) == ((), ())


def aged(world: World, url: str, days: int) -> Aged:
    """On its primary target a deletion can be taken back for a week."""
    return Aged(world.bent(url, f"{url}    undelete: 7d\n")).grow_old(days)


@STEPS
def test_a_cleanup_killed_at_any_change_of_its_directory_is_ended_by_the_next(world: World, days: int) -> None:
    system = aged(world, f"url: file://{world.roots['primary']}\n", days)
    root = world.roots["primary"]
    untouched = root.with_name("untouched")
    shutil.copytree(root, untouched)
    start = world.clock()
    for at in count(1):
        shutil.rmtree(root)
        shutil.copytree(untouched, root)
        world.clock.now = start
        process = cleanup_process(system.world, dies_at=at)
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        assert set(system.stay) <= set(system.shown())
        world.clock.advance(minutes=1)
        system.clean()
        system.insist_on_the_end(days)
    assert at > (40 if days else 7)


@STEPS
@pytest.mark.parametrize("server", ["moto", "rclone", "openssh"])
def test_a_cleanup_killed_ever_later_on_a_server_comes_to_its_end(
    make_world: Callable[[S3Server | SftpServer], World], request: pytest.FixtureRequest, server: str, days: int
) -> None:
    world = make_world(request.getfixturevalue(server))
    system = aged(world, "connection: store\n", days)
    deaths = 0
    for at in count(1):
        process = cleanup_process(system.world, dies_at=at)
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        deaths += 1
        assert set(system.stay) <= set(system.shown())
        world.clock.advance(minutes=1)
    assert deaths >= 2
    system.insist_on_the_end(days)


@STEPS
def test_several_cleanups_at_once_do_what_one_does(world: World, days: int) -> None:
    system = aged(world, f"url: file://{world.roots['primary']}\n", days)
    gate = new_gate()
    processes = [cleanup_process(system.world, gate=gate) for _ in range(4)]
    for process in processes:
        process.start()
    gate.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    world.clock.advance(minutes=1)
    system.clean()
    system.insist_on_the_end(days)


def test_cleanups_at_once_that_are_killed_leave_nothing_half(world: World) -> None:
    system = aged(world, f"url: file://{world.roots['primary']}\n", 8)
    for at in range(3, 60, 7):
        gate = new_gate()
        processes = [cleanup_process(system.world, dies_at=at + shift, gate=gate) for shift in range(2)]
        for process in processes:
            process.start()
        gate.set()
        for process in processes:
            process.join()
        assert {process.exitcode for process in processes} <= {0, -signal.SIGKILL}
        assert set(system.stay) <= set(system.shown())
        world.clock.advance(minutes=1)
    system.clean()
    system.insist_on_the_end(8)
