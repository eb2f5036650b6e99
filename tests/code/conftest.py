"""Real bare repositories, a system that protects them as its source ``code``, and what a person does with both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from lifeboat.backup.steps import Point, back_up, copy_to, verify
from lifeboat.code.details import CodeDetails, code_details
from lifeboat.code.restoring import RestoredRepository, restore_repositories
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Event, read_journal
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.source import BackedUp
from tests.repository.conftest import demo_system, make_world, moto, own_rclone, rclone
from tests.repository.world import World

__all__ = ["demo_system", "make_world", "moto", "own_rclone", "rclone"]

CODE = "code"
SOMEBODY = {
    "GIT_AUTHOR_NAME": "Somebody",
    "GIT_AUTHOR_EMAIL": "somebody@example.com",
    "GIT_COMMITTER_NAME": "Somebody",
    "GIT_COMMITTER_EMAIL": "somebody@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


def git(
    *arguments: str | Path, at: Path | None = None, feed: bytes = b"", environment: Mapping[str, str] | None = None
) -> str:
    """Git as the tests run it: configured by its environment alone."""
    place: list[str | Path] = ["--git-dir", at] if at is not None else []
    done = subprocess.run(
        ["git", *place, *arguments],
        input=feed,
        capture_output=True,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], **SOMEBODY, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "surrogateescape").strip()


@dataclass
class Origin:
    """A bare repository that somebody works in."""

    path: Path
    _count: int = 0

    @classmethod
    def make(cls, path: Path, *options: str) -> Origin:
        git("init", "--quiet", "--bare", "--initial-branch=main", *options, path)
        return cls(path)

    @property
    def url(self) -> str:
        return f"file://{self.path}"

    def commit(self, ref: str = "refs/heads/main", *parents: str, files: dict[str, bytes] | None = None) -> str:
        """A new commit on a ref, upon what is there or upon other parents."""
        self._count += 1
        content = {"README": f"number {self._count}\n".encode(), **(files or {})}
        entries = [
            f"100644 blob {git('hash-object', '-w', '--stdin', at=self.path, feed=data)}\t{name}\n"
            for name, data in content.items()
        ]
        tree = git("mktree", at=self.path, feed="".join(entries).encode())
        on = list(parents) or self.ids().get(ref, "").split()
        words = [word for parent in on for word in ("-p", parent)]
        made = git("commit-tree", tree, *words, "-m", f"Number {self._count}", at=self.path)
        self.set(ref, made)
        return made

    def set(self, ref: str, object_id: str) -> None:
        git("update-ref", ref, object_id, at=self.path)

    def delete(self, ref: str) -> None:
        git("update-ref", "-d", ref, at=self.path)

    def tag(self, name: str, object_id: str = "refs/heads/main") -> str:
        """An annotated tag."""
        git("tag", "--force", "-m", name, name, object_id, at=self.path)
        return self.ids()[f"refs/tags/{name}"]

    def ids(self) -> dict[str, str]:
        return ids(self.path)


def ids(repository: Path) -> dict[str, str]:
    """Every ref as a tool that knows nothing of us has it."""
    lines = git("for-each-ref", "--format=%(objectname) %(refname)", at=repository).splitlines()
    return {line.split(" ", 1)[1]: line.split(" ", 1)[0] for line in lines}


@dataclass
class CodeSet:
    """Repositories, the system that protects them as its source ``code``, and a place for what comes back."""

    world: World
    origins: Path
    back: Path
    scratch: Path
    one: Origin = field(init=False)

    def __post_init__(self) -> None:
        self.one = Origin.make(self.origins / "erp.git")

    def protect(self, *repositories: str, **more: Any) -> None:
        """Say in the policy what is protected, and how; by default the one origin."""
        listed = "".join(f"      - {url}\n" for url in repositories or (self.one.url,))
        told = "".join(f"    {key}: {value}\n" for key, value in more.items())
        source = (
            f"\nsources:\n  {CODE}:\n    kind: code\n    repositories:\n{listed}    scratch: {self.scratch}\n{told}"
            "    tiers:\n      daily: {schedule: '0 4 * * *', retention: 30d}\n"
        )
        text = self._bare.policy.read_text()
        assert "\nsources:\n" in text
        policy = self._bare.policy.parent.parent / "protected" / self._bare.policy.name
        policy.parent.mkdir(exist_ok=True)
        policy.write_text(text.replace("\nsources:\n", source, 1))
        self.world = replace(self.world, policy=policy)

    @property
    def _bare(self) -> World:
        return replace(self.world, policy=self.world.policy.parent.parent / "policies" / self.world.policy.name)

    def take(self, repository: SystemRepository | None = None, work: Work | None = None, **how: Any) -> BackedUp:
        """A run, as the task has it; the clock moves on by an hour."""
        repository = repository or self.world.repository()
        begun, run = self.world.clock(), Run(command="a test")
        work = work or Work.new("full", begun=begun, tiers=("daily",), run=run, actor="a test")
        journal = repository.journal("primary", run="test", actor="a test")
        how = {"progress": lambda _done, _total: None, "tick": lambda: None} | how
        done = back_up(repository, CODE, Tier.DAILY, work, journal, **how)
        self.world.clock.advance(hours=1)
        return done

    def snapshot(self) -> Copy:
        """A recovery point that was made without an alarm, verified on the primary target."""
        done = self.take()
        assert done.alarm == ""
        (copy,) = done.copies
        self.verify(copy)
        return copy

    def verified(self) -> BackedUp:
        """A run whose recovery point was verified."""
        done = self.take()
        self.verify(*done.copies)
        return done

    def verify(self, copy: Copy, *, deep: bool = False, target: str = "primary") -> None:
        repository = self.world.repository()
        journal = repository.journal(target, run="test", actor="a test")
        verify(repository, CODE, target, [Point.of(copy)], journal, deep=deep, passed=lambda _: None, tick=lambda: None)

    def copy(self, copy: Copy, target: str = "offsite") -> list[Copy]:
        repository = self.world.repository()
        journal = repository.journal(target, run="test", actor="a test")
        return copy_to(
            repository, CODE, Tier.DAILY, target, [Point.of(copy)], journal, passed=lambda _: None, tick=lambda: None
        )

    def restore(self, copy: Copy, *only: str, name: str = "back") -> dict[str, RestoredRepository]:
        """Into a new directory below ``back``."""
        restored = restore_repositories(self.world.repository(), copy, self.back / name, only=only)
        return {one.name: one for one in restored}

    def events(self, kind: str) -> list[Event]:
        repository = self.world.repository()
        found = read_journal(repository.target("primary"), repository.system, repository.trusted)
        return [event for event in found if isinstance(event, Event) and event.kind == kind]

    def shown(self, target: str = "primary") -> list[str]:
        listing = self.world.repository().catalogue(target).recovery_points(CODE)
        assert listing.unreadable == ()
        return [copy.manifest.recovery_point for copy in listing.copies]


def details(copy: Copy) -> CodeDetails:
    return code_details(copy.manifest)


@pytest.fixture
def code(make_world: Callable[[], World], tmp_path: Path) -> Iterator[CodeSet]:
    """One origin without a commit, and targets that are directories. Nothing stays in the scratch directory."""
    origins, back, scratch = tmp_path / "origins", tmp_path / "restored", tmp_path / "scratch"
    for place in (origins, back, scratch):
        place.mkdir()
    made = CodeSet(make_world(), origins, back, scratch)
    made.protect()
    yield made
    assert list(scratch.iterdir()) == []
