"""An incremental backup: what has changed since the newest verified link; or a full, and why.

Source: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-INCREMENTAL-BACKUP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import psycopg

from lifeboat.errors import BackupFailed, ManifestInvalid, SlotLost
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.tiers import LONGEST_CHAIN
from lifeboat.postgres.base_backup import ParentRefused
from lifeboat.postgres.chains import Chained, chained
from lifeboat.postgres.connecting import connect_sql, failing_clearly, no_tick
from lifeboat.postgres.details import FULL, wal_details
from lifeboat.postgres.full import Progress, back_up_full, back_up_physical, source_parameters
from lifeboat.postgres.full_due import stands_behind
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
from lifeboat.postgres.slot import Session, find_slot
from lifeboat.postgres.standby import is_standby
from lifeboat.postgres.standing import standing_of
from lifeboat.postgres.timelines import TimelineHistory
from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.system import PRIMARY, SystemRepository, Work


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
    with failing_clearly(), connect_sql(parameters, tick=tick) as session:
        is_standby(session, allowed=source.standby)
        major = session.info.server_version // 10000
        if major < INCREMENTAL_SINCE:
            if settings is None or settings.instead != FULL:
                raise BackupFailed(f"PostgreSQL {major} makes no incremental backups.", TOO_OLD_REMEDY)
            return ParentChoice(None, f"PostgreSQL {major} makes no incrementals, and the policy says `instead: full`")
        state = server_state(session)
        slot_lost = _slot_lost(session, source.slot_name(repository.system, source_name))
    catalogue = repository.catalogue(PRIMARY)
    links = chained(catalogue.recovery_points(source_name).copies)
    standing = _standing(repository, source_name, links, state, tick)
    longest = settings.longest_chain if settings is not None and settings.longest_chain is not None else LONGEST_CHAIN
    full_due = slot_lost or _lost_before(catalogue, source_name, links, standing, state)
    choice = choose_parent(links.bases, standing, state, longest, full_due)
    return replace(choice, remarks=(*choice.remarks, *map(str, links.broken)))


def _slot_lost(session: Session, slot: str) -> str:
    """Why WAL is about to be found lost, before a WAL run has come to name it; empty where nothing says so."""
    try:
        find_slot(session, slot)
    except SlotLost:
        return f"the replication slot {slot!r} has lost WAL that was not collected"
    return ""


def _lost_before(
    catalogue: Catalogue, source_name: str, links: Chained, standing: Mapping[str, Standing], state: ServerState
) -> str:
    """What the newest WAL run on the server's timeline says was lost, with no verified full behind it; else empty."""
    try:
        newest = catalogue.newest_wal(source_name, state.timeline)
        lost = wal_details(newest.manifest).lost if newest is not None else None
    except ManifestInvalid as error:
        return f"whether WAL was lost is not known: the newest WAL run can't be believed: {error.what}"
    history = TimelineHistory(state.timeline)
    behind = (
        base for base in links.bases if not base.below and lost is not None and stands_behind(base, lost, history)
    )
    if lost is None or any(standing.get(base.manifest.recovery_point) == "verified" for base in behind):
        return ""
    return f"{lost} is lost, and no verified full was taken after it"


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
    found = standing_of(repository, source_name, needed, tick)
    if "verified" not in found.values():
        found |= standing_of(repository, source_name, {base.manifest.recovery_point: base for base in own}, tick)
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
