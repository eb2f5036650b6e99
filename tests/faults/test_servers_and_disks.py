"""What a server, a network, a disk, a clock or a key may do to a run of any tier: nothing of it is committed, the error
says what to do, and the next run is good."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from lifeboat.backup.steps import back_up
from lifeboat.errors import Cancelled, KeyUnavailable, LifeboatError, PostgresError, RepositoryError, TargetFull
from lifeboat.postgres.connecting import no_tick
from lifeboat.repository.commit import newest_id
from sandbox.accounts import CLONE
from sandbox.processes import wait_until
from tests.damaged_page import make_rotten
from tests.faults.ways import (
    EXPORT,
    FULL,
    INCREMENTAL,
    LOGICAL,
    PHYSICAL,
    SOURCE,
    WAL,
    WAYS,
    Once,
    Protected,
    Way,
    retry_of,
)
from tests.no_room import files_of_at_most
from tests.recovery.silent_proxy import SilentProxy


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_server_that_crashes_in_mid_run_and_is_back_at_once_fails_the_run(protected: Protected, way: Way) -> None:
    protected.change()
    before, work = protected.copies(way), protected.work(way)
    crashed = Once(protected.crash)
    with pytest.raises(PostgresError) as failed:
        protected.run(way, work, progress=crashed)
    assert crashed.done
    assert failed.value.remedy
    assert protected.copies(way) == before
    copy = protected.run(way, retry_of(work))
    assert protected.copies(way) == [*before, copy]
    protected.proven(way, copy)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_run_is_stopped_at_once_while_the_server_is_silent(protected: Protected, way: Way) -> None:
    protected.change()
    before = protected.copies(way)
    with SilentProxy(protected.server.port) as proxy:
        protected.port = proxy.port
        silent = Once(proxy.fall_silent)

        def tick() -> None:
            if silent.done:
                raise Cancelled("A person stopped it.")

        with pytest.raises(Cancelled):
            protected.run(way, progress=silent, tick=tick)
        protected.insist_on_nothing_left()
    protected.port = None
    assert silent.done
    assert protected.copies(way) == before
    protected.proven(way, protected.run(way))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_target_without_room_fails_the_run_and_the_next_one_brings_it_all(protected: Protected, way: Way) -> None:
    protected.change()
    before, work = protected.copies(way), protected.work(way)
    with files_of_at_most(12_000), pytest.raises(TargetFull, match=r"File too large|space") as failed:
        protected.run(way, work)
    assert failed.value.remedy
    assert protected.copies(way) == before
    protected.proven(way, protected.run(way, retry_of(work)))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_key_that_is_missing_fails_the_run_before_anything_is_stored(protected: Protected, way: Way) -> None:
    protected.change()
    before, work = protected.copies(way), protected.work(way)
    gone = protected.repository(bend={"/local.key": "/gone.key"})
    with pytest.raises(KeyUnavailable, match="demo-local"):
        protected.run(way, work, repository=gone)
    assert protected.copies(way) == before
    assert list(protected.roots["primary"].rglob(f"{work.attempt}/*.enc")) == []


@pytest.mark.parametrize("way", PHYSICAL, ids=str)
def test_a_role_that_lost_the_right_of_replication_is_told_the_statement(protected: Protected, way: Way) -> None:
    protected.change()
    before = protected.copies(way)
    protected.server.run_sql("ALTER ROLE lifeboat NOREPLICATION")
    try:
        with pytest.raises(LifeboatError) as refused:
            protected.run(way)
    finally:
        protected.server.run_sql("ALTER ROLE lifeboat REPLICATION")
    assert "REPLICATION" in str(refused.value)
    assert protected.copies(way) == before


@pytest.mark.parametrize("way", [INCREMENTAL, LOGICAL, EXPORT, FULL], ids=str)
def test_a_clock_that_was_wrong_is_named_and_what_it_made_can_be_set_aside(
    protected: Protected, way: Way, tmp_path: Path
) -> None:
    protected.change()
    before = protected.copies(way)
    protected.ahead = timedelta(days=1)
    early = protected.run(way)
    protected.ahead = timedelta()
    with pytest.raises(RepositoryError, match="later time than this worker's clock") as refused:
        protected.run(way)
    assert early.manifest.recovery_point in refused.value.what
    assert "set that recovery point aside" in refused.value.remedy
    shutil.move(protected.roots["primary"] / early.manifest.folder.path, tmp_path / "aside")
    copy = protected.run(way)
    assert protected.copies(way) == [*before, copy]
    protected.proven(way, copy)


def test_wal_is_not_collected_by_a_worker_whose_clock_jumped_back_and_nothing_is_lost(protected: Protected) -> None:
    protected.change()
    protected.run(WAL)
    protected.change()
    before = protected.copies(WAL)
    protected.ahead = timedelta(days=-1)
    try:
        with pytest.raises(RepositoryError, match="later time than this worker's clock"):
            protected.run(WAL)
    finally:
        protected.ahead = timedelta()
    assert protected.copies(WAL) == before
    protected.proven(WAL, protected.run(WAL))


def test_a_page_that_is_damaged_since_the_parent_makes_a_damaged_incremental_and_no_parent(
    protected: Protected,
) -> None:
    protected.change()
    make_rotten(protected.server)
    repository = protected.repository()
    done = back_up(
        repository,
        SOURCE,
        INCREMENTAL.tier,
        protected.work(INCREMENTAL),
        protected.journal(repository),
        progress=lambda _done, _total: None,
        tick=no_tick,
    )
    (copy,) = done.copies
    assert (copy.manifest.kind, copy.manifest.state) == ("incremental", "damaged")
    assert "damaged pages" in done.alarm
    with pytest.raises(LifeboatError, match="damaged on the server"):
        protected.verified(copy)
    protected.server.run_sql("DROP TABLE rotten")
    assert protected.run(INCREMENTAL).manifest.parent != copy.manifest.recovery_point
    shutil.rmtree(protected.roots["primary"] / copy.manifest.folder.path)


def test_a_wal_run_killed_with_9_in_mid_upload_commits_nothing_and_its_retry_succeeds(protected: Protected) -> None:
    way = WAL
    protected.change()
    before = protected.copies(way)
    # Named as the run would name it, were the one before of this very second.
    work = protected.work(way).after(newest_id(before))
    program = Path(__file__).parent / "dying_worker.py"
    words = [str(protected.policy), str(protected.server.port), way.tier.value, str(work.recovery_point), work.attempt]
    worker = subprocess.Popen(
        [sys.executable, program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{CLONE / 'plugins'}:{CLONE}"},
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(protected.server.passwords["lifeboat"] + "\n")
    worker.stdin.flush()
    try:
        assert worker.stdout.readline() == "in the middle\n"
    finally:
        worker.kill()
        worker.wait()
        worker.stdin.close()
        worker.stdout.close()
    assert protected.copies(way) == before
    wait_until(protected.holds_nothing, within=30, what="the server has noticed the death")
    copy = protected.run(way, retry_of(work))
    assert copy.manifest.recovery_point == str(work.recovery_point)
    assert protected.copies(way) == [*before, copy]
    protected.proven(way, copy)
