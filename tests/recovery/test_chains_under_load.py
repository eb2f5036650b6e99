"""A full, five incrementals and WAL, all made while the server was busy: every link leads to the exact moment, and none
that is not good is combined."""

from __future__ import annotations

import logging
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from lifeboat.backup.steps import Point, copy_to, publish
from lifeboat.errors import (
    Cancelled,
    MomentUnreachable,
    NotEnoughDisk,
    ObjectDamaged,
    RecoveryPointMissing,
    VerificationFailed,
)
from lifeboat.policy.naming import Tier
from lifeboat.postgres.combining import check_combined, way_of_copying
from lifeboat.postgres.destination import UNFINISHED
from lifeboat.postgres.moments import AtRecoveryPoint, AtTime, Latest
from lifeboat.postgres.restore import restore
from lifeboat.repository.catalogue import Copy
from sandbox.accounts import CLONE, remove, remove_server_directory, server_directory
from sandbox.postgres import PostgresServer
from sandbox.processes import wait_until
from tests.recovery.line import SOURCE, Line, ledger, prepare, system_in
from tests.recovery.test_destination import RESTORING, beside, servers_on
from tests.recovery.test_under_load import SAFE, Writer, agreeing_balances, assert_whole

_log = logging.getLogger(__name__)
LINKS = 6


@dataclass
class Chain:
    """The chain, and when each number of the ledger was committed."""

    line: Line
    links: list[Copy]
    commits: dict[int, datetime]
    covered: datetime
    seed: int

    def expected(self, moment: datetime) -> list[int]:
        return sorted(number for number, committed in self.commits.items() if committed <= moment)

    def moment_in(self, number: int) -> datetime:
        """A random moment after a link and before the next, in the middle between two commits."""
        ends = [*(link.manifest.moment for link in self.links), self.covered]
        ordered = sorted(moment for moment in self.commits.values() if ends[number] < moment < ends[number + 1])
        middles = [one + (other - one) / 2 for one, other in pairwise(ordered) if other - one > 2 * SAFE]
        return random.Random(self.seed + number).choice(middles)

    def volume(self, number: int, target: str = "primary") -> Path:
        """The largest stored object of a link."""
        manifest = self.links[number].manifest
        folder = self.line.directory / target / manifest.folder.attempt(manifest.attempt)
        return folder / manifest.stream("base.tar").volumes[0].file


@pytest.fixture(scope="module")
def chain(module_path: Path) -> Iterator[Chain]:
    place = server_directory(module_path / "place")
    settings = {"fsync": "off", "summarize_wal": "on", "track_commit_timestamp": "on", "autovacuum_naptime": "1s"}
    seed = secrets.randbits(32)
    _log.warning("seed %d", seed)
    with PostgresServer(module_path / "server", settings=settings) as server:
        prepare(server)
        space = server_directory(module_path / "space")
        server.run_sql(f"CREATE TABLESPACE space LOCATION '{space.resolve()}'")
        server.run_program("pgbench", "-i", "-s", "1", "-q", "--tablespace=space")
        line = Line(module_path, place, server, system_in(module_path))
        line.wal()
        with Writer(server):
            load = threading.Thread(
                target=server.run_program, args=("pgbench", "-c", "4", "-T", "7", "-R", "300", "-n")
            )
            load.start()
            links = [line.verify(line.full())]
            for _ in range(LINKS - 1):
                line.wal()
                links.append(line.link())
            load.join()
            covered = line.wal().covered_until
        committed = "SELECT n, pg_xact_commit_timestamp(xmin) FROM ledger WHERE pg_xact_commit_timestamp(xmin) < %s"
        commits: dict[int, datetime] = dict(server.run_sql(committed, [covered]))
        server.stop()
        yield Chain(line, links, commits, covered, seed)
    remove(place)


@contextmanager
def flipped(path: Path) -> Iterator[None]:
    """One bit of a stored object is another one meanwhile."""
    content = path.read_bytes()
    place = len(content) // 2
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    try:
        yield
    finally:
        path.write_bytes(content)


@contextmanager
def hidden(path: Path) -> Iterator[None]:
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


