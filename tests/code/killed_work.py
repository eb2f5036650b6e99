"""A run in a process of its own that is killed with -9 in its middle."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from lifeboat.code.restoring import restore_repositories
from lifeboat.policy.naming import Tier
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import Work
from tests.code.conftest import CODE
from tests.conftest import Clock
from tests.forks import FORKS
from tests.repository.retention.cleaned_system import Mortal
from tests.repository.world import World


class _Killed(Mortal):
    """A target whose process is killed before its change with a number."""

    def __getattr__(self, name: str) -> object:
        found = getattr(self.inner, name)
        if name not in ("put", "put_new", "delete"):
            return found

        def change(*arguments: object, **named: object) -> object:
            self.changes += 1
            if self.changes == self.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return found(*arguments, **named)

        return change


def snapshot_process(world: World, mark: str, dies_at: int) -> BaseProcess:
    """A run whose recovery point's id ends in ``mark``, killed before the target's change of that number."""
    return FORKS.Process(target=_snapshot, args=(world.policy, world.clock(), mark, dies_at))


def restore_process(world: World, recovery_point: str, into: Path) -> BaseProcess:
    """A restore that is killed when the first bytes have come."""
    return FORKS.Process(target=_restore, args=(world.policy, world.clock(), recovery_point, into))


def _snapshot(policy: Path, now: datetime, mark: str, dies_at: int) -> None:
    from lifeboat.backup.steps import back_up

    repository = World(policy, Clock(now), {}).repository()
    repository._targets["primary"] = _Killed(repository.target("primary"), dies_at)  # type: ignore[assignment]
    work = Work.new(
        "full", begun=now, tiers=("daily",), run=Run(command="a test"), actor="a test", mark=mark, attempt=dies_at
    )
    journal = repository.journal("primary", run="test", actor="a test")
    back_up(repository, CODE, Tier.DAILY, work, journal, progress=lambda _done, _total: None, tick=lambda: None)


def _restore(policy: Path, now: datetime, recovery_point: str, into: Path) -> None:
    repository = World(policy, Clock(now), {}).repository()
    copy = repository.catalogue("primary").find(CODE, recovery_point)

    def progress(done: int, _total: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    restore_repositories(repository, copy, into, progress=progress)
