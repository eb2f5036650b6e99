"""The few verbs that every kind of source has, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from lifeboat.policy.naming import Tier
from lifeboat.policy.sources import SourcePolicy
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.retention.points import Role
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.repository.verification import Verified
from lifeboat.targets.target import Finding

Progress = Callable[[int, int], None]
Tick = Callable[[], None]


@dataclass(frozen=True)
class FullDue:
    """A full has to be taken as soon as possible: what came since can't be brought back before.

    Attributes:
        because: why, in a sentence.
        mark: the same for the same reason, whoever finds it: letters, digits and hyphens.
        tier: which takes it.
        others: the tiers that would take one as well, if a run of theirs is under way.
    """

    because: str
    mark: str
    tier: Tier
    others: tuple[Tier, ...] = ()


@dataclass(frozen=True)
class BackedUp:
    """What a backup brought.

    Attributes:
        copies: the committed recovery points on the primary target.
        message: what a person should read of it, in a sentence.
        alarm: what is wrong although something was committed; empty when nothing is.
        full_due: that a full has to be taken, found by this backup or an earlier one and not taken yet.
    """

    copies: tuple[Copy, ...]
    message: str
    alarm: str = ""
    full_due: FullDue | None = None

    @property
    def damaged(self) -> bool:
        """Whether the source itself was damaged: nothing that was made of it counts as good."""
        return any(copy.manifest.state == "damaged" for copy in self.copies)


@dataclass(frozen=True)
class Stay:
    """For how long a backup stays with a source that can be followed, committing again and again.

    Attributes:
        lasting: so long; ``None``: until there is enough.
        enough: asked about four times a second; ``True`` ends the stay in good order.
        committed: told of each recovery point when it is committed.
    """

    lasting: timedelta | None
    enough: Callable[[], bool] = lambda: False
    committed: Callable[[Copy], None] = lambda _copy: None


class Kind(Protocol):
    """The verbs of a kind of source."""

    def point_kind(self, tier: Tier, source: SourcePolicy) -> str:
        """The kind of recovery point that a tier of a source makes: the word in its id."""
        ...

    def point_kinds(self, tier: Tier, source: SourcePolicy) -> tuple[str, ...]:
        """Every kind of recovery point that a tier's runs may make, that of :meth:`point_kind` first."""
        ...

    def roles(self) -> Mapping[str, Role]:
        """What each kind of recovery point is to the others, for retention."""
        ...

    def preflight(self, repository: SystemRepository, source_name: str, tier: Tier, *, tick: Tick) -> list[Finding]:
        """Look at everything that the source must have; change nothing."""
        ...

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
        """Make and commit recovery points on the primary target; with ``stay``, where a source can be followed, until
        that ends."""
        ...

    def verify_deep(
        self, repository: SystemRepository, target: str, copy: Copy, *, passed: Callable[[int], None], tick: Tick
    ) -> tuple[Verified, dict[str, Any]]:
        """Open a copy and compare it with what the source said of it; returns figures for the journal, too."""
        ...
