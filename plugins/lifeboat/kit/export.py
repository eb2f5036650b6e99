"""The recovery kit: one file with all that a restore needs when everything else is lost, save the break-glass key."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lifeboat
from lifeboat.errors import ConnectionUnknown, PolicyError
from lifeboat.kit.archive import KitWriter, new_archive
from lifeboat.kit.contents import (
    CREDENTIALS,
    KIT,
    MANIFEST,
    READ_ME,
    KitManifest,
    KitSystem,
    SystemFacts,
    TargetFacts,
    TrustedKeyFacts,
    WrappingKeyFacts,
    facts_file,
    policy_file,
    signature_file,
)
from lifeboat.kit.credentials import break_glass_keys, gather, seal_credentials
from lifeboat.kit.opening import read_kit
from lifeboat.kit.papers import PROJECT, add_papers, add_wheels, read_me
from lifeboat.outside import Outside
from lifeboat.policy.encryption import RsaPublicKey
from lifeboat.policy.targets import TargetPolicy
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.streams.keys import public_pem
from lifeboat.targets.local import LocalTarget

NO_CREDENTIALS = "There are no credentials in this kit: connections and local keys have to come from somewhere else."


@dataclass(frozen=True)
class KitSummary:
    """What was exported.

    Attributes:
        path: the kit.
        kit: its id.
        size: its bytes.
        sha256: its digest, to be kept apart from it.
        systems: whose kit it is.
        break_glass: the names of the keys that open its credentials, by system; empty without credentials.
        connections: the ids of the connections that it holds.
        local_keys: the names of the local keys that it holds.
        files: how many files are in it.
        wheels: how many of them are wheels.
        notices: what a person should know.
    """

    path: Path
    kit: str
    size: int
    sha256: str
    systems: tuple[str, ...]
    break_glass: dict[str, tuple[str, ...]]
    connections: tuple[str, ...]
    local_keys: tuple[str, ...]
    files: int
    wheels: int
    notices: tuple[str, ...]

    def for_journal(self) -> dict[str, Any]:
        """The details of the event ``kit_exported``."""
        return {
            "kit": self.kit,
            "sha256": self.sha256,
            "size": self.size,
            "systems": list(self.systems),
            "connections": list(self.connections),
            "notices": list(self.notices),
        }


def export(
    repositories: Sequence[SystemRepository],
    destination: Path,
    *,
    actor: str,
    connections: Collection[str] = (),
    wheels: Path | None = None,
    without_credentials: bool = False,
    project: Path = PROJECT,
) -> KitSummary:
    """Write a kit for one or more systems: as a whole or not at all, of mode 0600, never over another file.

    The caller journals ``kit_exported`` with :meth:`KitSummary.for_journal` for each system.

    Args:
        repositories: the systems, at least one.
        destination: the file to be made, usually ``….zip``.
        actor: who does this, for the manifest.
        connections: ids to be sealed besides those that a restore needs (of the targets and the wrapping keys).
        wheels: a directory with the wheels of everything that the reader's requirements name.
        without_credentials: leave all secrets out; asked for by name, since such a kit alone restores nothing.
        project: where the reader, the page, the runbooks and the requirements are.

    Raises:
        PolicyError: a policy names no break-glass key, and ``without_credentials`` was not said.
        KeyUnavailable, ConnectionUnknown: a key or a connection that belongs in the kit is missing.
        RepositoryError: the file is there already or can't be written; a part of the kit or a wheel is missing.
    """
    if not repositories:
        raise PolicyError("There is no policy to make a kit for.", "Name the folder of policies with --policies.")
    if not without_credentials:
        _insist_on_break_glass(repositories)
    clock = repositories[0].outside.clock
    work = Work.new(KIT, begun=clock(), tiers=(), run=Run(command="lifeboat kit export"), actor=actor)
    kit, systems = str(work.recovery_point), tuple(repository.system for repository in repositories)
    sealed = _Sealed([NO_CREDENTIALS] if without_credentials else [])
    with new_archive(destination, prove=read_kit) as writer:
        for repository in repositories:
            _add_system(writer, repository)
        if not without_credentials:
            _add_credentials(writer, repositories, work, connections, sealed)
        add_papers(writer, project)
        wheel_count, more = add_wheels(writer, project, wheels)
        notices = (*sealed.notices, *more)
        created = clock()
        writer.add(READ_ME, read_me(kit, created, systems, notices))
        manifest = KitManifest(
            kit=kit,
            created=created,
            lifeboat=lifeboat.__version__,
            systems=tuple(KitSystem(name=each.system, policy_digest=each.loaded.digest) for each in repositories),
            credentials=not without_credentials,
            wheels=wheel_count > 0,
            notices=notices,
            files=tuple(writer.files),
        )
        document = manifest.to_json()
        writer.add(MANIFEST, document, listed=False)
        for repository in repositories:
            writer.add(signature_file(repository.system), repository.signer.signature_file(document), listed=False)
    with destination.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return KitSummary(
        path=destination,
        kit=kit,
        size=destination.stat().st_size,
        sha256=digest,
        systems=systems,
        break_glass={} if without_credentials else _break_glass_names(repositories),
        connections=tuple(sorted(sealed.connections)),
        local_keys=tuple(sorted(sealed.local_keys)),
        files=len(writer.files),
        wheels=wheel_count,
        notices=notices,
    )


@dataclass
class _Sealed:
    notices: list[str]
    connections: set[str] = field(default_factory=set)
    local_keys: set[str] = field(default_factory=set)


def _break_glass_names(repositories: Sequence[SystemRepository]) -> dict[str, tuple[str, ...]]:
    return {each.system: tuple(key.name for key in break_glass_keys(each.policy)) for each in repositories}


def _insist_on_break_glass(repositories: Sequence[SystemRepository]) -> None:
    without = [system for system, names in _break_glass_names(repositories).items() if not names]
    if without:
        raise PolicyError(
            f"The policy of {', '.join(without)} names no break-glass key, which alone may open a kit's credentials.",
            "Add a key of kind rsa_public to its encryption, or export --without-credentials.",
        )


def _add_system(writer: KitWriter, repository: SystemRepository) -> None:
    policy = repository.policy
    writer.add(policy_file(repository.system), repository.loaded.text.encode())
    facts = SystemFacts(
        system=repository.system,
        environment=dict(repository.loaded.environment),
        targets={name: _target_facts(target, repository.outside) for name, target in policy.targets.items()},
        trusted_keys=tuple(
            TrustedKeyFacts(
                id=key.id, public_key=key.public_key, valid_from=key.valid_from, valid_until=key.valid_until
            )
            for key in policy.signing.trusted
        ),
        wrapping_keys=tuple(
            WrappingKeyFacts(
                name=key.name,
                kind=key.kind,
                public_key=public_pem(key).decode("ascii") if isinstance(key, RsaPublicKey) else None,
            )
            for key in policy.encryption.keys
        ),
    )
    writer.add(facts_file(repository.system), facts.to_json())


def _target_facts(target: TargetPolicy, outside: Outside) -> TargetFacts:
    endpoint = region = None
    if target.connection is not None:
        try:
            extra = outside.connection(target.connection).extra
        except ConnectionUnknown:
            # Where credentials are wanted, this is an error a moment later; the address is only a help.
            extra = {}
        endpoint, region = _without_credentials(extra.get("endpoint_url")), extra.get("region_name")
    return TargetFacts(
        url=target.url,
        connection=target.connection,
        endpoint=endpoint,
        region=str(region) if region else None,
        marker=target.marker,
    )


def _without_credentials(url: object) -> str | None:
    if not isinstance(url, str):
        return None
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _add_credentials(
    writer: KitWriter,
    repositories: Sequence[SystemRepository],
    work: Work,
    connections: Collection[str],
    sealed: _Sealed,
) -> None:
    # Only sealed bytes come to this directory.
    with tempfile.TemporaryDirectory(prefix="lifeboat-kit-") as room:
        for repository in repositories:
            secret = gather(repository.policy, repository.outside, connections)
            seal_credentials(repository, secret, LocalTarget("kit", Path(room)), work, repository.outside.clock)
            sealed.connections |= set(secret.connections)
            sealed.local_keys |= set(secret.local_keys)
            sealed.notices += [notice for notice in secret.notices if notice not in sealed.notices]
        if len({name.upper() for name in sealed.connections}) < len(sealed.connections):
            raise PolicyError(
                "Two connections differ only in capital letters, and would be one variable.", "Rename one of them."
            )
        for path in sorted(path for path in Path(room).rglob("*") if path.is_file()):
            writer.add_file(f"{CREDENTIALS}{path.relative_to(room)}", path)
