"""A drill in a process of its own that is killed with -9 in one of its phases."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from lifeboat.connections import outside_from
from lifeboat.policy.loading import load_policy
from lifeboat.recovery.bringing_back import Means
from lifeboat.recovery.drill.practice import Practice, Wish
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])

PHASES: dict[str, Callable[[Path], bool]] = {
    "recovering": lambda place: any(place.rglob("recovery.signal")),
    "looking": lambda place: any(place.rglob("pg_amcheck.log")),
    "asking": lambda place: any(place.rglob("asked")),
}
"""What is seen in the scratch directory once a phase has begun."""


def killed_drill(policy: Path, scratch: Path, phase: str) -> BaseProcess:
    """A drill that is killed once a phase has begun."""
    return _FORKS.Process(target=_run, args=(policy, scratch, phase))


def _run(policy: Path, scratch: Path, phase: str) -> None:
    def tick() -> None:
        if PHASES[phase](scratch):
            os.kill(os.getpid(), signal.SIGKILL)

    repository = SystemRepository(load_policy(policy), outside_from({}))
    wish = Wish(scenario="total_loss", means=Means(scratch=scratch))
    Practice(repository, wish, "deadbeef", Run(command="a drill"), "a test", tick=tick).carry_out()
