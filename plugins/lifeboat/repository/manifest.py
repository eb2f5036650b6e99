"""The manifest: all that is known of a recovery point at the moment it is committed. Plain JSON without secrets.

Readers of this and later versions promise to read ``format_version`` 1 for seven years after the last release that
wrote it. The schema is published in ``docs/manifest.schema.json``.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lifeboat.errors import ManifestInvalid
from lifeboat.repository.layout import RecoveryPointFolder, RecoveryPointId, is_attempt, is_recovery_point
from lifeboat.repository.published import published_schema
from lifeboat.streams.stored import StoredStream

FORMAT_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Previous(_Model):
    """The manifest before this one among its source's recovery points of one kind."""

    recovery_point: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class WrappedKey(_Model):
    """A key that every object of the recovery point can be opened with: provider and name (ARN for AWS KMS)."""

    provider: str
    name: str


class Rebuilt(_Model):
    """How a recovery point was made of others: its source was brought back to the moment, and read there.

    Attributes:
        base: the full, or the last link of the chain, that it began with.
        target: where that and the WAL were read.
        timeline: of the WAL, where it was left.
        wal_until: the position at which it was left; ``None`` where that is not known.
    """

    base: str
    target: str
    timeline: int
    wal_until: str | None


class Run(_Model):
    """Who made it: a DAG run, or a command."""

    dag_id: str | None = None
    run_id: str | None = None
    try_number: int | None = None
    command: str | None = None

    @property
    def named(self) -> str:
        """It in words: the command, or the DAG with its run."""
        return self.command or f"{self.dag_id} {self.run_id}"


