"""The verbs of Git repositories, as every kind of source has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from lifeboat.code.after_commit import bring_up_mirrors
from lifeboat.code.git_program import Git
from lifeboat.code.preflight import preflight_code
from lifeboat.code.snapshot import Snapshot, take_snapshot
from lifeboat.code.telling import journal_rewrites, said_of
from lifeboat.code.verification import verify_repositories
from lifeboat.errors import PolicyError
from lifeboat.policy.code_source import CodeSource
from lifeboat.policy.naming import Tier
from lifeboat.policy.sources import SourcePolicy
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.retention.points import Role
from lifeboat.repository.snapshots import FULL
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.repository.verification import Verified
from lifeboat.source import BackedUp, Progress, Stay, Tick
from lifeboat.targets.target import Finding


class CodeKind:
    """A bundle of each repository that has changed, and its mirror."""

    def point_kind(self, tier: Tier, source: SourcePolicy) -> str:
        """``full``."""
        return FULL

    def point_kinds(self, tier: Tier, source: SourcePolicy) -> tuple[str, ...]:
        """That kind alone."""
        return (FULL,)

    def roles(self) -> Mapping[str, Role]:
        """Each is whole, with the bundles that it refers to."""
        return {FULL: Role.ALONE}

    def preflight(self, repository: SystemRepository, source_name: str, tier: Tier, *, tick: Tick) -> list[Finding]:
        """``git``, the origins, the mirrors, the room for clones."""
        return preflight_code(repository, source_name, code_source(repository, source_name), tick=tick)

    def back_up(
        self,
        repository: SystemRepository,
        source_name: str,
        tier: Tier,
        work: Work,
        journal: Journal,
        *,
        progress: Progress,
        tick: Tick,
        retain_until: datetime | None,
        stay: Stay | None = None,
    ) -> BackedUp:
        """A recovery point; then the mirrors, whose failure does not undo it."""
        source = code_source(repository, source_name)
        if work.only:
            raise PolicyError(
                "A run takes all repositories, and a part of them was asked for.",
                "Which ones there are is said by `repositories` in the policy.",
            )
        after: list[str] = []

        def then(git: Git, snapshot: Snapshot) -> None:
            journal_rewrites(journal, source_name, snapshot)
            after.extend(bring_up_mirrors(repository, source_name, source, git, snapshot, journal, tick))

        snapshot = take_snapshot(
            repository,
            source_name,
            source,
            work,
            journal,
            then=then,
            progress=progress,
            tick=tick,
            retain_until=retain_until,
        )
        return BackedUp((snapshot.copy,), said_of(snapshot), " ".join([*snapshot.alarms, *after]))

    def verify_deep(
        self, repository: SystemRepository, target: str, copy: Copy, *, passed: Callable[[int], None], tick: Tick
    ) -> tuple[Verified, dict[str, Any]]:
        """Every bundle becomes a repository, and every ref is compared."""
        source = code_source(repository, copy.manifest.source)
        return verify_repositories(repository, source, target, copy, passed=passed, tick=tick)


def code_source(repository: SystemRepository, name: str) -> CodeSource:
    """The source of that name; raises ``PolicyError``."""
    source = repository.policy.sources.get(name)
    if not isinstance(source, CodeSource):
        raise PolicyError(f"{repository.system} has no repositories {name!r}.", "See `lifeboat policy show`.")
    return source
