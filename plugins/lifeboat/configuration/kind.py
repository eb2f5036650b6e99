"""The verbs of a configuration, as every kind of source has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from lifeboat.configuration.preflight import preflight_configuration
from lifeboat.configuration.storing import Outcome, shortened, store_configuration
from lifeboat.configuration.verification import verify_configuration
from lifeboat.errors import PolicyError
from lifeboat.policy.configuration_source import ConfigurationSource
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


class ConfigurationKind:
    """Sets of items, each recovery point whole by itself."""

    def point_kind(self, tier: Tier, source: SourcePolicy) -> str:
        """``full``, for every tier."""
        return FULL

    def point_kinds(self, tier: Tier, source: SourcePolicy) -> tuple[str, ...]:
        """That kind alone."""
        return (FULL,)

    def roles(self) -> Mapping[str, Role]:
        """Each stands alone."""
        return {FULL: Role.ALONE}

    def preflight(self, repository: SystemRepository, source_name: str, tier: Tier, *, tick: Tick) -> list[Finding]:
        """Everything that the policy names."""
        source = configuration_of(repository, source_name)
        return preflight_configuration(source, repository.outside, f"source {source_name}", tick)

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
        """The whole set; by the tier ``change`` only where it is not what the newest recovery point holds."""
        source = configuration_of(repository, source_name)
        if work.only:
            raise PolicyError(
                "A configuration is backed up as a whole, and a part of it was asked for.",
                "What belongs to it is said by its policy.",
            )
        outcome = store_configuration(
            repository,
            source_name,
            source,
            work,
            journal,
            only_changed=tier is Tier.CHANGE,
            progress=progress,
            tick=tick,
            retain_until=retain_until,
        )
        if outcome.copy is None:
            return BackedUp((), _unchanged(outcome))
        details = outcome.details
        changes = (
            f"{details.added} added, {details.changed} changed, {details.removed} removed since {details.compared_with}"
            if details.compared_with
            else "the first of its fingerprints"
        )
        return BackedUp((outcome.copy,), f"{details.count} items, {details.size:,} bytes; {changes}", _alarm(outcome))

    def verify_deep(
        self, repository: SystemRepository, target: str, copy: Copy, *, passed: Callable[[int], None], tick: Tick
    ) -> tuple[Verified, dict[str, Any]]:
        """Every item's bytes against its fingerprint."""
        return verify_configuration(repository, target, copy, passed=passed, tick=tick)


def _unchanged(outcome: Outcome) -> str:
    said = f"{outcome.details.count} items, unchanged since {outcome.unchanged_since}: nothing new is stored."
    if outcome.lacking:
        # Said aloud by the recovery point itself, and by each of the other tiers' runs.
        said += f" As before, {len(outcome.lacking)} are not in it: {shortened(outcome.lacking)}."
    return said


def _alarm(outcome: Outcome) -> str:
    said = []
    if outcome.lacking:
        said.append(
            f"{len(outcome.lacking)} that the policy names are not in the recovery point: "
            f"{shortened(outcome.lacking)}. Mend what is said there, or take it out of the policy."
        )
    if outcome.expiring:
        said.append(" ".join(outcome.expiring[:3]) + (" …" if len(outcome.expiring) > 3 else "") + " Renew it.")
    return " ".join(said)


def configuration_of(repository: SystemRepository, name: str) -> ConfigurationSource:
    """The policy of a source that is a configuration.

    Raises:
        PolicyError: the system has none of that name.
    """
    source = repository.policy.sources.get(name)
    if not isinstance(source, ConfigurationSource):
        raise PolicyError(f"{repository.system} has no configuration {name!r}.", "See `lifeboat policy show`.")
    return source
