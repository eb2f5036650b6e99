"""A policy: everything that one system's owners want, as they wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from lifeboat.policy.apart import may_overlap
from lifeboat.policy.configuration_source import ConfigurationSource
from lifeboat.policy.drills import DrillPolicy, ProofPolicy
from lifeboat.policy.encryption import EncryptionPolicy
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.naming import Name, SourceName, SystemName, collisions
from lifeboat.policy.objectives import Objectives
from lifeboat.policy.part import Part
from lifeboat.policy.people import AlertPolicy, Contact, RestorePolicy, Text
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.problems import Refused
from lifeboat.policy.signing import SigningPolicy
from lifeboat.policy.size import ByteSize
from lifeboat.policy.sources import SourcePolicy
from lifeboat.policy.targets import PRIMARY, TargetPolicy
from lifeboat.policy.upkeep import BudgetPolicy, RetentionPolicy, ReviewPolicy

_SMALLEST_VOLUME, _LARGEST_VOLUME = 1024**2, 1024**4


def _checked_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Refused(f"`{name}` is no time zone.", "Write a name of the IANA list: `UTC`, `Europe/Paris`.") from error
    return name


def _checked_volume(size: int) -> int:
    if not _SMALLEST_VOLUME <= size <= _LARGEST_VOLUME:
        raise Refused("A volume has between 1 MiB and 1 TiB.", "The default is `4 GiB`.")
    return size


class StreamPolicy(Part):
    """How bytes are prepared on their way."""

    compression_level: Annotated[int, Field(ge=1, le=19)] = 2
    """The level of zstd: 1 is fastest, 19 smallest; 2 takes a third less time than 3 (docs/performance.md)."""

    wal_compression_level: Annotated[int, Field(ge=1, le=19)] = 1
    """The level of zstd for WAL: of the WAL that was measured, 1 takes a fifth less time than 2 and stores no more."""

    compression_threads: Annotated[int, Field(ge=1, le=64)] = 2
    """How many threads compress."""

    volume_size: Annotated[ByteSize, AfterValidator(_checked_volume)] = 4 * 1024**3
    """The most plain bytes in one stored object; a longer stream is cut."""


class Policy(Part):
    """What one system needs: what is backed up, when, where to, for how long, and who is told."""

    format_version: Literal[1]
    """The version of this format."""

    system: SystemName
    """The system's name; the file is called `<system>.yaml`."""

    description: str = ""
    """What the system is, for people."""

    criticality: Literal["critical", "standard"] = "standard"
    """How bad its loss is."""

    timezone: Annotated[
        str, AfterValidator(_checked_zone), WithJsonSchema({"type": "string", "examples": ["UTC", "Europe/Paris"]})
    ] = "UTC"
    """The IANA time zone on whose clock schedules run and months are counted."""

    contacts: dict[Name, Contact] = Field(default_factory=dict)
    """Whom to call: `primary`, `backup`, `emergency`."""

    responsibilities: dict[Name, Text] = Field(default_factory=dict)
    """Which team answers for what."""

    compliance: dict[Name, Text] = Field(default_factory=dict)
    """The rules that this policy answers to, and how."""

    objectives: Objectives
    """How soon the system must be back, and how much may be lost."""

    targets: dict[Name, TargetPolicy]
    """The places that keep recovery points; `primary` is written first, the others are copied from it."""

    encryption: EncryptionPolicy
    """The keys that wrap the data keys."""

    signing: SigningPolicy
    """Who signs, and whose signatures are believed."""

    streams: StreamPolicy = StreamPolicy()
    """Compression and volumes."""

    sources: Annotated[dict[SourceName, SourcePolicy], Field(min_length=1)]
    """What is backed up."""

    alerts: AlertPolicy = AlertPolicy()
    """Who is told of failures and dangers, and how."""

    restore: RestorePolicy = RestorePolicy()
    """Who must approve a restore."""

    tests: ProofPolicy | None = None
    """The regular restore test."""

    drills: DrillPolicy | None = None
    """The regular drill: recovery from the loss of everything."""

    retention: RetentionPolicy = RetentionPolicy()
    """The guards around deleting."""

    reviews: ReviewPolicy | None = None
    """When this policy is looked at again."""

    budget: BudgetPolicy | None = None
    """What the backups may cost in a month."""

    @property
    def zone(self) -> ZoneInfo:
        """The time zone on whose clock schedules run and months are counted."""
        return ZoneInfo(self.timezone)

    @property
    def primary(self) -> TargetPolicy:
        """The target that every backup is written to first."""
        return self.targets[PRIMARY]

    @model_validator(mode="after")
    def _targets_fit(self) -> Self:
        if PRIMARY not in self.targets:
            raise Refused("There is no target `primary`, where every backup goes first.", "Add it.", key=("targets",))
        if not self.primary.required:
            raise Refused(
                "The primary target is always required.", "Remove `required`.", key=("targets", PRIMARY, "required")
            )
        seen: dict[tuple[str, str | None, str | None], str] = {}
        for name, target in self.targets.items():
            place = (target.url, target.connection, target.queue)
            if place in seen:
                raise Refused(
                    f"The targets `{seen[place]}` and `{name}` are one and the same place.",
                    "A second copy needs a place of its own.",
                    key=("targets", name, "url"),
                )
            seen[place] = name
        return self

    @model_validator(mode="after")
    def _sources_are_apart_from_targets(self) -> Self:
        for name, source in self.sources.items():
            for target_name, target in self.targets.items():
                if not isinstance(source, FilesSource) or not may_overlap(source, target):
                    continue
                # Other connections may lead to other stores: preflight, which can ask them, looks again.
                if source.scheme == "sftp" or source.connection == target.connection:
                    raise Refused(
                        f"`{name}` and the target `{target_name}` lie within each other: it would back up its own "
                        "backups.",
                        "Give the target a place of its own.",
                        key=("sources", name, "url"),
                    )
        return self

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for name in self.objectives.sources:
            if name not in self.sources:
                raise Refused(
                    f"There is no source `{name}`.",
                    f"The sources are {', '.join(f'`{known}`' for known in self.sources)}.",
                    key=("objectives", "sources", name),
                )
        for key, name in self._sources_asked():
            if name not in self.sources:
                raise Refused(
                    f"There is no source `{name}`.",
                    f"The sources are {', '.join(f'`{known}`' for known in self.sources)}.",
                    key=key,
                )
        for collision in collisions({self.system: self.sources}):
            raise Refused(
                f"Two DAGs would be called `{collision.id}`: {' and '.join(collision.owners)}.",
                "Rename one of them.",
                key=("sources",),
            )
        return self

    @model_validator(mode="after")
    def _tests_spare_the_sources(self) -> Self:
        connection = self.tests.connection if self.tests is not None else None
        for name, source in self.sources.items():
            if connection is not None and isinstance(source, PostgresSource) and source.connection == connection:
                raise Refused(
                    f"`{connection}` leads to the source `{name}` itself: a restore test restores beside it, never "
                    "into it.",
                    "Name the connection of a staging server, or leave it out: then a scratch server is made.",
                    key=("tests", "connection"),
                )
        return self

    @model_validator(mode="after")
    def _somebody_can_agree(self) -> Self:
        if self.drills is not None and self.drills.approval and not self.restore.approvers:
            raise Refused(
                "Nobody can agree to a drill.", "Name `approvers` under `restore`.", key=("drills", "approval")
            )
        return self

    def _sources_asked(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """The sources that restore tests and drills name, each with its key."""
        for key, proof in (("tests", self.tests), ("drills", self.drills)):
            for name in proof.application if proof is not None else ():
                yield (key, "application", name), name
        if self.drills is not None and self.drills.heartbeat is not None:
            yield ("drills", "heartbeat", "source"), self.drills.heartbeat.source


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy and the file that says it.

    Attributes:
        policy: what it says.
        path: the file; of a stale policy, the file that is broken now.
        text: the file's text; of a stale policy, that of the last valid copy.
        digest: ``sha256:…`` of the file's bytes that ``text`` came from.
        stale: whether the file is broken now and this is its last valid copy.
        notices: what a person should know, such as parts that are validated but not built yet.
        environment: the variables that the policy refers to, with the values it was read with.
    """

    policy: Policy
    path: Path
    text: str = field(repr=False)
    digest: str
    stale: bool = False
    notices: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def connections(self, source: str | None = None) -> set[str]:
        """The ids of all connections that the policy names; with ``source``, those that its backup can't do without.

        The latter are those of the targets, the keys, the signature and the source itself: not of other sources, alerts
        or the staging environment, not of optional keys, nor those that only retention uses.
        """
        if source is None:
            return set(_named_connections(self.policy))
        policy = self.policy
        keys = [key for key in policy.encryption.keys if not key.optional]
        parts: list[Part] = [*policy.targets.values(), *keys, policy.signing, policy.sources[source]]
        removing = {target.retention_connection for target in policy.targets.values()}
        removing |= _restoring_connections(policy.sources[source])
        kept = {target.connection for target in policy.targets.values()}
        return {name for part in parts for name in _named_connections(part)} - (removing - kept)


def _restoring_connections(source: SourcePolicy) -> set[str | None]:
    """Those that only a restore into a store of secrets uses."""
    if not isinstance(source, ConfigurationSource):
        return set()
    return {store.restore_connection for store in source.secrets} - {store.connection for store in source.secrets}


def _named_connections(value: object) -> Iterator[str]:
    if isinstance(value, Part):
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if name.endswith("connection") and isinstance(inner, str):
                yield inner
            else:
                yield from _named_connections(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _named_connections(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _named_connections(inner)
