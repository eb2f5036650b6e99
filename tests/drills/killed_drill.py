"""A drill in a process of its own that is killed with -9 in one of its phases."""

from __future__ import annotations

import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

from lifeboat.connections import outside_from
from lifeboat.policy.drills import Scenario
from lifeboat.policy.loading import load_policy
from lifeboat.recovery.bringing_back import Means
from lifeboat.recovery.drill.practice import Practice, Wish
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository
from tests.forks import FORKS
from tests.seen import is_seen

PHASES = {"recovering": "recovery.signal", "looking": "pg_amcheck.log", "asking": "asked"}
"""The file that is seen in the scratch directory once a phase has begun."""


def killed_drill(policy: Path, scratch: Path, phase: str, scenario: Scenario = "total_loss") -> BaseProcess:
    """A drill that is killed once a phase has begun."""
    return FORKS.Process(target=_run, args=(policy, scratch, phase, scenario))


def _run(policy: Path, scratch: Path, phase: str, scenario: Scenario) -> None:
    def tick() -> None:
        if is_seen(PHASES[phase], scratch):
            os.kill(os.getpid(), signal.SIGKILL)

    repository = SystemRepository(load_policy(policy), outside_from({}))
    wish = Wish(scenario=scenario, means=Means(scratch=scratch))
    Practice(repository, wish, "deadbeef", Run(command="a drill"), "a test", tick=tick).carry_out()
