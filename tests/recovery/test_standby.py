"""Backups read from a hot standby: whole, honest about what they cover, and led on through its promotion."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import LifeboatError
from lifeboat.postgres.deep_verification import verify_chain, verify_deep
from lifeboat.postgres.moments import AtRecoveryPoint, AtTime, Latest
from sandbox.postgres import PostgresServer
from tests.recovery.line import SOURCE, Line, commit, ledger, prepare, system_in
from tests.recovery.test_timelines import ROWS, follow, standby_of


def test_a_full_and_wal_of_a_standby_bring_back_every_moment(line: Line, tmp_path: Path) -> None:
    primary = line.server
    commit(primary, 1)
    with standby_of(line, tmp_path / "standby") as standby:
        line.server = standby
        line.standby = True
        follow(primary, standby)
        full = line.full()
        print(full.manifest.details["started"], full.manifest.details["stopped"], full.manifest.details["start_lsn"], full.manifest.details["stop_lsn"])
        verify_deep(line.repository, "primary", full)
        [second] = commit(primary, 2)
        follow(primary, standby)
        one = line.wal()
        print(one)
        [third] = commit(primary, 3)
        follow(primary, standby)
        two = line.wal()
        for copy in (*one.copies, *two.copies):
            print(copy.manifest.details, [s.name for s in copy.manifest.streams])
            verify_deep(line.repository, "primary", copy)
        assert verify_chain(line.repository, "primary", SOURCE) == []
        assert ledger(line.ask(line.restore(AtRecoveryPoint(full.manifest.recovery_point)), ROWS)) == [1]
        assert ledger(line.ask(line.restore(AtTime(one.covered_until)), ROWS)) == [1, 2]
        assert ledger(line.ask(line.restore(Latest()), ROWS)) == [1, 2, 3]
