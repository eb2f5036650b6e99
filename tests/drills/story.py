"""What drills are made of in these tests: rows, the moments of their commits, and where what came of them lies."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lifeboat.backup.steps import Point, back_up, copy_to, verify
from lifeboat.outside import utc_now
from lifeboat.policy.naming import Tier
from lifeboat.recovery.bringing_back import Means
from lifeboat.recovery.drill.practice import Practice, Wish
from lifeboat.recovery.evidence import Proof, Record
from lifeboat.recovery.keeping import Unbelievable, read_evidence
from lifeboat.recovery.sql_checks import SqlCheck, parse_check
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from sandbox.accounts import remove_server_directory, server_directory
from sandbox.postgres import PostgresServer
from tests.recovery.line import SOURCE, Line, commit, prepare, system_in

PAPERS = "papers"
PLAIN = "drills: {}\n"
_NOBODY: dict[str, Any] = {"passed": lambda _: None, "tick": lambda: None}


@dataclass
class Story:
    """Rows 1 and 2 around a full and its WAL, row 3 before the second full, row 4 before the last WAL; the server is
    stopped. One file was stored before the first full, another before the last WAL. Both targets have all of it.

    Attributes:
        old, new: the two fulls.
        runs: of WAL, behind each of them.
        moments: by row, just after its commit.
        policy: the policy's text without `drills`.
    """

    line: Line
    old: Copy
    new: Copy
    runs: list[Copy]
    moments: dict[int, datetime]
    policy: str

    @property
    def place(self) -> Path:
        """The scratch directory."""
        return self.line.place

    @contextmanager
    def saying(self, drills: str = PLAIN, **instead: str) -> Iterator[None]:
        """With a policy that says this of drills, and has some words replaced."""
        text = self.policy
        for old, new in instead.items():
            assert old in text
            text = text.replace(old, new)
        self.line.system.policy.write_text(text.replace("alerts:\n", f"{drills}alerts:\n"))
        try:
            yield
        finally:
            self.line.system.policy.write_text(self.policy)

    def repository(
        self, later: timedelta = timedelta(), environment: Mapping[str, str] | None = None
    ) -> SystemRepository:
        """As a process opens it, by a clock that may be ahead."""
        repository = self.line.new_repository()
        repository.outside = replace(repository.outside, clock=lambda: utc_now() + later, environment=environment or {})
        return repository

    def practice(
        self,
        scenario: str | None = "total_loss",
        *,
        tick: Callable[[], None] = lambda: None,
        later: timedelta = timedelta(),
        drill: str | None = None,
        part: str = "all",
        checks: tuple[SqlCheck, ...] = (),
        environment: Mapping[str, str] | None = None,
        **wish: Any,
    ) -> Practice:
        """A drill that may begin."""
        means = Means(scratch=self.place, checks=checks)
        asked = Wish(scenario=scenario, means=means, **wish)  # type: ignore[arg-type]
        run = Run(command="lifeboat drill")
        return Practice(
            self.repository(later, environment),
            asked,
            drill or secrets.token_hex(4),
            run,
            "a test",
            part=part,
            tick=tick,
        )

    def drill(self, scenario: str | None = "total_loss", **more: Any) -> Record:
        """A drill from its beginning to its record."""
        return self.practice(scenario, **more).carry_out()

    def records(self, target: str) -> list[Record | Unbelievable]:
        """What a target has of today's evidence."""
        repository = self.line.repository
        now = repository.outside.clock()
        since = now - timedelta(days=1)
        return list(read_evidence(repository.target(target), "demo", repository.trusted, since=since, until=now))

    @contextmanager
    def away(self, target: str) -> Iterator[None]:
        """While a target can't be reached."""
        place = self.line.directory / target
        place.rename(place.with_name("away"))
        try:
            yield
        finally:
            place.with_name("away").rename(place)

    @contextmanager
    def damaged(self, copy: Copy, *targets: str, pattern: str = "base.tar.*") -> Iterator[None]:
        """While one byte of each of a recovery point's objects of that name is another one on some targets."""
        kept: dict[Path, bytes] = {}
        for target in targets:
            folder = self.line.directory / target / copy.manifest.folder.path
            for volume in folder.rglob(pattern):
                good = kept[volume] = volume.read_bytes()
                volume.chmod(0o600)
                middle = len(good) // 2
                volume.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
        try:
            yield
        finally:
            for volume, good in kept.items():
                volume.write_bytes(good)


@pytest.fixture(scope="module")
def story(module_path: Path) -> Iterator[Story]:
    """Two chains of a database and a set of files, on both targets."""
    place = server_directory(module_path / "place")
    server = PostgresServer(module_path / "server", settings={"fsync": "off"})
    system = system_in(module_path)
    tree = module_path / "tree"
    tree.mkdir()
    source = f"""
sources:
  {PAPERS}:
    kind: files
    url: file://{tree}
    queue: here
    tiers:
      daily: {{schedule: "0 3 * * *", retention: 30d}}
"""
    system.policy.write_text(system.policy.read_text().replace("\nsources:\n", source))
    with server:
        prepare(server)
        line = Line(module_path, place, server, system)
        (tree / "first.txt").write_text("first")
        papers = [_papers(line)]
        moments = dict(zip((1,), commit(server, 1), strict=True))
        old = line.verify(line.full())
        moments[2] = commit(server, 2)[0]
        runs = [*line.wal().copies]
        moments[3] = commit(server, 3)[0]
        new = line.verify(line.full())
        (tree / "second.txt").write_text("second")
        papers.append(_papers(line))
        moments[4] = commit(server, 4)[0]
        runs += line.wal().copies
        for copy in (old, new, *runs):
            copy_to(line.new_repository(), SOURCE, Tier.DAILY, "offsite", [Point.of(copy)], line.journal, **_NOBODY)
        server.stop()
        yield Story(line, old, new, runs, moments, system.policy.read_text())
    remove_server_directory(module_path / "place")


def _papers(line: Line) -> Copy:
    repository = line.new_repository()
    work = Work.new("full", begun=utc_now(), tiers=("daily",), run=Run(command="test"), actor="a test")
    done = back_up(
        repository, PAPERS, Tier.DAILY, work, line.journal, progress=lambda _done, _total: None, tick=lambda: None
    )
    (copy,) = done.copies
    verify(repository, PAPERS, "primary", [Point.of(copy)], line.journal, deep=False, **_NOBODY)
    copy_to(repository, PAPERS, Tier.DAILY, "offsite", [Point.of(copy)], line.journal, **_NOBODY)
    return copy


def rows(expect: str, query: str = "SELECT count(*) FROM ledger") -> SqlCheck:
    """A question to the recovered database."""
    return parse_check("rows.sql", f"-- source: {SOURCE}\n-- database: postgres\n-- expect: {expect}\n{query}")


def proof_of(record: Record, source: str = SOURCE) -> Proof:
    """The one proof of a source."""
    (proof,) = [proof for proof in record.proofs if proof.source == source]
    return proof


def outcomes(proof: Proof) -> dict[str, bool]:
    """What was looked at, and whether it was as it should be."""
    return {check.name: check.passed for check in proof.checks}


def what_of(proof: Proof, name: str) -> str:
    """What was seen in one look."""
    return next(check.what for check in proof.checks if check.name == name)
