"""PostgreSQL's verbs, as every kind of source has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from lifeboat.errors import PolicyError
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.deep_verification import verify_deep
from lifeboat.postgres.details import FULL, WAL
from lifeboat.postgres.full import back_up_full, source_parameters
from lifeboat.postgres.preflight import preflight
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.wal_collection import collect_wal
from lifeboat.postgres.wal_following import follow_wal
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.repository.verification import Verified
from lifeboat.source import BackedUp, Progress, Stay, Tick
from lifeboat.targets.target import Finding


class PostgresKind:
    """Physical fulls and WAL."""

    def point_kind(self, tier: Tier) -> str:
        """``wal`` for the WAL tier, ``full`` for every other."""
        return WAL if tier is Tier.WAL else FULL

    def preflight(self, repository: SystemRepository, source_name: str, tier: Tier, *, tick: Tick) -> list[Finding]:
        """Version, settings, privileges, slot, TLS and clock of the server."""
        source = _source(repository, source_name)
        parameters = source_parameters(repository, source, what="preflight")
        with connect_sql(parameters, tick=tick) as session:
            return preflight(
                session,
                partial(ReplicationConnection, parameters, tick=tick),
                parameters=parameters,
                slot_name=source.slot_name(repository.system, source_name),
                tiers={str(name) for name in source.tiers},
                clock=repository.outside.clock,
            )

    def back_up(
        self,
        repository: SystemRepository,
        source_name: str,
        tier: Tier,
        work: Work,
        journal: Journal,
        *,
        progress: Progress,
        tick: Tick,
        retain_until: datetime | None,
        stay: Stay | None = None,
    ) -> BackedUp:
        """A full, or the WAL since the last run, and with ``stay`` what is written meanwhile."""
        source = _source(repository, source_name)
        if tier is Tier.WAL:
            collect = collect_wal
            if stay is not None:
                collect = partial(follow_wal, stay=stay, flush_every=source.tiers[tier].flush_every.fixed)
            collected = collect(
                repository, source_name, source, work, journal, progress=progress, tick=tick, retain_until=retain_until
            )
            end = collected.copies[-1].manifest.details["end_lsn"]
            return BackedUp(
                collected.copies,
                f"{collected.received / 1e6:,.1f} MB of WAL up to {end}; "
                f"covered until {collected.covered_until:%Y-%m-%d %H:%M:%S %Z}",
                collected.alarm,
            )
        copy = back_up_full(
            repository, source_name, source, work, journal, progress=progress, tick=tick, retain_until=retain_until
        )
        manifest = copy.manifest
        alarm = ""
        if manifest.state == "damaged":
            alarm = (
                f"The server found damaged pages while it was read: {'; '.join(manifest.findings)} The backup is kept "
                "as damaged; it never counts as good."
            )
        return BackedUp(
            (copy,),
            f"{manifest.plain_size / 1e6:,.1f} MB read, {manifest.stored_size / 1e6:,.1f} MB stored",
            alarm,
        )

    def verify_deep(
        self, repository: SystemRepository, target: str, copy: Copy, *, passed: Callable[[int], None], tick: Tick
    ) -> tuple[Verified, dict[str, Any]]:
        """Every file against ``backup_manifest``, every WAL record's checksum."""
        deep = verify_deep(repository, target, copy, passed=passed, tick=tick)
        figures: dict[str, Any] = {"files": deep.files, "wal_records": deep.wal_records}
        if deep.last_commit is not None:
            figures["last_commit"] = deep.last_commit.isoformat()
        return deep.verified, figures


def _source(repository: SystemRepository, name: str) -> PostgresSource:
    source = repository.policy.sources.get(name)
    if not isinstance(source, PostgresSource):
        raise PolicyError(f"{repository.system} has no PostgreSQL source {name!r}.", "See `lifeboat policy show`.")
    return source
