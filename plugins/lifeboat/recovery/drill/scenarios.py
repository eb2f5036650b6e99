"""What a scenario takes away, and what it leaves: targets, keys, and the moment to go back to. Pure functions of the
policy, the clock and earlier records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from lifeboat.errors import RestoreError
from lifeboat.policy.built import built_targets
from lifeboat.policy.drill_steps import drill_policy
from lifeboat.policy.drills import DrillPolicy, Scenario
from lifeboat.policy.encryption import EncryptionPolicy, KeyPolicy, RsaPublicKey
from lifeboat.policy.model import Policy
from lifeboat.policy.targets import PRIMARY
from lifeboat.recovery.choosing import in_turn
from lifeboat.recovery.evidence import Record

SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
TITLES: dict[Scenario, str] = {
    "total_loss": "total loss of the system",
    "primary_lost": "primary target lost",
    "key_lost": "key service lost",
    "late_corruption": "corruption found late",
    "airflow_lost": "Airflow lost",
}
WITH_BREAK_GLASS: frozenset[Scenario] = frozenset({"key_lost", "airflow_lost"})


@dataclass(frozen=True)
class Moments:
    """The moments of a drill.

    Attributes:
        incident: when the loss happened; of a corruption that was found late, when it began.
        known_until: only what was committed by then is used.
        back_to: recovery stops there; ``None``: at the newest that there is.
    """

    incident: datetime
    known_until: datetime
    back_to: datetime | None = None


def why_not(scenario: Scenario, policy: Policy, *, glass: bool, kit: bool) -> str:
    """Why a scenario can't be practised; empty where it can.

    Args:
        glass: whether the private half of a break-glass key is at hand.
        kit: whether a recovery kit is.
    """
    if scenario == "primary_lost" and len(built_targets(policy)) < 2:
        return "there is no other target than the primary one"
    if scenario in WITH_BREAK_GLASS:
        if not any(isinstance(key, RsaPublicKey) for key in policy.encryption.keys):
            return "the policy has no break-glass key"
        if not glass:
            return "the private half of the break-glass key is not at hand"
    if scenario == "airflow_lost" and not kit:
        return "no recovery kit is named"
    return ""


def possible(policy: Policy, *, glass: bool, kit: bool) -> tuple[Scenario, ...]:
    """The scenarios that drills go through in turn: those that the policy names, or all that can be practised."""
    named = drill_policy(policy).scenarios
    return named or tuple(one for one in SCENARIOS if not why_not(one, policy, glass=glass, kit=kit))


def choose_scenario(
    asked: Scenario | None, policy: Policy, records: Iterable[Record], *, glass: bool, kit: bool
) -> Scenario:
    """The scenario that was asked for, or the one that was practised longest ago.

    Args:
        records: of the system, oldest first.

    Raises:
        RestoreError: it can't be practised.
    """
    practised = [record.drill.scenario for record in records if record.drill is not None]
    if (chosen := asked) is None:
        chosen = in_turn(possible(policy, glass=glass, kit=kit), practised)[0]
    if why := why_not(chosen, policy, glass=glass, kit=kit):
        raise RestoreError(
            f"The drill {chosen} of {policy.system} can't be made: {why}.",
            "`break_glass` and `kit` under `drills` in the policy, or --break-glass-key and --recovery-kit, name them; "
            "or choose another scenario.",
        )
    return chosen


def moments_of(scenario: Scenario, asked: datetime | None, now: datetime, drills: DrillPolicy) -> Moments:
    """The moments of a drill that begins now.

    Args:
        asked: the moment of the incident as somebody states it; ``None``: now, or of a corruption the policy's
            ``found_after`` ago.

    Raises:
        RestoreError: the incident lies ahead.
    """
    if asked is not None and asked > now:
        raise RestoreError(
            f"The incident at {asked.isoformat(sep=' ')} has not happened yet.", "State a moment that is over."
        )
    if scenario == "late_corruption":
        incident = asked if asked is not None else now - drills.found_after.fixed
        return Moments(incident, now, back_to=incident)
    incident = asked if asked is not None else now
    return Moments(incident, incident)


def targets_left(scenario: Scenario, targets: Sequence[str]) -> list[str]:
    """The targets that can still be read."""
    return [name for name in targets if scenario != "primary_lost" or name != PRIMARY]


def keys_left(scenario: Scenario, encryption: EncryptionPolicy) -> EncryptionPolicy:
    """The keys that can still be used."""
    if scenario != "key_lost":
        return encryption
    left: list[KeyPolicy] = [key for key in encryption.keys if isinstance(key, RsaPublicKey)]
    return EncryptionPolicy.model_construct(keys=left, accept_single_key=True)
