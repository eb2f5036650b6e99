"""A policy's retention as a planner needs it: for each tier and target the moment before which things go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from lifeboat.policy.duration import Duration
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.model import Policy

CLOCKS_DIFFER = timedelta(hours=1)
"""So much more WAL stays than a base needs: the clocks of servers and workers differ."""
SET_BACK = timedelta(minutes=10)
"""How far the clock may be behind what was written before it counts as set back."""


@dataclass(frozen=True)
class TargetRules:
    """What a target adds to the tiers' own retention.

    Attributes:
        retention: how long copies stay there, where that is shorter than the tier says.
        undelete: how long a deletion can be taken back there.
    """

    retention: Duration | None = None
    undelete: timedelta = timedelta(days=7)


@dataclass(frozen=True)
class SourceRules:
    """The retention of one source.

    Attributes:
        tiers: how long each tier's recovery points are kept.
        targets: by name.
        zone: whose calendar months and years are counted on.
        keep_at_least: verified recovery points of each kind that stay, whatever their age.
        minimum_copies: a copy that only its target's own retention ends goes when so many others stay.
        most_share: of a tier's recovery points, as a share from 0 to 1, that may go at once.
        most_count: so many may go at once whatever share they are.
    """

    tiers: Mapping[str, Duration]
    targets: Mapping[str, TargetRules]
    zone: tzinfo = UTC
    keep_at_least: int = 1
    minimum_copies: int = 1
    most_share: float = 0.2
    most_count: int = 3


def rules_of(policy: Policy, source: str) -> SourceRules:
    """What a policy says of one source's retention."""
    retention = policy.retention
    targets = {
        name: TargetRules(target.retention, undelete_window(policy, source, name))
        for name, target in policy.targets.items()
    }
    return SourceRules(
        {tier.value: tier_policy.retention for tier, tier_policy in policy.sources[source].tiers.items()},
        targets,
        policy.zone,
        retention.keep_at_least,
        retention.minimum_copies,
        retention.most_deleted / 100,
        retention.few_deleted,
    )


def undelete_window(policy: Policy, source: str, target: str) -> timedelta:
    """How long the deletion of a recovery point of a source can be taken back on a target.

    What the target says comes first; on a local disk it is nothing, since its room is needed; then a set of files may
    say so of itself.
    """
    place, protected = policy.targets[target], policy.sources.get(source)
    if place.undelete is not None:
        return place.undelete.fixed
    if place.scheme == "file":
        return timedelta()
    if isinstance(protected, FilesSource) and protected.undelete is not None:
        return protected.undelete.fixed
    return policy.retention.undelete.fixed


@dataclass(frozen=True)
class Cutoffs:
    """Before which moments things are past their retention on one target.

    Both are reckoned backwards from now. A calendar's month is never shorter that way than forwards, so that nothing
    goes before the lock that was set when it was made ends.
    """

    tiers: Mapping[str, datetime]
    target: datetime | None

    @classmethod
    def of(cls, rules: SourceRules, target: str, now: datetime) -> Cutoffs:
        """The cut-offs of one target."""
        retention = rules.targets[target].retention
        return cls(
            {tier: kept.before(now, rules.zone) for tier, kept in rules.tiers.items()},
            None if retention is None else retention.before(now, rules.zone),
        )

    def of_tier(self, tier: str) -> datetime:
        """From when on a tier's recovery points stay on this target."""
        return self.tiers[tier] if self.target is None else max(self.tiers[tier], self.target)
