"""What a standby may do to what reads it: cancel it for its replay's sake, or be promoted in the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lifeboat.errors import PostgresError
from lifeboat.policy.naming import Tier
from lifeboat.postgres import logical_dump
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.exports import export as exports
from lifeboat.postgres.full import _Archives
from lifeboat.postgres.kind import PostgresKind
from lifeboat.postgres.moments import AtRecoveryPoint
from lifeboat.repository.catalogue import Copy
from sandbox.postgres import PostgresServer
from sandbox.postgres_builds import WHEEL_MAJOR
from sandbox.postgres_role import let_read_everything
from sandbox.postgres_template import Template
from tests.recovery.line import SOURCE, Line, commit, prepare
from tests.recovery.test_standby import Pair, deep, own_standby, promote_in_mid_stream, standby_line
from tests.recovery.test_timelines import follow, follower_of, promote

KINDS = {Tier.WEEKLY: "logical", Tier.EXPORT: "export"}
_numbers = count(1)


@pytest.fixture(scope="module")
def pair(module_path: Path, postgres_template: Callable[[int], Template]) -> Iterator[Pair]:
    """A standby whose replay waits for nobody."""
    settings = {"fsync": "off", "summarize_wal": "on"}
    primary = PostgresServer(module_path / "primary", settings=settings, template=postgres_template(WHEEL_MAJOR))
    with primary:
        prepare(primary)
        let_read_everything(primary)
        primary.run_sql("CREATE UNLOGGED TABLE scratch ()")
        more = (*settings.items(), ("max_standby_streaming_delay", "0"))
        with follower_of(primary, module_path / "standby", *more) as standby:
            yield Pair(primary, standby)


@pytest.fixture
def line(pair: Pair, tmp_path: Path, server_place: Path) -> Line:
    follow(pair.primary, pair.standby)
    return standby_line(tmp_path, server_place, pair.standby)


def take(line: Line, tier: Tier) -> Copy:
    """Read tables as a tier does."""
    done = PostgresKind().back_up(
        line.repository,
        SOURCE,
        tier,
        line.work(KINDS[tier]),
        line.journal,
        progress=lambda *_: None,
        tick=no_tick,
        retain_until=None,
    )
    return done.copies[0]


@contextmanager
def in_the_snapshot(act: Callable[[], object]) -> Iterator[None]:
    """Do something once, when the snapshot is taken and no row is read yet."""
    done: list[object] = []

    def once() -> None:
        if not done:
            done.append(act())

    def dump(*arguments: Any) -> Any:
        once()
        return side_by_side(*arguments)

    def export(*arguments: Any) -> Any:
        taken = take_snapshot(*arguments)
        once()
        return taken

    with pytest.MonkeyPatch.context() as patch:
        side_by_side, take_snapshot = logical_dump._side_by_side, exports.take_snapshot
        patch.setattr(logical_dump, "_side_by_side", dump)
        patch.setattr(exports, "take_snapshot", export)
        yield
    assert done


@pytest.mark.parametrize("tier", KINDS)
def test_a_read_that_replay_cancels_commits_nothing_says_what_to_set_and_can_be_run_again(
    pair: Pair, line: Line, tier: Tier
) -> None:
    def vacuum() -> None:
        pair.primary.run_sql("DELETE FROM ledger WHERE n < (SELECT max(n) FROM ledger)")
        pair.primary.run_sql("VACUUM ledger")
        commit(pair.primary, 20_000 + next(_numbers))  # what a vacuum wrote is flushed by the next commit
        follow(pair.primary, pair.standby)  # and with that every read that was in its way has ended

    commit(pair.primary, *(10_000 + next(_numbers) for _ in range(3)))
    follow(pair.primary, pair.standby)
    with in_the_snapshot(vacuum), pytest.raises(PostgresError, match="conflict with recovery") as failed:
        take(line, tier)
    assert "max_standby_streaming_delay" in failed.value.remedy
    assert line.repository.catalogue("primary").recovery_points(SOURCE).copies == ()
    deep_of_tables(line, take(line, tier), rows=2)


def deep_of_tables(line: Line, copy: Copy, *, rows: int) -> None:
    """Every row of it, and as many as there were; the formats of an export hold them twice."""
    _, figures = PostgresKind().verify_deep(line.repository, "primary", copy, passed=lambda _: None, tick=no_tick)
    assert figures["rows"] == rows * (2 if copy.manifest.kind == "export" else 1)


@pytest.mark.parametrize("tier", KINDS)
def test_tables_read_from_a_standby_that_is_promoted_meanwhile_are_those_of_the_snapshot(
    pair: Pair, line: Line, tmp_path: Path, tier: Tier
) -> None:
    with own_standby(pair, line, tmp_path / "own") as new:
        [(known,)] = new.run_sql("SELECT count(*) FROM ledger")

        def promote_and_write() -> None:
            promote(new)
            commit(new, *range(1000, 1010))

        with in_the_snapshot(promote_and_write):
            copy = take(line, tier)
        deep_of_tables(line, copy, rows=known)
        assert copy.manifest.details["standby"]
        after = take(line, tier)
        assert not after.manifest.details["standby"]
        deep_of_tables(line, after, rows=known + 10)


def test_a_standby_promoted_in_mid_incremental_commits_nothing_of_it_and_a_full_is_taken_at_once(
    pair: Pair, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with follower_of(pair.primary, tmp_path / "own", ("summarize_wal", "on")) as new:
        line.server = new
        follow(pair.primary, new)
        full = line.verify(line.full())
        # More than is on its way when the standby is promoted.
        pair.primary.run_sql("CREATE TABLE bulk AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 24000) AS n")
        pair.primary.run_sql("SELECT pg_switch_wal()")
        pair.primary.run_sql("CHECKPOINT")
        follow(pair.primary, new)
        new.run_sql("CHECKPOINT")
        promote_in_mid_stream(monkeypatch, _Archives, new)
        taken = line.incremental()
        assert "the standby was promoted during online backup" in taken.reason
        assert line.repository.catalogue("primary").recovery_points(SOURCE).copies == (full, taken.copy)
        assert taken.copy.manifest.kind == "full"
        assert taken.copy.manifest.details["timeline"] == 2
        deep(line, taken.copy)
        assert line.ask(
            line.restore(AtRecoveryPoint(taken.copy.manifest.recovery_point)), "SELECT count(*) FROM bulk"
        ) == [(24000,)]
