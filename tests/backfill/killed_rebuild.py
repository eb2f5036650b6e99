"""The making of a past moment's export in a process of its own that is killed with -9 in one of its phases."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from lifeboat.backup.steps import back_up
from lifeboat.connections import outside_from
from lifeboat.outside import utc_now
from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.policy.slots import slot_of
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from tests.backfill.past import Past
from tests.forks import FORKS
from tests.recovery.line import SOURCE
from tests.seen import is_seen

PHASES: dict[str, Callable[[Path], bool]] = {
    "unpacking": lambda scratch: is_seen("pg_control", scratch),
    "recovering": lambda scratch: is_seen("recovery.signal", scratch),
    "reading": lambda scratch: is_seen("postmaster.pid", scratch) and not is_seen("recovery.signal", scratch),
}
"""What is seen in the scratch directory once a phase has begun."""


def killed_rebuild(past: Past, moment: datetime, phase: str) -> BaseProcess:
    """An export of a past moment that is killed once a phase has begun."""
    line = past.line
    return FORKS.Process(target=_run, args=(line.system.policy, moment, line.place, phase))


def _run(policy: Path, moment: datetime, scratch: Path, phase: str) -> None:
    def tick() -> None:
        if PHASES[phase](scratch):
            os.kill(os.getpid(), signal.SIGKILL)

    repository = SystemRepository(load_policy(policy), outside_from({}))
    work = Work.new(
        "export",
        begun=utc_now(),
        tiers=("export",),
        run=Run(command="test"),
        actor="a test",
        only=("public.ledger",),
        past=slot_of(None, repository.policy.zone, moment),
    )
    journal = repository.journal("primary", run="command-killed", actor="a test")
    back_up(repository, SOURCE, Tier.EXPORT, work, journal, progress=lambda *_: None, tick=tick)
