"""A restore test on a staging server, in a process of its own that is killed with -9 once its database has a name."""

from __future__ import annotations

import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

import psycopg

from lifeboat.connections import outside_from
from lifeboat.policy.loading import load_policy
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository
from tests.forks import FORKS


def killed_test(
    policy: Path, source: str, scratch: Path, environment: dict[str, str], dsn: str, name: str
) -> BaseProcess:
    """A test of one source that is killed when the server has a database whose name begins so."""
    return FORKS.Process(target=_run, args=(policy, source, scratch, environment, dsn, name))


def _run(policy: Path, source: str, scratch: Path, environment: dict[str, str], dsn: str, name: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:

        def tick() -> None:
            query = "SELECT FROM pg_database WHERE starts_with(datname::text, %s)"
            if session.execute(query, [name]).fetchone() is not None:
                os.kill(os.getpid(), signal.SIGKILL)

        repository = SystemRepository(load_policy(policy), outside_from(environment))
        RestoreTest(
            repository, Wish(sources=(source,), scratch=scratch), Run(command="a test"), "a test", tick=tick
        ).carry_out()
