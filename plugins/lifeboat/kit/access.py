"""The way in with a recovery kit: its secrets opened by the break-glass key, as everything else takes them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifeboat.errors import KeyUnavailable
from lifeboat.kit.archive import open_archive, read_entry
from lifeboat.kit.contents import CREDENTIALS
from lifeboat.kit.credentials import Credentials, as_environment, open_credentials
from lifeboat.kit.opening import Kit, local_key_connection, read_kit
from lifeboat.outside import Outside
from lifeboat.policy.model import LoadedPolicy
from lifeboat.repository.signing import TrustedKeys
from lifeboat.targets.local import LocalTarget

MakeOutside = Callable[[Mapping[str, str]], Outside]
"""Makes the outside from variables ``AIRFLOW_CONN_<ID>``; ``lifeboat.connections.outside_from`` is one."""


def credentials_of(kit: Kit, system: str, break_glass: Sequence[Path]) -> Credentials:
    """A system's secrets.

    Raises:
        KeyUnavailable: none of the keys opens them, or the kit holds none.
        ManifestInvalid, ObjectDamaged: they were changed.
    """
    if not kit.manifest.credentials:
        raise KeyUnavailable(f"The kit {kit.path} was made without credentials.", "Give connections in another way.")
    policy = kit.policies[system].policy
    begin = f"{CREDENTIALS}{system}/"
    # Only sealed bytes come to this directory; what is opened stays in memory.
    with tempfile.TemporaryDirectory(prefix="lifeboat-kit-") as room, open_archive(kit.path) as archive:
        for file in kit.manifest.files:
            if file.name.startswith(begin):
                place = Path(room) / file.name.removeprefix(CREDENTIALS)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(read_entry(archive, file.name))
        trusted = TrustedKeys(policy.signing.trusted)
        return open_credentials(policy, kit.manifest.kit, LocalTarget("kit", Path(room)), trusted, break_glass)


def outside_from_kit(
    path: Path, break_glass: Sequence[Path], make_outside: MakeOutside
) -> tuple[dict[str, LoadedPolicy], Outside]:
    """All that a restore needs, from a kit alone.

    Args:
        path: the kit.
        break_glass: files with RSA private keys (PEM); give them to ``SystemRepository``, too.
        make_outside: ``lifeboat.connections.outside_from``.

    Returns:
        The policies by system, independent of the lost machine's files, and connections for their targets and keys.
        There is no signing key in a kit: what is restored with it is not journaled on the targets.

    Raises:
        ManifestInvalid: the kit is not whole.
        KeyUnavailable: the break-glass keys open no system's credentials. Where they open some, only the policies of
            those systems are returned.
    """
    kit = read_kit(path)
    opened, failures = open_all(kit, break_glass)
    if not opened:
        raise next(iter(failures.values()))
    return {system: kit.policies[system] for system in opened}, make_outside(environment_of(opened))


def open_all(kit: Kit, break_glass: Sequence[Path]) -> tuple[dict[str, Credentials], dict[str, KeyUnavailable]]:
    """Each system's secrets, or why no key opens them.

    Raises:
        ManifestInvalid, ObjectDamaged: they were changed.
    """
    opened: dict[str, Credentials] = {}
    failures: dict[str, KeyUnavailable] = {}
    for system in kit.policies:
        try:
            opened[system] = credentials_of(kit, system, break_glass)
        except KeyUnavailable as error:
            failures[system] = error
    return opened, failures


def environment_of(opened: Mapping[str, Credentials]) -> dict[str, str]:
    """The variables that hold the connections and the local keys of all systems."""
    connections = {name: value for secret in opened.values() for name, value in secret.connections.items()}
    for system, secret in opened.items():
        for name, key in secret.local_keys.items():
            connections[local_key_connection(system, name)] = {"conn_type": "generic", "password": key}
    return as_environment(connections)
