"""What the verbs work with: policies from their directory, connections from the environment or a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lifeboat.errors import LifeboatError, PolicyError

if TYPE_CHECKING:
    import typer

    from lifeboat.outside import Outside
    from lifeboat.policy.model import LoadedPolicy
    from lifeboat.policy.naming import Tier
    from lifeboat.repository.system import SystemRepository

DEFAULT_POLICIES = Path("include/policies")


@dataclass(frozen=True)
class Surroundings:
    """What the options before the verb say.

    Attributes:
        policies: the directory of policies.
        connections: a file of connections, read after the environment's ``AIRFLOW_CONN_…`` variables.
        break_glass: files with RSA private keys, for reading backups only.
        kit: a recovery kit, which takes the place of policies and connections when both are lost. Connections that it
            does not hold may be given beside it.
    """

    policies: Path = DEFAULT_POLICIES
    connections: Path | None = None
    break_glass: tuple[Path, ...] = ()
    kit: Path | None = None

    @cached_property
    def _from_kit(self) -> tuple[dict[str, LoadedPolicy], Outside] | None:
        if self.kit is None:
            return None
        from lifeboat.connections import outside_from
        from lifeboat.kit.access import outside_from_kit

        def with_others(sealed: Mapping[str, str]) -> Outside:
            # A new server to bring something into stands in no kit.
            others = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}
            return outside_from({**others, **sealed}, self.connections)

        return outside_from_kit(self.kit, self.break_glass, with_others)

    def loaded(self, system: str) -> LoadedPolicy:
        """The policy of a system. Broken policies of other systems do no harm.

        Raises:
            PolicyError: there is none, or it can't be used.
        """
        from lifeboat.policy.loading import load_policy

        if self._from_kit is not None:
            return self._in_kit(system, self._from_kit[0])
        file = self.policies / f"{system}.yaml"
        if Path(system).name != system or not file.is_file():
            known = ", ".join(self.systems()) or "none"
            raise PolicyError(
                f"There is no policy of a system {system!r} in {self.policies}.",
                f"Systems there: {known}. Another directory is named with --policies or LIFEBOAT_POLICIES.",
            )
        return load_policy(file)

    def _in_kit(self, system: str, policies: dict[str, LoadedPolicy]) -> LoadedPolicy:
        if system not in policies:
            raise PolicyError(
                f"The kit {self.kit} opens no system {system!r} with the key that was given.",
                f"It opens: {', '.join(sorted(policies)) or 'none'}.",
            )
        return policies[system]

    def systems(self) -> list[str]:
        """The systems that have a policy."""
        if self._from_kit is not None:
            return sorted(self._from_kit[0])
        return sorted(file.stem for file in self.policies.glob("*.yaml") if not file.name.startswith("."))

    def outside(self) -> Outside:
        """Connections, clients and the clock, without Airflow."""
        from lifeboat.connections import outside_from

        if self._from_kit is not None:
            return self._from_kit[1]
        return outside_from(os.environ, self.connections)

    def repository(self, loaded: LoadedPolicy, *, removing: bool = False) -> SystemRepository:
        """The system's targets, keys and journal."""
        from lifeboat.repository.system import SystemRepository

        return SystemRepository(loaded, self.outside(), break_glass=self.break_glass, removing=removing)


def surroundings(ctx: typer.Context) -> Surroundings:
    """Those of this call."""
    found = ctx.find_object(Surroundings)
    return found if found is not None else Surroundings()


def check_source(loaded: LoadedPolicy, source: str) -> None:
    """Insist on a source's being in the policy.

    Raises:
        PolicyError: it is not.
    """
    if source not in loaded.policy.sources:
        raise PolicyError(
            f"The policy of {loaded.policy.system} has no source {source!r}.",
            f"It has: {', '.join(loaded.policy.sources)}.",
        )


def tier_of(loaded: LoadedPolicy, source: str, name: str | None) -> Tier:
    """A tier of a source that runs; without a name, the first that makes fulls, else any.

    Raises:
        PolicyError: the source has no such tier, or this version does not run it.
    """
    from lifeboat.policy.built import built_tiers
    from lifeboat.policy.naming import Tier

    check_source(loaded, source)
    runs = [tier for owner, tier in built_tiers(loaded.policy) if owner == source]
    if name is None and runs:
        return next((tier for tier in runs if tier not in (Tier.WAL, Tier.EXPORT)), runs[0])
    for tier in runs:
        if tier.value == name:
            return tier
    raise PolicyError(
        f"The source {source} of {loaded.policy.system} has no tier {name or ''!r} that runs.",
        f"Tiers that run: {', '.join(tier.value for tier in runs) or 'none yet in this version'}.",
    )


def targets_of(loaded: LoadedPolicy, only: str | None = None) -> list[str]:
    """The targets that a verb deals with: the one named, or all that this version can use, the primary one first.

    Raises:
        PolicyError: the policy has none of that name, or it can't be used yet.
    """
    from lifeboat.policy.built import built_targets

    known = list(built_targets(loaded.policy))
    if only is None:
        return known
    if only not in known:
        raise PolicyError(
            f"The policy of {loaded.policy.system} has no target {only!r} that can be used.",
            f"It has: {', '.join(known)}.",
        )
    return [only]


def in_words(errors: Iterable[tuple[str, LifeboatError]]) -> str:
    """Several targets' errors in one text, a line each."""
    return "\n".join(f"  - {target}: {error}" for target, error in errors)
