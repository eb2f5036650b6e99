"""The repository as a scenario leaves it: without its everyday keys, where the key service is lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lifeboat.errors import KeyUnavailable
from lifeboat.policy.drills import Scenario
from lifeboat.recovery.drill.scenarios import WITH_BREAK_GLASS, keys_left
from lifeboat.repository.system import SystemRepository


def left_by(scenario: Scenario, repository: SystemRepository, break_glass: Sequence[Path]) -> SystemRepository:
    """What can still be read, and with which keys.

    Args:
        repository: the living system's.
        break_glass: files with RSA private keys, used in those scenarios alone that are about them.

    Raises:
        KeyUnavailable: a private key is not there.
    """
    if scenario not in WITH_BREAK_GLASS:
        return SystemRepository(repository.loaded, repository.outside)
    insist_on_keys(break_glass)
    policy = repository.policy
    left = policy.model_copy(update={"encryption": keys_left(scenario, policy.encryption)})
    return SystemRepository(replace(repository.loaded, policy=left), repository.outside, break_glass=break_glass)


def insist_on_keys(break_glass: Iterable[Path]) -> None:
    """Insist on the private keys being where they are said to be.

    Raises:
        KeyUnavailable: one is not.
    """
    for path in break_glass:
        if not path.is_file():
            raise KeyUnavailable(
                f"The private half of the break-glass key is not at {path}.",
                "Have it brought from the safe for the time of the drill, and take it back afterwards.",
            )
