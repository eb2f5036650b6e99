"""A system whose targets hold recovery points of several ages, and what is left of them after a cleanup."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from lifeboat.repository.catalogue import Copy
from lifeboat.repository.copying import copy as copy_point
from lifeboat.repository.retention.cleaning import Cleaned, Cleanup
from lifeboat.repository.retention.points import Role
from lifeboat.repository.retention.source_plan import SourcePlan, source_plan
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import verify_stored
from tests.repository.world import SOURCE, World

ROLES = {"full": Role.BASE, "incremental": Role.LINK, "wal": Role.LOG, "logical": Role.ALONE, "export": Role.ALONE}
SMALL = {"base.tar": b"the tables", "backup_manifest": b"{}"}


class Died(BaseException):
    """The process is gone: nothing after it is done, not even what stands in a ``finally``."""


@dataclass
class Mortal:
    """A target whose process dies at its ``dies_at``-th change: that one is not done, and nothing after it is."""

    inner: Any
    dies_at: int
    changes: int = 0
    dead: bool = False
    meanwhile: Any = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if self.dead:
            raise Died
        if name not in ("put", "put_new", "delete", "dispose", "extend_lock"):
            return found

        def change(*arguments: Any, **named: Any) -> Any:
            self.changes += 1
            if self.changes == self.dies_at:
                if self.meanwhile is not None:
                    self.meanwhile()
                else:
                    self.dead = True
            if self.dead:
                raise Died
            return found(*arguments, **named)

        return change


@dataclass
class CleanedSystem:
    """One system with its history.

    Attributes:
        copies: by target and recovery point.
    """

    world: World
    copies: dict[tuple[str, str], Copy] = field(default_factory=dict)

    def point(self, *, on: tuple[str, ...] = ("primary",), good: bool = True, **more: Any) -> str:
        """A recovery point on some targets, verified on each."""
        world = self.world
        made = world.point(streams=SMALL, **more)
        name = made.manifest.recovery_point
        repository = world.repository()
        self.copies["primary", name] = made
        for target in on:
            if target != "primary":
                origin = repository.target("primary")
                self.copies[target, name] = copy_point(
                    origin, repository.catalogue(target), made, retain_until=more.get("retain_until")
                )
            if good:
                journal = repository.journal(target, run="test", actor="a test")
                journal.write(
                    "verified", source=SOURCE, recovery_point=name, target=target, method="read", manifest=made.sha256
                )
        return name

    def days(self, count: int, *, on: tuple[str, ...] = ("primary",)) -> list[str]:
        """A daily full on so many days."""
        made = []
        for _ in range(count):
            made.append(self.point(on=on))
            self.world.clock.advance(hours=23)
        return made

    def repository(self) -> SystemRepository:
        return self.world.repository()

    def plan(self) -> SourcePlan:
        repository = self.repository()
        return source_plan(repository, SOURCE, ROLES, repository.outside.clock())

    def clean(self, target: str = "primary", repository: SystemRepository | None = None) -> Cleaned:
        """One cleanup; the clock moves on by a minute."""
        done = Cleanup(repository or self.repository(), SOURCE, ROLES, target, "test", "a test").all()
        self.world.clock.advance(minutes=1)
        return done

    def dying(self, target: str, at: int) -> tuple[SystemRepository, Mortal]:
        """The system as a process sees it that dies at a change."""
        repository = self.repository()
        mortal = Mortal(repository.target(target), at)
        repository._targets[target] = mortal  # type: ignore[assignment]
        return repository, mortal

    def at_each_change(self) -> Iterator[tuple[SystemRepository, Mortal]]:
        """Begin again and again with every target as it is now: the system as a process sees it that dies at its first
        change, at its second, and so on, until one ends before it would die."""
        start = self.world.clock()
        roots = self.world.roots
        untouched = roots["primary"].with_name("untouched")
        for name, root in roots.items():
            shutil.copytree(root, untouched / name)
        for at in count(1):
            for name, root in roots.items():
                shutil.rmtree(root)
                shutil.copytree(untouched / name, root)
            self.world.clock.now = start
            repository, mortal = self.dying("primary", at)
            yield repository, mortal
            if mortal.changes < at:
                return

    def shown(self, target: str = "primary") -> list[str]:
        """What readers see."""
        return [
            copy.manifest.recovery_point for copy in self.repository().catalogue(target).recovery_points(SOURCE).copies
        ]

    def whole(self, target: str = "primary") -> None:
        """Insist on every copy that readers see being whole, and on no folder being half there."""
        repository = self.repository()
        catalogue = repository.catalogue(target)
        listing = catalogue.recovery_points(SOURCE, deleted=True)
        assert not listing.unreadable
        committed = {copy.manifest.folder.path for copy in listing.copies}
        for copy in listing.copies:
            verify_stored(repository.target(target), copy)
        for info in repository.target(target).list(f"{catalogue.system}/{SOURCE}/"):
            name = info.key.split("/")[2]
            if name not in ("marks", "removed", "wal"):
                assert f"{catalogue.system}/{SOURCE}/{name}/" in committed, f"{info.key} is left of {name}"


@contextmanager
def dies() -> Iterator[None]:
    """The body may die."""
    with suppress(Died):
        yield
