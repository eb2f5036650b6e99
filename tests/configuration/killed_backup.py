"""A backup of a configuration, or a restore, in a process of its own that is killed with -9 in its middle."""

from __future__ import annotations

import os
import signal
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from lifeboat.configuration.restoring import restore_items
from lifeboat.policy.naming import Tier
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import Work
from tests.configuration.conftest import SETTINGS, Configuration
from tests.conftest import Clock
from tests.files.killed_work import _Killed
from tests.forks import FORKS
from tests.repository.world import World


def backup_process(settings: Configuration, mark: str, dies_at: int) -> BaseProcess:
    """A backup whose id ends in ``mark``, killed before the target's change of that number."""
    return FORKS.Process(target=_back_up, args=(settings.world.policy, settings.world.clock(), mark, dies_at))


def restore_process(settings: Configuration, recovery_point: str, into: Path, dies_after: int) -> BaseProcess:
    """A restore that is killed at so many ticks."""
    arguments = (settings.world.policy, settings.world.clock(), recovery_point, into, dies_after)
    return FORKS.Process(target=_restore, args=arguments)


def _back_up(policy: Path, now: datetime, mark: str, dies_at: int) -> None:
    settings = Configuration(World(policy, Clock(now), {}), Path(), Path())
    repository = settings.world.repository()
    repository._targets["primary"] = _Killed(repository.target("primary"), dies_at)  # type: ignore[assignment]
    work = Work.new(
        "full", begun=now, tiers=("daily",), run=Run(command="a test"), actor="a test", mark=mark, attempt=dies_at
    )
    settings.take(Tier.DAILY, repository, work)


def _restore(policy: Path, now: datetime, recovery_point: str, into: Path, dies_after: int) -> None:
    repository = World(policy, Clock(now), {}).repository()
    copy = repository.catalogue("primary").find(SETTINGS, recovery_point)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks > dies_after:
            os.kill(os.getpid(), signal.SIGKILL)

    restore_items(repository, copy, into, tick=tick)
