"""Stores of secrets: what is read from one, and put back into one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lifeboat.configuration.asking import waited_for
from lifeboat.configuration.gathered import Gathered, Problem
from lifeboat.configuration.items import About, item_name
from lifeboat.errors import Cancelled, LifeboatError, ObjectDamaged
from lifeboat.outside import Outside
from lifeboat.policy.configuration_source import SecretStore

Secret = Mapping[str, Any]
"""All that a store tells of a secret, as JSON; ``version`` is of the store's own making and can't be given back."""


class Store(Protocol):
    """A store of secrets."""

    def read(self, name: str) -> Secret | None:
        """The newest version of a secret, whole; ``None`` where there is none.

        Raises:
            SourceUnreadable: the store can't be reached, or refuses.
        """
        ...

    def write(self, name: str, secret: Secret, present: Secret | None) -> None:
        """Put a secret back: made where there is none, else as its newest version.

        Args:
            present: what was read of it just before.

        Raises:
            RestoreError: the store can't be reached or refuses, or the secret was changed meanwhile.
        """
        ...


def way_to_store(policy: SecretStore, outside: Outside, connection: str) -> Callable[[], Store]:
    """What opens the store that a policy names, by a connection. The connection is looked up at once, since Airflow is
    asked by the task's own thread; the store is asked by whoever calls what is returned.

    Raises:
        ConnectionUnknown: the connection is missing.
    """
    if policy.store == "vault":
        from lifeboat.configuration.vault import VaultStore

        found = outside.connection(connection)
        return lambda: VaultStore(found, policy.mount)
    from lifeboat.configuration.secrets_manager import SecretsManagerStore

    store = SecretsManagerStore(outside, connection)
    return lambda: store


def take_secrets(policy: SecretStore, outside: Outside, gathered: Gathered, tick: Callable[[], None]) -> None:
    """Take the secrets that a policy names; what can't be read is a problem."""
    for name in policy.names:
        item = item_name("secrets", policy.store, name)
        try:
            way = way_to_store(policy, outside, policy.connection)
            secret = waited_for(lambda way=way, name=name: way().read(name), tick)  # type: ignore[misc]
        except Cancelled:
            raise
        except LifeboatError as error:
            gathered.problems.append(Problem(item, f"can't be read: {error.what}", "unread", error.remedy))
            continue
        if secret is None:
            remedy = "Is its name, and Vault's mount, as the policy says? Otherwise take it out of the policy."
            gathered.problems.append(Problem(item, "is not in the store", "missing", remedy))
            continue
        origin = {"store": policy.store, "name": name, "version": str(secret.get("version", ""))}
        if policy.store == "vault":
            origin["mount"] = policy.mount
        gathered.add(About(item, "value", origin=origin), to_document(secret))


def to_document(secret: Secret) -> bytes:
    """A secret as an item holds it."""
    return json.dumps(secret, indent=2, sort_keys=True).encode() + b"\n"


def from_document(content: bytes, what: str) -> dict[str, Any]:
    """Read it back.

    Raises:
        ObjectDamaged: it is none.
    """
    try:
        secret = json.loads(content)
    except ValueError:
        secret = None
    if not isinstance(secret, dict):
        # The parser's own words would quote the text.
        raise ObjectDamaged(f"{what} is no secret as Lifeboat stores one.", "Use another recovery point.")
    return secret


def alike(one: Secret, other: Secret) -> bool:
    """Whether two say the same but for their versions."""
    return {**one, "version": None} == {**other, "version": None}
