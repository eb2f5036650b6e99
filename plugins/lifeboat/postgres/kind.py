"""PostgreSQL's verbs, as every kind of source has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from lifeboat.errors import PolicyError
from lifeboat.policy.cron import longest_gap
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.sources import SourcePolicy
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.deep_verification import verify_deep
from lifeboat.postgres.details import FULL, INCREMENTAL, WAL, LostWal
from lifeboat.postgres.exports.export import back_up_export
from lifeboat.postgres.exports.preflight import preflight_export
from lifeboat.postgres.exports.reading import exported_in_words
from lifeboat.postgres.exports.records import EXPORT
from lifeboat.postgres.exports.verification import verify_export
from lifeboat.postgres.full import back_up_full, source_parameters
from lifeboat.postgres.full_due import because_of, mark_of
from lifeboat.postgres.incremental import Taken, back_up_incremental
from lifeboat.postgres.logical_backup import back_up_logical
from lifeboat.postgres.logical_details import LOGICAL, logical_details
from lifeboat.postgres.logical_preflight import preflight_logical
from lifeboat.postgres.logical_verification import verify_deep_logical
from lifeboat.postgres.preflight import preflight
from lifeboat.postgres.rebuilding import rebuild
from lifeboat.postgres.replication import ReplicationConnection
from lifeboat.postgres.same_day import back_up_long_full, found_in_words, is_for_long_tiers
from lifeboat.postgres.wal_collection import collect_wal, receiver_name
from lifeboat.postgres.wal_following import follow_wal
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.manifest import Manifest
from lifeboat.repository.retention.points import Role
from lifeboat.repository.system import SystemRepository, Work
from lifeboat.repository.verification import Verified
from lifeboat.source import BackedUp, FullDue, Progress, Stay, Tick
from lifeboat.targets.target import Finding


class PostgresKind:
    """Physical fulls, incrementals and WAL; logical archives; exports of tables."""

    def point_kind(self, tier: Tier, source: SourcePolicy) -> str:
        """``wal``, ``incremental`` and ``export`` for the tiers of that name; ``logical`` or ``full`` for every other,
        by its method."""
        named = {Tier.WAL: WAL, Tier.INCREMENTAL: INCREMENTAL, Tier.EXPORT: EXPORT}
        return named.get(tier) or (LOGICAL if _is_logical(source, tier) else FULL)

    def point_kinds(self, tier: Tier, source: SourcePolicy) -> tuple[str, ...]:
        """The incremental tier takes fulls, too, where it has nothing to build upon."""
        return (INCREMENTAL, FULL) if tier is Tier.INCREMENTAL else (self.point_kind(tier, source),)

    def roles(self) -> Mapping[str, Role]:
        """Incrementals build upon fulls, and WAL leads on from both; archives and exports stand alone."""
        return {FULL: Role.BASE, INCREMENTAL: Role.LINK, WAL: Role.LOG, LOGICAL: Role.ALONE, EXPORT: Role.ALONE}

    def preflight(self, repository: SystemRepository, source_name: str, tier: Tier, *, tick: Tick) -> list[Finding]:
        """Version, settings, privileges, slot, TLS and clock of the server."""
        source = _source(repository, source_name)
        if tier is Tier.EXPORT:
            return preflight_export(repository, source, tick=tick)
        parameters = source_parameters(repository, source, what="preflight")
        if _is_logical(source, tier):
            return preflight_logical(repository, source, parameters, tick=tick)
        with connect_sql(parameters, tick=tick) as session:
            return preflight(
                session,
                partial(ReplicationConnection, parameters, tick=tick),
                parameters=parameters,
                slot_name=source.slot_name(repository.system, source_name),
                tiers={str(name) for name in source.tiers},
                tier=tier.value,
                instead_full=Tier.INCREMENTAL in source.tiers and source.tiers[Tier.INCREMENTAL].instead == FULL,
                standby=source.standby,
                interval=_interval(repository, source),
                receiver=receiver_name(repository.system, source_name) if Tier.WAL in source.tiers else "",
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
        """A full, what has changed since the newest verified link, the WAL since the last run and with ``stay`` what is
        written meanwhile, a logical archive, or an export; those two also for a moment that has passed."""
        source = _source(repository, source_name)
        if work.past is not None:
            copy = rebuild(
                repository, source_name, tier, work, journal, progress=progress, tick=tick, retain_until=retain_until
            )
            return BackedUp((copy,), _rebuilt_in_words(copy.manifest))
        if tier is Tier.EXPORT:
            copy = back_up_export(
                repository, source_name, source, work, journal, progress=progress, tick=tick, retain_until=retain_until
            )
            return BackedUp((copy,), exported_in_words(copy.manifest))
        if work.only:
            raise PolicyError(
                f"The tier {tier} takes the whole server, and single tables were asked for.",
                "Tables alone are taken by the tier `export`.",
            )
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
                _full_due(source, collected.due),
            )
        if _is_logical(source, tier):
            return _logical(
                *back_up_logical(
                    repository,
                    source_name,
                    source,
                    work,
                    journal,
                    progress=progress,
                    tick=tick,
                    retain_until=retain_until,
                ),
                tier,
            )
        if is_for_long_tiers(work.tiers):
            copy, made = back_up_long_full(
                repository, source_name, source, work, journal, progress=progress, tick=tick, retain_until=retain_until
            )
            return _physical(copy, f"It carries {', '.join(copy.manifest.tiers)}: ") if made else _found(copy, tier)
        how = back_up_incremental if tier is Tier.INCREMENTAL else back_up_full
        done = how(
            repository, source_name, source, work, journal, progress=progress, tick=tick, retain_until=retain_until
        )
        return _physical(done.copy, _remark(done)) if isinstance(done, Taken) else _physical(done)

    def verify_deep(
        self, repository: SystemRepository, target: str, copy: Copy, *, passed: Callable[[int], None], tick: Tick
    ) -> tuple[Verified, dict[str, Any]]:
        """Every file against ``backup_manifest``, every WAL record's checksum; every row of an archive or an export."""
        if copy.manifest.kind == EXPORT:
            export = verify_export(repository, target, copy, passed=passed, tick=tick)
            return export.verified, {"tables": export.tables, "files": export.files, "rows": export.rows}
        if copy.manifest.kind == LOGICAL:
            return verify_deep_logical(repository, target, copy, passed=passed, tick=tick)
        deep = verify_deep(repository, target, copy, passed=passed, tick=tick)
        figures: dict[str, Any] = {"files": deep.files, "wal_records": deep.wal_records}
        if deep.last_commit is not None:
            figures["last_commit"] = deep.last_commit.isoformat()
        return deep.verified, figures


