"""What a recovery kit holds, and where in its archive it lies.

    READ-ME-FIRST.txt                    what this is, and where to begin
    manifest.json                        every other file with its size and SHA-256; who made it, when
    signatures/<system>.json             signatures of manifest.json, one by each system's signing key
    policies/<system>.yaml               the policies, as they were written
    systems/<system>.json                target addresses, trusted keys, wrapping keys, variables: nothing secret
    credentials/<system>/recovery_kit/…  connections and local keys, sealed by the break-glass keys alone
    restore-by-hand.md, restore-archive-by-hand.md, runbooks/…  what to do
    reader/…                             the reader, and what it needs, pinned with hashes
    wheels/…                             these, where a directory of wheels was given
    requirements.txt                     what the whole of Lifeboat needs

``credentials`` is a target in the ordinary layout, so that everything that opens a recovery point opens it: Lifeboat,
and the reader by hand.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from lifeboat.policy.naming import SystemName
from lifeboat.repository.layout import is_recovery_point

KIT = "kit"
MANIFEST = "manifest.json"
READ_ME = "READ-ME-FIRST.txt"
PAGE = "restore-by-hand.md"
ARCHIVE_PAGE = "restore-archive-by-hand.md"
READER = "reader/lifeboat_reader.py"
READER_REQUIREMENTS = "reader/requirements.txt"
REQUIREMENTS = "requirements.txt"
RUNBOOKS = "runbooks/"
WHEELS = "wheels/"
CREDENTIALS = "credentials/"
CREDENTIALS_SOURCE = "recovery_kit"
CREDENTIALS_STREAM = "credentials.json"


def policy_file(system: str) -> str:
    """Where a system's policy lies."""
    return f"policies/{system}.yaml"


def facts_file(system: str) -> str:
    """Where the rest of what is known of a system lies."""
    return f"systems/{system}.json"


def signature_file(system: str) -> str:
    """Where the signature by a system's key lies."""
    return f"signatures/{system}.json"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KitFile(_Model):
    """One file of the archive."""

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class KitSystem(_Model):
    """A system in the kit; ``policy_digest`` is ``sha256:…`` of its policy."""

    name: SystemName
    policy_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


class KitManifest(_Model):
    """The kit's own manifest.

    Attributes:
        format_version: of this document and of the kit.
        kit: its id, of the form of a recovery point's.
        created: when it was made.
        lifeboat: the version that made it.
        systems: whose kit it is.
        credentials: whether sealed credentials are in it.
        wheels: whether the reader's wheels are in it.
        notices: what whoever holds the kit should know.
        files: every file but this one and its signatures.
    """

    format_version: Literal[1] = 1
    kit: str
    created: AwareDatetime
    lifeboat: str
    systems: tuple[KitSystem, ...] = Field(min_length=1)
    credentials: bool
    wheels: bool
    notices: tuple[str, ...] = ()
    files: tuple[KitFile, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        names = [file.name for file in self.files]
        systems = [system.name for system in self.systems]
        if len(set(names)) != len(names) or len(set(systems)) != len(systems):
            raise ValueError("a file or a system is named twice")
        if not is_recovery_point(self.kit):
            raise ValueError("kit is not a name of that form")
        for name in names:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or str(path) != name:
                raise ValueError("a file lies outside the kit")
        needed = {READER, READER_REQUIREMENTS, PAGE, READ_ME}
        needed |= {file(system) for system in systems for file in (policy_file, facts_file)}
        if needed - set(names):
            raise ValueError(f"it names no {', '.join(sorted(needed - set(names)))}")
        return self

    def to_json(self) -> bytes:
        """The document as it is stored and signed."""
        return self.model_dump_json(indent=2).encode() + b"\n"


class TargetFacts(_Model):
    """Where a target is; ``endpoint`` and ``region`` come from its connection where that names them."""

    url: str
    connection: str | None
    endpoint: str | None = None
    region: str | None = None
    marker: str | None = None


class TrustedKeyFacts(_Model):
    """A public key whose signatures are believed: base64 of the 32 raw bytes of an Ed25519 key, and when."""

    id: str
    public_key: str
    valid_from: datetime
    valid_until: datetime | None


class WrappingKeyFacts(_Model):
    """A key that wraps data keys: its name in messages, its kind, and the public half of an RSA pair (PEM)."""

    name: str
    kind: str
    public_key: str | None = None


class SystemFacts(_Model):
    """What a restore must know of a system and can't read from its policy's text alone. Nothing in it is secret.

    Attributes:
        system: its name.
        environment: the variables that the policy refers to, with the values that it was read with.
        targets: by name.
        trusted_keys: of manifests, the journal and this kit.
        wrapping_keys: in the policy's order.
    """

    format_version: Literal[1] = 1
    system: SystemName
    environment: dict[str, str]
    targets: dict[str, TargetFacts]
    trusted_keys: tuple[TrustedKeyFacts, ...]
    wrapping_keys: tuple[WrappingKeyFacts, ...]

    def to_json(self) -> bytes:
        """The document as it is stored."""
        return self.model_dump_json(indent=2).encode() + b"\n"
