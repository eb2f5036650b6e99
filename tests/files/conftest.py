"""A set of files in a directory, a system that protects it, and what a person does with both."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lifeboat.backup.steps import Point, back_up, copy_to, verify
from lifeboat.files.destination import RestoredFiles
from lifeboat.files.details import SnapshotDetails, snapshot_details
from lifeboat.files.restoring import restore_files
from lifeboat.policy.naming import Tier
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.source import BackedUp
from tests.repository.conftest import demo_system, make_world, moto, own_rclone, rclone
from tests.repository.world import World

__all__ = ["demo_system", "make_world", "moto", "own_rclone", "rclone"]

FILES = "uploads"


@dataclass
class FileSet:
    """A directory, the system that protects it as its source ``uploads``, and a place for what comes back."""

    world: World
    tree: Path
    back: Path

    def snapshot(self, tier: Tier = Tier.DAILY, *, verified: bool = True) -> Copy:
        """A snapshot by a tier, verified on the primary target; the clock moves on by an hour."""
        (copy,) = self.take(tier).copies
        if verified:
            self.verify(copy)
        return copy

    def take(
        self, tier: Tier = Tier.DAILY, repository: SystemRepository | None = None, work: Work | None = None
    ) -> BackedUp:
        repository = repository or self.world.repository()
        kind = "incremental" if tier is Tier.INCREMENTAL else "full"
        run = Run(command="a test")
        work = work or Work.new(kind, begun=self.world.clock(), tiers=(tier,), run=run, actor="a test")
        journal = repository.journal("primary", run="test", actor="a test")
        done = back_up(repository, FILES, tier, work, journal, progress=lambda _done, _total: None, tick=lambda: None)
        self.world.clock.advance(hours=1)
        return done

    def verify(self, copy: Copy, *, deep: bool = False, target: str = "primary") -> None:
        repository = self.world.repository()
        journal = repository.journal(target, run="test", actor="a test")
        verify(
            repository, FILES, target, [Point.of(copy)], journal, deep=deep, passed=lambda _: None, tick=lambda: None
        )

    def copy(self, copy: Copy, target: str = "offsite") -> list[Copy]:
        repository = self.world.repository()
        journal = repository.journal(target, run="test", actor="a test")
        return copy_to(
            repository, FILES, Tier.DAILY, target, [Point.of(copy)], journal, passed=lambda _: None, tick=lambda: None
        )

    def restore(self, copy: Copy, *only: str, name: str = "back", replace_files: bool = False) -> RestoredFiles:
        """Into a directory below ``back``, a new one unless it says otherwise."""
        place = self.back / name
        return restore_files(self.world.repository(), copy, place, only=only, replace_files=replace_files)

    def comes_back_as_it_was(self, copy: Copy, name: str = "back") -> None:
        """Insist by tools that know nothing of us: content by diff, everything else by find."""
        restored = self.restore(copy, name=name)
        same = subprocess.run(
            ["diff", "-r", "--no-dereference", self.tree, restored.into], capture_output=True, text=True, check=False
        )
        # diff can't compare special files, and says so of two that are alike.
        said = [
            line
            for line in (same.stdout + same.stderr).splitlines()
            if "is a fifo" not in line and "special file" not in line
        ]
        assert said == []
        assert listed(restored.into) == listed(self.tree)


def listed(tree: Path) -> list[bytes]:
    """Type, mode, owner, links, size of files, time and link of every path, as ``find`` has them."""
    form = r"%P\t%y\t%m\t%U:%G\t%T@\t%l\t"
    found = subprocess.run(
        ["find", tree, "(", "-type", "d", "-printf", form + r"\0", ")", "-o", "-printf", form + r"%n\t%s\0"],
        capture_output=True, check=True,
    )  # fmt: skip
    return sorted(found.stdout.split(b"\0"))


def details(copy: Copy) -> SnapshotDetails:
    return snapshot_details(copy.manifest)


@pytest.fixture
def files(make_world: Callable[[], World], tmp_path: Path) -> FileSet:
    """An empty set of files, and targets that are directories."""
    tree, back = tmp_path / "tree", tmp_path / "restored"
    tree.mkdir()
    back.mkdir()
    source = f"""
sources:
  {FILES}:
    kind: files
    url: file://{tree}
    queue: here
    tiers:
      incremental: {{schedule: "0 */3 * * *", retention: 30d}}
      daily: {{schedule: "0 3 * * *", retention: 30d}}
"""
    world = make_world()
    return FileSet(replace(world.bent("\nsources:\n", source)), tree, back)
