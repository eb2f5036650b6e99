"""A recovery kit opened: proven whole and signed, its policies made independent of the machine they came from."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lifeboat.errors import ManifestInvalid, PolicyError
from lifeboat.kit.archive import fault_of, open_archive, read_entry
from lifeboat.kit.contents import (
    MANIFEST,
    KitManifest,
    SystemFacts,
    facts_file,
    policy_file,
    signature_file,
)
from lifeboat.policy.encryption import EncryptionPolicy, KeyPolicy, LocalKey, RsaPublicKey
from lifeboat.policy.loading import parse_policy
from lifeboat.policy.model import LoadedPolicy
from lifeboat.repository.signing import TrustedKeys
from lifeboat.streams.keys import public_pem


@dataclass(frozen=True)
class Kit:
    """A kit whose every file is what was put into it, and whose manifest each of its systems has signed.

    That a kit is signed by keys of its own list proves that it is whole, not who made it: compare it with a policy.

    Attributes:
        path: the archive.
        manifest: the kit's manifest.
        policies: by system; keys stand in them, or are named as connections that ``access`` knows.
        facts: by system.
        document: the manifest's bytes, as signed.
        signatures: by system, the signature files' bytes.
    """

    path: Path
    manifest: KitManifest
    policies: dict[str, LoadedPolicy]
    facts: dict[str, SystemFacts]
    document: bytes
    signatures: dict[str, bytes]


def read_manifest(archive: zipfile.ZipFile) -> tuple[KitManifest, bytes]:
    """The kit's manifest, and its bytes; raises ``ManifestInvalid``."""
    document = read_entry(archive, MANIFEST)
    return _parsed(KitManifest, document, MANIFEST), document


def faults(archive: zipfile.ZipFile, manifest: KitManifest) -> list[str]:
    """What is wrong with the files of a kit: missing, changed, or more than there should be."""
    found = [fault for file in manifest.files if (fault := fault_of(archive, file))]
    known = {file.name for file in manifest.files} | {MANIFEST}
    known |= {signature_file(system.name) for system in manifest.systems}
    found += [f"{name} does not belong to the kit." for name in sorted(set(archive.namelist()) - known)]
    return found


def read_kit(path: Path) -> Kit:
    """Read a kit and prove it whole.

    Raises:
        ManifestInvalid: it can't be read, something was changed, or a signature is wrong; all wrong files are named.
        PolicyError: a policy in it can't be used.
    """
    with open_archive(path) as archive:
        manifest, document = read_manifest(archive)
        if wrong := faults(archive, manifest):
            raise ManifestInvalid(f"The kit {path} is not whole: {' '.join(wrong)}", "Take another copy of it.")
        policies: dict[str, LoadedPolicy] = {}
        facts: dict[str, SystemFacts] = {}
        signatures: dict[str, bytes] = {}
        for system in manifest.systems:
            facts[system.name] = _parsed(SystemFacts, read_entry(archive, facts_file(system.name)), system.name)
            text = read_entry(archive, policy_file(system.name))
            policies[system.name] = _policy(path, system.name, text, facts[system.name])
            signatures[system.name] = read_entry(archive, signature_file(system.name))
            if policies[system.name].digest != system.policy_digest:
                raise ManifestInvalid(f"The kit {path} has another policy of {system.name} than it says.", "")
            verify_signature(path, document, manifest, signatures[system.name], policies[system.name])
    return Kit(path, manifest, policies, facts, document, signatures)


def verify_signature(
    path: Path, document: bytes, manifest: KitManifest, signature: bytes, policy: LoadedPolicy
) -> None:
    """Insist on the kit's manifest being signed by a key that ``policy`` trusts; raises ``ManifestInvalid``."""
    TrustedKeys(policy.policy.signing.trusted).verify_file(
        document, signature, signed=manifest.created, what=f"The kit {path} (for {policy.policy.system})"
    )


def _policy(path: Path, system: str, text: bytes, facts: SystemFacts) -> LoadedPolicy:
    loaded = parse_policy(text, path / policy_file(system), environment=facts.environment)
    if loaded.policy.system != system or facts.system != system:
        raise PolicyError(f"The policy of {system} in {path} is another system's.", "Take another copy of the kit.")
    public = {key.name: key.public_key for key in facts.wrapping_keys}
    keys = [_independent(system, key, public.get(key.name)) for key in loaded.policy.encryption.keys]
    encryption = EncryptionPolicy(keys=keys, accept_single_key=loaded.policy.encryption.accept_single_key)
    return replace(loaded, policy=loaded.policy.model_copy(update={"encryption": encryption}))


def local_key_connection(system: str, key: str) -> str:
    """The connection that holds a local key out of a kit."""
    return f"lifeboat_kit:{system}:{key}"


def _independent(system: str, key: KeyPolicy, public_key: str | None) -> KeyPolicy:
    """A key that needs no file of the lost machine."""
    if isinstance(key, LocalKey):
        return key.model_copy(update={"file": None, "connection": local_key_connection(system, key.name)})
    if isinstance(key, RsaPublicKey) and key.public_key_file is not None:
        known = RsaPublicKey(name=key.name, kind=key.kind, optional=key.optional, public_key=public_key)
        return known.model_copy(update={"public_key": public_pem(known).decode("ascii")})
    return key


_Document = TypeVar("_Document", bound=BaseModel)


def _parsed(model: type[_Document], data: bytes, what: str) -> _Document:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestInvalid(
            f"{what} in the kit can't be read: {place}: {first['msg']}.",
            "Take another copy of the kit; a newer Lifeboat may have written it.",
        ) from None
