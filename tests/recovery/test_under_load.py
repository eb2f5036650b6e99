"""Point-in-time recovery while the server was busy all the time, on every major version under test."""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from lifeboat.postgres.moments import AtTime
from sandbox import postgres_builds
from sandbox.postgres import PostgresServer
from tests.recovery.line import Line, ledger

_log = logging.getLogger(__name__)
SCALE = 1
SAFE = timedelta(milliseconds=1)
"""Moments of commits are taken a little before their records reach the WAL, so that two sessions' may be exchanged."""


class Writer:
    """Commits one row after the other until it is told to stop."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="ledger")

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        try:
            with self._server.connect() as session:
                number = 0
                while not self._stop.wait(0.003):
                    number += 1
                    session.execute("INSERT INTO ledger VALUES (%s)", (number,))
        except BaseException as failure:
            self._failure = failure


def moments_between(commits: dict[int, datetime], begin: datetime, end: datetime, seed: int) -> list[datetime]:
    """Three random moments, each in the middle between two commits that are not too close to each other."""
    ordered = sorted(moment for moment in commits.values() if begin < moment < end)
    middles = [earlier + (later - earlier) / 2 for earlier, later in pairwise(ordered) if later - earlier > 2 * SAFE]
    return sorted(random.Random(seed).sample(middles, 3))


@pytest.fixture
def busy(make_line: Callable[..., Line], request: pytest.FixtureRequest) -> Line:
    return make_line(major=request.param, settings={"track_commit_timestamp": "on", "autovacuum_naptime": "1s"})


@pytest.mark.parametrize(
    "busy", postgres_builds.tested_majors(), indirect=True, ids=lambda major: f"postgresql-{major}"
)
def test_three_random_moments_under_load_come_back_exactly(busy: Line) -> None:
    server = busy.server
    seed = secrets.randbits(32)
    _log.warning("seed %d", seed)
    server.run_program("pgbench", "-i", "-s", str(SCALE), "-q")
    with Writer(server):
        load = threading.Thread(target=server.run_program, args=("pgbench", "-c", "4", "-T", "4", "-R", "400", "-n"))
        load.start()
        full = busy.full()
        runs = [busy.wal()]
        while load.is_alive():
            runs.append(busy.wal())
            load.join(1)
        second = busy.full()
        runs.append(busy.wal())
    commits: dict[int, datetime] = dict(
        server.run_sql(
            "SELECT n, pg_xact_commit_timestamp(xmin) FROM ledger WHERE pg_xact_commit_timestamp(xmin) < %s",
            [runs[-1].covered_until],
        )
    )
    server.stop()
    for moment in moments_between(commits, full.manifest.moment, runs[-1].covered_until, seed):
        restored = busy.restore(AtTime(moment))
        expected = sorted(number for number, committed in commits.items() if committed <= moment)
        with busy.opened(restored) as again:
            assert ledger(again.run_sql("SELECT n FROM ledger")) == expected, f"seed {seed}, moment {moment}"
            assert agreeing_balances(again), f"seed {seed}, moment {moment}"
            assert_whole(again)
    assert second.manifest.sequence == 2


def agreeing_balances(server: PostgresServer) -> bool:
    sums = [
        server.run_sql(f"SELECT sum({column}) FROM {table}")[0][0]
        for table, column in (
            ("pgbench_accounts", "abalance"),
            ("pgbench_tellers", "tbalance"),
            ("pgbench_branches", "bbalance"),
            ("pgbench_history", "delta"),
        )
    ]
    return len(set(sums)) == 1 and sums[0] is not None


def assert_whole(server: PostgresServer) -> None:
    """Every heap and index, looked at by PostgreSQL's own checks where they are built."""
    if server.major != 18:
        return
    server.run_sql("CREATE EXTENSION IF NOT EXISTS amcheck")
    faults: list[Any] = server.run_sql(
        "SELECT relname, found.* FROM pg_class, LATERAL verify_heapam(pg_class.oid) AS found"
        " WHERE relkind IN ('r', 't') AND relpersistence = 'p'"
    )
    assert not faults
    server.run_sql(
        "SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE relname LIKE 'pgbench%%' OR relname LIKE 'ledger%%'"
    )