class Manifest(_Model):
    """A recovery point's manifest.

    Attributes:
        format_version: of this document and of the objects it names.
        system, source, recovery_point, attempt: its own place; it is refused anywhere else.
        timeline: the WAL timeline, for recovery points of kind ``wal``; part of the place.
        kind: ``full``, ``wal``, …: the source's own word.
        tiers: the tiers it was made for.
        sequence: its number among its source's points of its kind, from 1.
        previous: the manifest with the number before; ``None`` for the first.
        chain: the id of the full that it builds upon, its own for a full.
        parent: the recovery point that it is incremental to.
        needs: the other recovery points that it refers to objects of. Written only where there are any: a Lifeboat that
            does not know it reads all the others.
        begun, committed: when the work began and ended.
        moment: the moment that the data stands for: when it was read, whatever date a DAG run carries.
        state: ``damaged`` when the source reported damage while it was read: kept, never a parent, never verified.
        findings: what was found on the way, in sentences.
        degraded: which of the policy's optional keys were out of reach, and why.
        details: the source's own part; its model stands with the source.
        streams: the stored objects.
        wrapped_keys: the keys that open them.
        tool_versions: of everything that had a hand in the bytes.
        policy_digest: ``sha256:`` of the policy's file, kept beside the recovery points.
        run: who made it.
        note: what the person who started it wrote.
        rebuilt: where it was not read from its source but made of other recovery points, later than its ``moment``:
            ``begun`` and ``committed`` say when. Written only then, as ``needs`` is.
    """

    format_version: Literal[1] = 1
    system: str
    source: str
    recovery_point: str
    attempt: str
    timeline: int | None = None
    kind: str
    tiers: tuple[str, ...] = ()
    sequence: int = Field(ge=1)
    previous: Previous | None
    chain: str
    parent: str | None = None
    needs: tuple[str, ...] = Field(default=(), exclude_if=lambda needs: not needs)
    begun: AwareDatetime
    committed: AwareDatetime
    moment: AwareDatetime
    state: Literal["good", "damaged"] = "good"
    findings: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    details: dict[str, Any]
    streams: tuple[StoredStream, ...]
    wrapped_keys: tuple[WrappedKey, ...]
    tool_versions: dict[str, str]
    policy_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    run: Run
    note: str = ""
    rebuilt: Rebuilt | None = Field(default=None, exclude_if=lambda rebuilt: rebuilt is None)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not is_recovery_point(self.recovery_point) or not is_attempt(self.attempt):
            raise ValueError("recovery_point or attempt is not a name of that form")
        point = RecoveryPointId.parse(self.recovery_point)
        if point.kind != self.kind:
            raise ValueError("kind is another one than recovery_point says")
        if self.rebuilt is not None and point.begun != self.moment.replace(microsecond=0):
            raise ValueError("it was rebuilt, and recovery_point says another time than moment")
        if any(not is_recovery_point(name) or name == self.recovery_point for name in self.needs):
            raise ValueError("needs names itself, or what is no recovery point")
        if (self.sequence == 1) != (self.previous is None):
            raise ValueError("the first of a sequence, and only the first, has no previous manifest")
        names = [stream.name for stream in self.streams]
        files = [volume.file for stream in self.streams for volume in stream.volumes]
        if len(set(names)) != len(names) or len(set(files)) != len(files):
            raise ValueError("a stream or a file is named twice")
        if any("/" in file or file.startswith(".") for file in files):
            raise ValueError("a file lies outside the attempt's folder")
        for stream in self.streams:
            if [volume.number for volume in stream.volumes] != list(range(1, len(stream.volumes) + 1)):
                raise ValueError(f"the volumes of {stream.name} are not numbered from 1 without a gap")
        return self

    @property
    def stands_on(self) -> tuple[str, ...]:
        """What it can't be restored without, itself left out: its parent, and what it refers to."""
        return (*((self.parent,) if self.parent is not None else ()), *self.needs)

    @property
    def placed(self) -> datetime:
        """Its place in time among its source's recovery points: when it was begun, or what it was rebuilt for."""
        return self.begun if self.rebuilt is None else self.moment

    @property
    def folder(self) -> RecoveryPointFolder:
        """Its place on every target."""
        return RecoveryPointFolder(self.system, self.source, self.recovery_point, self.timeline)

    @property
    def stored_size(self) -> int:
        """Bytes at rest, without the manifest."""
        return sum(stream.stored_size for stream in self.streams)

    @property
    def plain_size(self) -> int:
        """Bytes before compression and encryption."""
        return sum(stream.plain_size for stream in self.streams)

    def stream(self, name: str) -> StoredStream:
        """The stream of that name.

        Raises:
            ManifestInvalid: there is none.
        """
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise ManifestInvalid(
            f"The manifest of {self.recovery_point} names no stream {name!r}.", "Use another recovery point."
        )

    def to_json(self) -> bytes:
        """The document as it is stored and signed."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def digest_of(document: bytes) -> str:
    """SHA-256 of a stored manifest, hexadecimal."""
    return hashlib.sha256(document).hexdigest()


def manifest_schema_text() -> str:
    """The JSON Schema of a manifest, as ``docs/manifest.schema.json`` holds it."""
    return published_schema(Manifest, "Lifeboat manifest")


def _version_of(document: bytes) -> int | None:
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        return None
    version = found.get("format_version") if isinstance(found, dict) else None
    return version if isinstance(version, int) else None


def parse_manifest(document: bytes, folder: RecoveryPointFolder, what: str) -> Manifest:
    """Read a stored manifest and insist on its being the one that belongs to ``folder``.

    Raises:
        ManifestInvalid: it can't be read, is of an unknown version, or belongs elsewhere.
    """
    try:
        manifest = Manifest.model_validate_json(document)
    except ValidationError as error:
        version = _version_of(document)
        if version not in (None, FORMAT_VERSION):
            raise ManifestInvalid(
                f"{what} is of format version {version}; this Lifeboat reads version {FORMAT_VERSION}.",
                "A newer Lifeboat wrote it: read it with that one.",
            ) from None
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestInvalid(
            f"{what} can't be read: {place}: {first['msg']}.",
            "Compare it with the other targets' copies.",
        ) from None
    if manifest.folder != folder:
        raise ManifestInvalid(
            f"{what} belongs to {manifest.folder.path}, not to where it lies.",
            "It was copied or moved here. Do not restore from it; compare the other targets' copies.",
        )
    return manifest


_Part = TypeVar("_Part", bound=BaseModel)


def parse_part(model: type[_Part], manifest: Manifest) -> _Part:
    """The source's own part of a manifest; raises ``ManifestInvalid``."""
    try:
        return model.model_validate(manifest.details)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ManifestInvalid(
            f"The manifest of {manifest.recovery_point} says what can't be read: {place}: {first['msg']}.",
            "Compare the other targets' copies; a newer Lifeboat may have written it.",
        ) from None
