"""PostgreSQL 15 and 17, which the other tests leave out: fulls, WAL and moments on both, incrementals and standbys.

A chain of 17 is combined and checked by 17's own programs: those of another major version do not read its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from lifeboat.errors import ObjectDamaged
from lifeboat.postgres.deep_verification import verify_chain, verify_deep
from lifeboat.postgres.moments import AtRecoveryPoint, AtTime, Latest
from lifeboat.postgres.restore import restore
from lifeboat.repository.catalogue import Copy
from sandbox.accounts import remove, server_directory
from sandbox.postgres import PostgresServer
from sandbox.postgres_template import Template
from tests.recovery.line import SOURCE, Line, ledger, prepare, system_in
from tests.recovery.test_chains_under_load import Chain, flipped
from tests.recovery.test_destination import beside
from tests.recovery.test_standby import Pair, standby_line
from tests.recovery.test_timelines import ROWS, follow, follower_of
from tests.recovery.test_under_load import Writer

COMMITS = "SELECT n, pg_xact_commit_timestamp(xmin) FROM ledger WHERE pg_xact_commit_timestamp(xmin) < %s"


@pytest.fixture(scope="module")
def chain_of(module_path: Path, postgres_template: Callable[[int], Template]) -> Iterator[Callable[[int], Chain]]:
    """Call it with a major version for a chain that was made while rows were written all the time: one for all tests.

    A full, on 17 two incrementals, and WAL after each; the server is stopped.
    """
    made: dict[int, Chain] = {}

    def chain(major: int) -> Chain:
        if major not in made:
            room = module_path / str(major)
            room.mkdir()
            made[major] = chain_in(room, major, postgres_template(major))
        return made[major]

    yield chain
    for one in made.values():
        remove(one.line.place)


def chain_in(room: Path, major: int, template: Template) -> Chain:
    incrementals = 2 if major >= 17 else 0
    settings = {"fsync": "off", "track_commit_timestamp": "on"} | ({"summarize_wal": "on"} if incrementals else {})
    place = server_directory(room / "place")
    with PostgresServer(room / "server", major=major, settings=settings, template=template) as server:
        prepare(server)
        line = Line(room, place, server, system_in(room))
        with Writer(server):
            links = [line.verify(line.full())]
            for _ in range(incrementals):
                line.wal()
                links.append(line.link())
            covered = line.wal().covered_until
        assert covered is not None
        commits: dict[int, datetime] = dict(server.run_sql(COMMITS, [covered]))
    return Chain(line, links, commits, covered, seed=major)


BOTH = pytest.mark.parametrize("major", [15, 17], ids=lambda major: f"postgresql-{major}")


@BOTH
def test_a_moment_after_each_link_comes_back_exactly(chain_of: Callable[[int], Chain], major: int) -> None:
    chain = chain_of(major)
    line = chain.line
    assert verify_chain(line.repository, "primary", SOURCE) == []
    for number, link in enumerate(chain.links):
        assert verify_deep(line.repository, "primary", link).wal_records
        moment = chain.moment_in(number)
        plan = line.plan(AtTime(moment))
        assert [one.copy.sha256 for one in plan.base.links] == [one.sha256 for one in chain.links[: number + 1]]
        restored = line.restore(plan)
        assert ("combine" in restored.phases) is (number > 0)
        with line.opened(restored) as again:
            assert ledger(again.run_sql(ROWS)) == chain.expected(moment), f"link {number}, moment {moment}"
            assert again.run_sql("SHOW server_version_num")[0][0].startswith(str(line.server.major))


@BOTH
def test_a_flipped_byte_in_a_link_is_found_before_anything_is_used(
    chain_of: Callable[[int], Chain], major: int
) -> None:
    chain = chain_of(major)
    line, phases = chain.line, set[str]()
    last = len(chain.links) - 1
    request = line.request()
    plan = line.plan(AtRecoveryPoint(chain.links[last].manifest.recovery_point))
    with flipped(chain.volume(last)), pytest.raises(ObjectDamaged, match=chain.links[last].manifest.recovery_point):
        restore(line.repository, plan, request, progress=lambda phase, *_: phases.add(phase))
    assert phases == {"fetch"}
    assert not beside(line, request.into)


@pytest.mark.parametrize("major", [15, 16, 17], ids=lambda major: f"postgresql-{major}")
def test_a_full_and_wal_of_a_standby_come_back(
    major: int, tmp_path: Path, server_place: Path, make_postgres: Callable[..., PostgresServer]
) -> None:
    settings = {"track_commit_timestamp": "on", "wal_keep_size": "1GB"}
    primary = make_postgres(major=major, settings=settings)
    prepare(primary)
    with follower_of(primary, tmp_path / "standby", ("track_commit_timestamp", "on")) as standby:
        pair = Pair(primary, standby)
        line = standby_line(tmp_path, server_place, standby)
        pair.commit()
        full = line.full()
        moment = pair.commit()
        run = line.wal()
        assert full.manifest.details["standby"]
        deep: list[Copy] = [full, *run.copies]
        for copy in deep:
            verify_deep(line.repository, "primary", copy)
        assert verify_chain(line.repository, "primary", SOURCE) == []
        follow(primary, standby)
        assert ledger(line.ask(line.restore(Latest()), ROWS)) == pair.expected(moment)
