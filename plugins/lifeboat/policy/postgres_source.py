"""A PostgreSQL server as a source."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lifeboat.policy.environment import ExpandedPath
from lifeboat.policy.export import ExportPolicy
from lifeboat.policy.logical import LogicalPolicy
from lifeboat.policy.naming import Tier
from lifeboat.policy.part import ConnectionId, Part
from lifeboat.policy.problems import Refused
from lifeboat.policy.size import ByteRate
from lifeboat.policy.tiers import FULL_TIERS, TierPolicy, Tiers, check_tiers

# NAMEDATALEN - 1; https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION-SLOTS
_LONGEST_SLOT_NAME = 63
# The bounds of BASE_BACKUP's MAX_RATE: https://www.postgresql.org/docs/current/protocol-replication.html
_SLOWEST, _FASTEST = 32 * 1024, 1024**3
# What is kept for long outlives its major version, which a physical backup doesn't.
_LOGICAL_BY_DEFAULT = frozenset({Tier.WEEKLY, Tier.MONTHLY, Tier.YEARLY, Tier.EXPORT})


def _checked_rate(rate: int) -> int:
    if not _SLOWEST <= rate <= _FASTEST:
        raise Refused("PostgreSQL limits a base backup to between 32 KiB/s and 1 GiB/s.", "Write a rate between them.")
    return rate


class PostgresSource(Part):
    """A PostgreSQL server (all its databases), read over the replication protocol."""

    kind: Literal["postgres"]
    """A PostgreSQL server, all databases of it."""

    connection: ConnectionId
    """The Airflow connection of a role with the attribute REPLICATION."""

    standby: bool = False
    """Whether the connection leads to a hot standby, which is read in the primary's place; a standby is refused
    otherwise."""

    tls: Literal["verify-full", "verify-ca", "require", "off"] = "verify-full"
    """What TLS must prove; as in libpq's `sslmode`."""

    tls_minimum: Literal["1.2", "1.3"] = "1.3"
    """The oldest version of TLS that is spoken."""

    slot: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,63}$")] | None = None
    """The replication slot that keeps WAL until it is stored; by default `lifeboat_<system>_<source>`."""

    checkpoint: Literal["fast", "spread"] = "fast"
    """How a base backup begins: at once, or sparing the server's disks."""

    max_rate: Annotated[ByteRate, AfterValidator(_checked_rate)] | None = None
    """The most that a base backup reads, such as `100 MiB/s`."""

    manifest_checksums: Literal["crc32c", "sha256"] = "crc32c"
    """The checksums in PostgreSQL's own backup manifest."""

    binaries: ExpandedPath | None = None
    """The directory with PostgreSQL's programs on the workers: for restores, and for logical archives, which take those
    of the server's major version or a later one. May hold `${NAME}`."""

    logical: LogicalPolicy = LogicalPolicy()
    """What logical archives hold, and how they are read."""

    export: ExportPolicy = ExportPolicy()
    """What the tier `export` holds."""

    tiers: Tiers
    """When it is backed up and how long that is kept."""

    def slot_name(self, system: str, source: str) -> str:
        """The name of the replication slot: at most 63 lower-case letters, digits and underscores.

        A default name that would be too long is cut, and ends in eight digits of its SHA-256.
        """
        if self.slot is not None:
            return self.slot
        name = f"lifeboat_{system}_{source}"
        if len(name) <= _LONGEST_SLOT_NAME:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        return f"{name[: _LONGEST_SLOT_NAME - 9]}_{digest}"

    def method_of(self, tier: Tier) -> Literal["physical", "logical"]:
        """How a tier reads the server."""
        return self.tiers[tier].method or ("logical" if tier in _LOGICAL_BY_DEFAULT else "physical")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_tiers(self.tiers, self.kind, (tier for tier in Tier if tier is not Tier.CHANGE))
        for tier, only in ((Tier.WAL, "physical"), (Tier.INCREMENTAL, "physical"), (Tier.EXPORT, "logical")):
            if tier in self.tiers and self.method_of(tier) != only:
                raise Refused(
                    f"The tier `{tier}` is {only} by nature.",
                    "Remove `method`.",
                    key=("tiers", tier.value, "method"),
                )
        if "export" in self.model_fields_set and Tier.EXPORT not in self.tiers:
            raise Refused(
                "It says what an export holds, and there is no tier `export`.", "Add the tier.", key=("export",)
            )
        fulls = [tier for tier in FULL_TIERS if tier in self.tiers and self.method_of(tier) == "physical"]
        for tier in (Tier.WAL, Tier.INCREMENTAL):
            if tier in self.tiers and not fulls:
                raise Refused(
                    f"The tier `{tier}` builds on a physical full backup, and there is none.",
                    "Add one: the tier `daily`, or `weekly` with `method: physical`.",
                    key=("tiers", tier.value),
                )
        return self

    def physical_fulls(self) -> dict[Tier, TierPolicy]:
        """The tiers that make full physical backups."""
        return {
            tier: self.tiers[tier] for tier in FULL_TIERS if tier in self.tiers and self.method_of(tier) == "physical"
        }
