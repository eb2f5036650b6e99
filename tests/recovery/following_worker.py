"""A worker that follows a server until it is killed: python -m tests.recovery.following_worker POLICY PORT PASSWORD."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from lifeboat.outside import Connection, Outside, utc_now
from lifeboat.policy.loading import load_policy
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.wal_following import follow_wal
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.source import Stay

SOURCE = "database"


def main() -> None:
    """Follow, and never end."""
    policy, port, password = sys.argv[1:]
    outside = Outside(
        lambda name: Connection(name, "postgres", "127.0.0.1", int(port), "lifeboat", password), lambda *_, **__: None
    )
    repository = SystemRepository(load_policy(Path(policy)), outside)
    source = repository.policy.sources[SOURCE]
    assert isinstance(source, PostgresSource)
    work = Work.new("wal", begun=utc_now(), tiers=("wal",), run=Run(command="test"), actor="a test", mark="0bad")
    journal = repository.journal("primary", run="worker", actor="a test")
    follow_wal(repository, SOURCE, source, work, journal, stay=Stay(None), flush_every=timedelta(seconds=1))


if __name__ == "__main__":
    main()
