"""The repository as a scenario leaves it: without its everyday keys, or from a recovery kit and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lifeboat.errors import KeyUnavailable, PolicyError
from lifeboat.outside import Outside
from lifeboat.policy.drills import Scenario
from lifeboat.policy.model import LoadedPolicy
from lifeboat.recovery.drill.scenarios import WITH_BREAK_GLASS, keys_left
from lifeboat.repository.system import SystemRepository

OpenKit = Callable[[Path, Sequence[Path]], tuple[dict[str, LoadedPolicy], Outside]]
"""Opens a recovery kit with private keys: its policies by system, and an outside that knows nothing else."""


def left_by(
    scenario: Scenario,
    repository: SystemRepository,
    break_glass: Sequence[Path],
    kit: Path | None,
    open_kit: OpenKit | None,
) -> SystemRepository:
    """What can still be read, and with which keys.

    Args:
        repository: the living system's.
        break_glass: files with RSA private keys, used in those scenarios alone that are about them.

    Raises:
        KeyUnavailable: a private key is not there, or opens nothing.
        PolicyError: the kit is of other systems.
        ManifestInvalid: the kit is not whole.
    """
    if scenario not in WITH_BREAK_GLASS:
        return SystemRepository(repository.loaded, repository.outside)
    for path in break_glass:
        if not path.is_file():
            raise KeyUnavailable(
                f"The private half of the break-glass key is not at {path}.",
                "Have it brought from the safe for the time of the drill, and take it back afterwards.",
            )
    if scenario == "airflow_lost":
        assert kit is not None
        assert open_kit is not None
        policies, outside = open_kit(kit, break_glass)
        if (loaded := policies.get(repository.system)) is None:
            raise PolicyError(f"The kit {kit} does not hold {repository.system}.", "Export one that does.")
        return SystemRepository(loaded, replace(outside, clock=repository.outside.clock), break_glass=break_glass)
    policy = repository.policy
    left = policy.model_copy(update={"encryption": keys_left(scenario, policy.encryption)})
    return SystemRepository(replace(repository.loaded, policy=left), repository.outside, break_glass=break_glass)
