"""Secrets back into their stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lifeboat.configuration.asking import waited_for
from lifeboat.configuration.choosing import proven_items
from lifeboat.configuration.stores import Secret, Store, alike, from_document, way_to_store
from lifeboat.errors import RestoreError
from lifeboat.policy.configuration_source import ConfigurationSource, SecretStore
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository


@dataclass(frozen=True)
class Return:
    """A secret, and what its store has under its name at present.

    Attributes:
        item: the item's name.
        state: ``new``: the store has none; ``same``: it has this one; ``differs``: it has another.
    """

    item: str
    name: str
    where: str
    state: Literal["new", "same", "differs"]
    secret: Secret = field(repr=False)
    present: Secret | None = field(repr=False)
    store: Store = field(repr=False)


def planned_returns(
    repository: SystemRepository,
    source: ConfigurationSource,
    copy: Copy,
    only: Sequence[str],
    *,
    tick: Callable[[], None],
) -> list[Return]:
    """The chosen secrets, each compared with what its store has.

    Raises:
        RestoreError: something that is chosen is no secret, or the policy names no store for it.
        SourceUnreadable, ConnectionUnknown: a store can't be reached.
        ObjectDamaged: a secret is not what was backed up.
    """
    found = []
    for one in proven_items(repository, copy, only or ("secrets/**",), tick=tick):
        about = one.indexed.about
        if about.kind != "secrets":
            raise RestoreError(
                f"{about.name} is no secret of a store.", "Choose secrets alone: --only 'secrets/**', or their names."
            )
        found.append((about, one.content))
    returns = []
    for about, content in found:
        policy = _policy_of(source, about.origin, about.name)
        connection = policy.restore_connection or policy.connection
        name = about.origin["name"]
        store = waited_for(way_to_store(policy, repository.outside, connection), tick)
        present = waited_for(lambda s=store, n=name: s.read(n), tick)  # type: ignore[misc]
        secret = from_document(content, about.name)
        state: Literal["new", "same", "differs"] = "new"
        if present is not None:
            state = "same" if alike(secret, present) else "differs"
        returns.append(Return(about.name, name, f"{policy.store} ({connection})", state, secret, present, store))
    return returns


def give_back(one: Return, tick: Callable[[], None]) -> None:
    """Put a secret back, and read it to see that it is there.

    Raises:
        RestoreError: the store refuses, or has something else afterwards.
    """
    if one.state == "same":
        return
    waited_for(lambda: one.store.write(one.name, one.secret, one.present), tick)
    after = waited_for(lambda: one.store.read(one.name), tick)
    if after is None or not alike(one.secret, after):
        raise RestoreError(
            f"{one.item} was put back into {one.where}, which gives something else now.",
            "Did somebody else write it at the same time? Look at its versions there.",
        )


def _policy_of(source: ConfigurationSource, told: Mapping[str, str], item: str) -> SecretStore:
    fitting = [
        store
        for store in source.secrets
        if store.store == told.get("store") and (store.store != "vault" or store.mount == told.get("mount"))
    ]
    for store in fitting:
        if told.get("name") in store.names:
            return store
    if not fitting:
        raise RestoreError(f"The policy names no store that {item} could go back into.", "Restore it with --into DIR.")
    # The policy has dropped the secret since, but knows its store.
    return fitting[0]
