"""A worker that stops in the middle of its run, says so, and waits to be killed."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event

from lifeboat.backup.steps import back_up
from lifeboat.outside import Connection, Outside
from lifeboat.policy.loading import load_policy
from lifeboat.policy.naming import Tier
from lifeboat.repository.layout import RecoveryPointId
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work


def main() -> None:
    """Take policy, port, tier, recovery point and attempt as arguments, and the password on standard input."""
    policy, port, tier, point, attempt = sys.argv[1:]
    password = sys.stdin.readline().strip()

    def connection(name: str) -> Connection:
        return Connection(name, "postgres", "127.0.0.1", int(port), "lifeboat", password)

    def progress(done: int, _total: int) -> None:
        if done > 0:
            print("in the middle", flush=True)
            Event().wait()

    repository = SystemRepository(load_policy(Path(policy)), Outside(connection, lambda *_, **__: None))
    work = Work(RecoveryPointId.parse(point), attempt, (tier,), Run(command="test"), "a test")
    journal = repository.journal("primary", run="worker", actor="a test")
    back_up(repository, "database", Tier(tier), work, journal, progress=progress, tick=lambda: None)


if __name__ == "__main__":
    main()