def _interval(repository: SystemRepository, source: PostgresSource) -> timedelta | None:
    """The longest time between two incrementals, in the year from now on; ``None`` without a schedule."""
    tier, zone = source.tiers.get(Tier.INCREMENTAL), repository.policy.zone
    if tier is None or tier.schedule is None:
        return None
    return longest_gap(tier.schedule, zone, repository.outside.clock().astimezone(zone).date()).length


def _full_due(source: PostgresSource, lost: LostWal | None) -> FullDue | None:
    if lost is None:
        return None
    first, *others = source.physical_fulls()
    # An incremental that is under way takes a full itself.
    others += [Tier.INCREMENTAL] if Tier.INCREMENTAL in source.tiers else []
    return FullDue(because_of(lost), mark_of(lost), first, tuple(others))


def _physical(copy: Copy, before: str = "") -> BackedUp:
    manifest, alarm = copy.manifest, ""
    if manifest.state == "damaged":
        alarm = (
            f"The server found damaged pages while it was read: {'; '.join(manifest.findings)} The backup is kept "
            "as damaged; it never counts as good."
        )
    read, stored = manifest.plain_size / 1e6, manifest.stored_size / 1e6
    return BackedUp((copy,), f"{before}{read:,.1f} MB read, {stored:,.1f} MB stored", alarm)


def _rebuilt_in_words(manifest: Manifest) -> str:
    rebuilt = manifest.rebuilt
    assert rebuilt is not None
    what = exported_in_words(manifest) if manifest.kind == EXPORT else f"{manifest.plain_size / 1e6:,.1f} MB read"
    return (
        f"Rebuilt for {manifest.moment:%Y-%m-%d %H:%M:%S} UTC from {rebuilt.base} on {rebuilt.target}, WAL up to "
        f"{rebuilt.wal_until}: {what}"
    )


def _found(copy: Copy, tier: Tier) -> BackedUp:
    return BackedUp((copy,), found_in_words(copy, tier))


def _remark(taken: Taken) -> str:
    manifest = taken.copy.manifest
    if taken.reason:
        return f"A full was taken instead of an incremental: {taken.reason}. "
    passed_over = "".join(f"{finding}. " for finding in manifest.findings if manifest.state == "good")
    return f"{passed_over}Changes since {manifest.parent}, in the chain of {manifest.chain}: "


def _is_logical(source: SourcePolicy, tier: Tier) -> bool:
    return isinstance(source, PostgresSource) and source.method_of(tier) == "logical"


def _logical(copy: Copy, made: bool, tier: Tier) -> BackedUp:
    manifest, details = copy.manifest, logical_details(copy.manifest)
    tiers = ", ".join(manifest.tiers)
    if not made:
        return _found(copy, tier)
    databases = len(details.databases)
    return BackedUp(
        (copy,),
        f"{manifest.plain_size / 1e6:,.1f} MB of {databases} database{'s' * (databases != 1)} read, "
        f"{manifest.stored_size / 1e6:,.1f} MB stored; it carries {tiers}. {' '.join(manifest.findings)}".rstrip(),
    )


def _source(repository: SystemRepository, name: str) -> PostgresSource:
    source = repository.policy.sources.get(name)
    if not isinstance(source, PostgresSource):
        raise PolicyError(f"{repository.system} has no PostgreSQL source {name!r}.", "See `lifeboat policy show`.")
    return source