@pytest.mark.parametrize("number", range(LINKS))
def test_a_random_moment_after_each_link_comes_back_exactly(chain: Chain, number: int) -> None:
    line, moment = chain.line, chain.moment_in(number)
    plan = line.plan(AtTime(moment))
    assert [link.copy.sha256 for link in plan.base.links] == [link.sha256 for link in chain.links[: number + 1]]
    restored = line.restore(plan)
    assert ("combine" in restored.phases) is (number > 0)
    with line.opened(restored) as again:
        what = f"seed {chain.seed}, link {number}, moment {moment}"
        assert ledger(again.run_sql("SELECT n FROM ledger")) == chain.expected(moment), what
        assert agreeing_balances(again), what
        assert_whole(again)
        assert again.run_sql("SHOW data_checksums") == [("on",)]
    assert not list(line.place.rglob(f"*{UNFINISHED}*"))
    assert not (restored.into / "backup_manifest").exists()


@pytest.mark.parametrize("number", range(LINKS))
def test_a_flipped_byte_in_any_link_is_found_before_anything_is_combined(chain: Chain, number: int) -> None:
    line, phases = chain.line, set[str]()
    request = line.request()
    plan = line.plan(AtRecoveryPoint(chain.links[-1].manifest.recovery_point))
    with flipped(chain.volume(number)), pytest.raises(ObjectDamaged) as raised:
        restore(line.repository, plan, request, progress=lambda phase, *_: phases.add(phase))
    assert chain.links[number].manifest.recovery_point in raised.value.what
    assert "Nothing was combined" in raised.value.what
    below = f"--base {chain.links[number - 1].manifest.recovery_point}"
    assert (below in raised.value.remedy) is (number > 0)
    assert phases == {"fetch"}
    assert not beside(line, request.into)


def test_a_missing_link_makes_an_older_one_the_base_and_is_named(chain: Chain) -> None:
    line, moment = chain.line, chain.moment_in(LINKS - 1)
    folder = line.directory / "primary" / chain.links[3].manifest.folder.path
    with hidden(folder):
        offer = line.offer()
        plan = offer.plan(AtTime(moment))
        assert plan.base.copy.sha256 == chain.links[2].sha256
        assert [broken.recovery_point for broken in offer.broken] == [
            link.manifest.recovery_point for link in chain.links[4:]
        ]
        assert all(chain.links[3].manifest.recovery_point in str(broken) for broken in offer.broken)
        assert ledger(line.ask(line.restore(plan), "SELECT n FROM ledger")) == chain.expected(moment)
        with pytest.raises(MomentUnreachable):
            offer.plan(AtRecoveryPoint(chain.links[5].manifest.recovery_point))


def test_an_older_link_can_be_named_as_the_base(chain: Chain) -> None:
    plan = chain.line.plan(Latest(), base_id=chain.links[1].manifest.recovery_point)
    assert [link.copy.sha256 for link in plan.base.links] == [link.sha256 for link in chain.links[:2]]


def test_the_room_for_links_and_result_is_known_before_anything_is_fetched(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = chain.line
    plan = line.plan(AtRecoveryPoint(chain.links[-1].manifest.recovery_point))
    links = sum(link.details.plain_total for link in plan.base.links)
    whole = chain.line.offer().bases[0].details.plain_total
    assert links + whole * 0.9 < plan.room_bytes < links + whole * 2
    usage = shutil.disk_usage(line.place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=plan.room_bytes - 1))
    with pytest.raises(NotEnoughDisk, match="Nothing was fetched"):
        line.restore(plan)


