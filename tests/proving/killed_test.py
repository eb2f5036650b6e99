"""A restore test in a process of its own that is killed with -9 in one of its phases."""

from __future__ import annotations

import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

from lifeboat.connections import outside_from
from lifeboat.policy.loading import load_policy
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository
from tests.forks import FORKS
from tests.seen import is_seen

PHASES = {"unpacking": "pg_control", "recovering": "recovery.signal", "looking": "pg_amcheck.log"}
"""The file that is seen in the scratch directory once a phase has begun."""


def killed_test(policy: Path, source: str, scratch: Path, phase: str) -> BaseProcess:
    """A test of one source that is killed once a phase has begun."""
    return FORKS.Process(target=_run, args=(policy, source, scratch, phase))


def _run(policy: Path, source: str, scratch: Path, phase: str) -> None:
    def tick() -> None:
        if is_seen(PHASES[phase], scratch):
            os.kill(os.getpid(), signal.SIGKILL)

    repository = SystemRepository(load_policy(policy), outside_from({}))
    wish = Wish(sources=(source,), scratch=scratch)
    RestoreTest(repository, wish, Run(command="a test"), "a test", tick=tick).carry_out()
