"""An incremental backup: what has changed since the newest verified link; or a full, and why.

Source: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-INCREMENTAL-BACKUP
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import psycopg

from lifeboat.errors import BackupFailed
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.tiers import LONGEST_CHAIN
from lifeboat.postgres.base_backup import ParentRefused
from lifeboat.postgres.chains import Chained, chained
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.details import FULL
from lifeboat.postgres.full import Progress, back_up_full, back_up_physical, source_parameters
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.parent_choice import (
    INCREMENTAL_SINCE,
    TOO_OLD_REMEDY,
    ParentChoice,
    ServerState,
    Standing,
    Summary,
    choose_parent,
    summaries_lacking,
)
from lifeboat.postgres.reach import Base
from lifeboat.postgres.server_facts import timeline_of
from lifeboat.postgres.slot import Session
from lifeboat.postgres.standby import is_standby
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.last_verified import last_verified
from lifeboat.repository.system import PRIMARY, SystemRepository, Work

MOST_EVENTS = 20_000
"""So far back the journal is read for the verifications of a chain: about a week beside WAL every five minutes."""


@dataclass(frozen=True)
class Taken:
    """What was committed.

    Attributes:
        copy: an incremental, or a full.
        reason: why it is a full; empty for an incremental.
    """

    copy: Copy
    reason: str


def back_up_incremental(
    repository: SystemRepository,
    source_name: str,
    source: PostgresSource,
    work: Work,
    journal: Journal,
    *,
    progress: Progress = lambda _done, _total: None,
    tick: Callable[[], None] = no_tick,
    retain_until: datetime | None = None,
) -> Taken:
    """Make and commit an incremental on the primary target; a full where there is nothing to build upon.

    Args:
        work: names a recovery point of kind ``incremental``; a full gets the same name with its own kind.
        progress, tick, retain_until: as ``back_up_full`` takes them.

    Raises:
        BackupFailed: the server can't make incrementals, and the policy does not ask for a full instead.
        LifeboatError: nothing was committed.
    """
    choice = _choose(repository, source_name, source, tick)
    reason, remarks = choice.reason, choice.remarks
    if choice.parent is not None:
        try:
            copy = back_up_physical(
                repository,
                source_name,
                source,
                work,
                journal,
                parent=choice.parent,
                still_fits=partial(_insist_on_summaries, choice.parent),
                progress=progress,
                tick=tick,
                retain_until=retain_until,
                remarks=remarks,
            )
        except ParentRefused as refused:
            reason = f"nothing can be built upon {choice.parent.manifest.recovery_point}: {refused.reason}"
        else:
            return Taken(copy, "")
    journal.write("full_forced", source=source_name, reason=reason, remarks=list(remarks))
    copy = back_up_full(
        repository,
        source_name,
        source,
        replace(work, recovery_point=replace(work.recovery_point, kind=FULL)),
        journal,
        progress=progress,
        tick=tick,
        retain_until=retain_until,
        remarks=(f"Taken instead of an incremental: {reason}.", *remarks),
    )
    return Taken(copy, reason)


def _choose(
    repository: SystemRepository, source_name: str, source: PostgresSource, tick: Callable[[], None]
) -> ParentChoice:
    settings = source.tiers.get(Tier.INCREMENTAL)
    parameters = source_parameters(repository, source, what="incremental")
    with connect_sql(parameters, tick=tick) as session:
        is_standby(session, allowed=source.standby)
        major = session.info.server_version // 10000
        if major < INCREMENTAL_SINCE:
            if settings is None or settings.instead != FULL:
                raise BackupFailed(f"PostgreSQL {major} makes no incremental backups.", TOO_OLD_REMEDY)
            return ParentChoice(None, f"PostgreSQL {major} makes no incrementals, and the policy says `instead: full`")
        state = server_state(session)
    links = chained(repository.catalogue(PRIMARY).recovery_points(source_name).copies)
    standing = _standing(repository, source_name, links, state, tick)
    longest = settings.longest_chain if settings is not None and settings.longest_chain is not None else LONGEST_CHAIN
    choice = choose_parent(links.bases, standing, state, longest)
    return replace(choice, remarks=(*choice.remarks, *map(str, links.broken)))


def _standing(
    repository: SystemRepository, source_name: str, links: Chained, state: ServerState, tick: Callable[[], None]
) -> dict[str, Standing]:
    """What the primary target's journal says of the links that could be a parent, or lie below one."""
    own = [base for base in links.bases if base.details.timeline == state.timeline]
    if not own:
        return {}
    # The newest full, all that was made since, and what these build upon: older ones would not be chosen before them.
    newest = next((base for base in reversed(own) if not base.below), own[-1])
    needed = {
        link.manifest.recovery_point: link
        for base in own
        if base.details.stopped >= newest.details.stopped
        for link in base.links
    }
    found = _look(repository, source_name, needed, tick)
    if "verified" not in found.values():
        found |= _look(repository, source_name, {base.manifest.recovery_point: base for base in own}, tick)
    return found


def _look(
    repository: SystemRepository, source_name: str, bases: dict[str, Base], tick: Callable[[], None]
) -> dict[str, Standing]:
    results = last_verified(
        repository,
        PRIMARY,
        [(source_name, name, PRIMARY) for name in bases],
        since=min(base.manifest.committed for base in bases.values()),
        most=MOST_EVENTS,
        tick=tick,
    )
    found: dict[str, Standing] = {}
    for (_, name, _), result in results.items():
        if not result.good:
            found[name] = "failed"
        elif result.manifest == bases[name].copy.sha256:
            found[name] = "verified"
    return found


def server_state(session: Session) -> ServerState:
    """What the choice must know of a server from PostgreSQL 17 on."""
    row = session.execute(
        "SELECT system_identifier, CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
        " ELSE pg_catalog.pg_current_wal_lsn() END::text,"
        " pg_catalog.current_setting('data_checksums') = 'on', pg_catalog.current_setting('summarize_wal') = 'on'"
        " FROM pg_catalog.pg_control_system()"
    ).fetchone()
    assert row is not None
    summaries, summarized = _summaries(session)
    return ServerState(row[0], timeline_of(session), Lsn.parse(row[1]), row[2], row[3], summaries, summarized)


def _summaries(session: Session) -> tuple[tuple[Summary, ...] | None, Lsn | None]:
    try:
        rows = session.execute(
            "SELECT tli, start_lsn::text, end_lsn::text FROM pg_catalog.pg_available_wal_summaries()"
        ).fetchall()
        state = session.execute("SELECT summarized_lsn::text FROM pg_catalog.pg_get_wal_summarizer_state()").fetchone()
    except psycopg.Error:
        return None, None
    summaries = tuple(Summary(int(tli), Lsn.parse(start), Lsn.parse(end)) for tli, start, end in rows)
    return summaries, Lsn.parse(state[0]) if state is not None else None


def _insist_on_summaries(parent: Base, session: Session) -> None:
    """By now the server has written the summaries that the choice could not see yet."""
    if lacking := summaries_lacking(parent, server_state(session)):
        raise ParentRefused(lacking)