def test_what_comes_out_is_compared_with_the_manifest_that_was_written_for_it(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is changed between the program's end and the comparison: as by a bad disk."""

    def spoil(data: Path, links: Sequence[Path], **more: object) -> int:
        path = data / "global" / "pg_filenode.map"
        size = path.stat().st_size
        # Not through the link's own name: what is the same file was compared when it was written.
        path.unlink()
        path.write_bytes(bytes(size))
        (data / "global" / "added").touch()
        return check_combined(data, links, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("lifeboat.postgres.restore.check_combined", spoil)
    line = chain.line
    request = line.request()
    with pytest.raises(VerificationFailed, match=r"pg_filenode.map differs.*; there are \d+ files"):
        line.restore(AtRecoveryPoint(chain.links[1].manifest.recovery_point), request)
    assert not beside(line, request.into)


NEVER_DONE = """#!/bin/sh
case "$*" in *--version*) exec "{program}" "$@" ;; esac
while :; do sleep 0.05; done
"""


@pytest.fixture
def never_done(chain: Chain, module_path: Path) -> Iterator[Path]:
    """PostgreSQL's programs, of which the one that combines goes on for ever: the real one is too quick to be hit."""
    programs = server_directory(module_path / "programs")
    for program in chain.line.server.binaries.iterdir():
        if program.name != "pg_combinebackup":
            (programs / program.name).symlink_to(program)
    slow = programs / "pg_combinebackup"
    slow.write_text(NEVER_DONE.format(program=chain.line.server.binaries / slow.name))
    slow.chmod(0o755)
    yield programs
    remove_server_directory(module_path / "programs")


def combining(into: Path) -> list[object]:
    return [one for one in servers_on(Path(f"{into}{UNFINISHED}")) if "pg_combinebackup" in " ".join(one.cmdline())]


def test_a_restore_that_is_cancelled_while_it_combines_leaves_nothing(chain: Chain, never_done: Path) -> None:
    line = chain.line
    request = replace(line.request(), binaries=never_done)

    def tick() -> None:
        if combining(request.into):
            raise Cancelled("A person stopped it.")

    with pytest.raises(Cancelled):
        restore(line.repository, line.plan(AtRecoveryPoint(chain.links[1].manifest.recovery_point)), request, tick=tick)
    assert not servers_on(request.into)
    assert not beside(line, request.into)


def test_a_restore_that_is_killed_while_it_combines_leaves_no_process_and_can_be_run_again(
    chain: Chain, never_done: Path, tmp_path: Path
) -> None:
    line = chain.line
    request = line.request()
    arguments = [line.system.policy, request.into, never_done, "none", tmp_path / "reached", CLONE / "plugins"]
    child = subprocess.Popen([sys.executable, "-c", RESTORING, *arguments])
    wait_until(lambda: bool(combining(request.into)), within=60, what="the program combines")
    child.send_signal(signal.SIGKILL)
    child.wait()
    wait_until(lambda: not servers_on(request.into), within=30, what="the program has died with its parent")
    assert not request.into.exists()
    assert Path(f"{request.into}{UNFINISHED}").exists()
    assert ledger(line.ask(line.restore(Latest(), request), "SELECT n FROM ledger")) >= chain.expected(chain.covered)
    assert not Path(f"{request.into}{UNFINISHED}").exists()


def test_a_copied_link_brings_what_the_target_lacks_of_its_chain(chain: Chain) -> None:
    """That target alone brings it back; and where a link is missing on the primary target, too, that is said."""
    line = chain.line
    point = Point.of(chain.links[2])

    def bring() -> list[Copy]:
        return copy_to(
            line.repository,
            SOURCE,
            Tier.INCREMENTAL,
            "offsite",
            [point],
            line.journal,
            passed=lambda _: None,
            tick=lambda: None,
        )

    with hidden(line.directory / "primary" / chain.links[1].manifest.folder.path):
        with pytest.raises(RecoveryPointMissing, match=chain.links[1].manifest.recovery_point):
            bring()
        assert not any(base.below for base in line.offer("offsite").bases)
    # The full is there already: the row that this tier makes holds fulls, too, and catches up.
    assert [copy.sha256 for copy in bring()][:2] == [link.sha256 for link in chain.links[1:3]]
    restored = line.restore(AtRecoveryPoint(point.id), target="offsite")
    ends = chain.links[2].manifest
    found = ledger(line.ask(restored, "SELECT n FROM ledger"))
    assert chain.expected(ends.begun) < found < [*chain.expected(chain.covered), 10**9]
    assert publish(line.repository, SOURCE, [point], line.journal, left_out=["local"]).copies[point.id] == [
        "primary",
        "offsite",
    ]
    with hidden(line.directory / "offsite" / chain.links[1].manifest.folder.path):
        published = publish(line.repository, SOURCE, [point], line.journal, left_out=["local"])
        assert published.copies[point.id] == ["primary"]
        assert any("what it stands on" in missing for missing in published.missing)


def test_the_links_files_become_the_results_where_the_file_system_can(tmp_path: Path) -> None:
    assert way_of_copying(18, [tmp_path]) == "--link"
    assert way_of_copying(17, [tmp_path]) in ("--clone", "--copy-file-range")
    assert way_of_copying(18, [tmp_path, Path("/proc")]) == "--copy"
    assert list(tmp_path.iterdir()) == []
