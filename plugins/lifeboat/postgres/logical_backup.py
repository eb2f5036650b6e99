"""A logical archive: every database in ``pg_dump``'s custom format, and the server's roles and tablespaces.

Everything of one database is read in one exported snapshot: ``pg_dump`` (or several, where it is large) and, beside it,
the count and fingerprint of each table. What a restore brings back is held against these.
Sources: https://www.postgresql.org/docs/current/app-pgdump.html,
https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from functools import partial

from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.advisory_lock import wait_for_lock
from lifeboat.postgres.client_programs import access_for, client_programs
from lifeboat.postgres.connecting import connect_sql, failing_clearly, no_tick
from lifeboat.postgres.details import as_details
from lifeboat.postgres.full import source_parameters
from lifeboat.postgres.logical_column_versions import refuse_unaware
from lifeboat.postgres.logical_databases import Session, chosen, databases_of, may_read_passwords
from lifeboat.postgres.logical_details import LOGICAL, LogicalDetails, logical_details
from lifeboat.postgres.logical_dump import Dumping, dump_database, dump_globals
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.past_server import PastServer
from lifeboat.postgres.same_day import already_made, note_found
from lifeboat.postgres.server_facts import server_facts
from lifeboat.postgres.standby import is_standby, promoted, replayed
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import newest_id, next_place, refuse_if_committed
from lifeboat.repository.committing import Made, commit_made, journal_committed
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.system import PRIMARY, SystemRepository, Work

Progress = Callable[[int, int], None]
"""How often a backup that waits for another one of the same source looks whether it has ended."""


def back_up_logical(
    repository: SystemRepository,
    source_name: str,
    source: PostgresSource,
    work: Work,
    journal: Journal,
    *,
    progress: Progress = lambda _done, _total: None,
    tick: Callable[[], None] = no_tick,
    retain_until: datetime | None = None,
    past: PastServer | None = None,
) -> tuple[Copy, bool]:
    """Make and commit a logical archive on the primary target, or find the one that carries this tier already.

    Args:
        work: its ``tiers`` are those that the archive carries, its first the one that this run is for; with ``due``, an
            archive that was made for the same day is taken instead of a second one.
        progress: told the bytes read and the bytes expected.
        tick: called about four times a second; may raise to cancel.
        retain_until: the object lock, if the target sets one.
        past: the server that is read in the source's place; the archive stands for its moment then.

    Returns:
        The recovery point, and whether this run made it.

    Raises:
        LifeboatError: nothing was committed.
    """
    target, catalogue = repository.target(PRIMARY), repository.catalogue(PRIMARY)
    refuse_if_committed(target, RecoveryPointFolder(repository.system, source_name, str(work.recovery_point)))
    words = f"logical {repository.system} {source_name}"
    lock = f"lifeboat {words}"
    to = partial(_to, repository, source) if past is None else past.parameters
    parameters = source_parameters(repository, source, what=words) if past is None else past.parameters()
    with failing_clearly(), connect_sql(parameters, tick=tick) as session:
        if past is None:
            # The second one waits for the first, and may find its work done.
            wait_for_lock(session, lock, tick=tick)
        standby = is_standby(session, allowed=source.standby)
        earlier = catalogue.recovery_points(source_name, deleted=True).of_kind(LOGICAL)
        if past is None:
            found = already_made(earlier, work, lambda manifest: logical_details(manifest).due)
            if found is not None:
                note_found(journal, source_name, work, found)
                return found, False
            work = work.after(newest_id(earlier))
        else:
            earlier = [copy for copy in earlier if copy.manifest.moment <= past.moment]
        begun = repository.outside.clock()
        write_event = partial(journal.write, source=source_name, recovery_point=str(work.recovery_point))
        programs = client_programs(
            source.binaries, at_least=session.info.server_version // 10000, why="read the server"
        )
        databases, left_out = chosen(databases_of(session), source.logical)
        facts = server_facts(session, lambda name: connect_sql(to(name), tick=tick))
        passwords = may_read_passwords(session)
        write_event("backup_begun", target=PRIMARY, attempt=work.attempt, tiers=list(work.tiers))
        destination = repository.destination(target, source_name, work, retain_until=retain_until)
        with access_for(parameters) as access:
            dumping = Dumping(
                programs=programs,
                access=access,
                policy=source.logical,
                destination=destination,
                settings=repository.streams,
                expected=sum(
                    found.size_bytes or 0 for found in facts.databases if found.name in {d.name for d in databases}
                ),
                progress=progress,
                tick=tick,
                stands_for=_stands_for(session, past, standby=standby),
            )
            # One table is enough for all databases: the programs are the same.
            any(refuse_unaware(to(database.name), database.name, programs, access, tick=tick) for database in databases)
            made = []
            for database in databases:
                known = next(one for one in facts.databases if one.name == database.name)
                made.append(dump_database(dumping, to(database.name), database, known))
            locations = past.locations(facts) if past is not None else {}
            dump_globals(dumping, parameters.keywords["dbname"], passwords=passwords, locations=locations)
        details = LogicalDetails(
            server=facts if past is None else past.facts(facts),
            due=work.due,
            databases=tuple(made),
            left_out=left_out,
            role_passwords=passwords,
            dumped_by=programs.version,
            standby=standby,
        )
        alarm = promoted(source.standby, standby) if past is None else ""
        findings = [*_findings(details, earlier), *dumping.said, *filter(None, [alarm])]
        point = Made(
            begun=begun,
            moment=max(database.moment for database in made),
            findings=tuple(findings),
            details=as_details(details),
            streams=tuple(dumping.stored),
            rebuilt=past.rebuilt if past is not None else None,
            versions={"postgresql": facts.version, "pg_dump": programs.version},
        )
        # Under the lock still, or again: who waits for it must find what was made.
        with past.row(lock) if past is not None else nullcontext():
            place = next_place(catalogue.recovery_points(source_name, deleted=True).of_kind(LOGICAL))
            copy = commit_made(repository, source_name, work, place, point, retain_until=retain_until)
    journal_committed(journal, copy, findings=findings)
    return copy, True


def _to(repository: SystemRepository, source: PostgresSource, database: str) -> ConnectionParameters:
    return connection_parameters(
        repository.outside.connection(source.connection),
        Tls(source.tls, source.tls_minimum),
        application_name=f"lifeboat logical {repository.system}",
        database=database,
    )


def _stands_for(session: Session, past: PastServer | None, *, standby: bool) -> Callable[[], datetime] | None:
    """The moment that what is read stands for, where the server's own clock does not tell it."""
    if past is not None:
        return lambda: past.moment
    return (lambda: replayed(session).moment) if standby else None


def _findings(details: LogicalDetails, earlier: list[Copy]) -> list[str]:
    found = [
        f"The database {name} is not in it: {reason}."
        for name, reason in details.left_out.items()
        if reason != "it is a template"
    ]
    if not details.role_passwords:
        found.append(
            "The roles' passwords are not in it: the role that reads may not see them (GRANT pg_read_all_data)."
        )
    if earlier:
        before = logical_details(earlier[-1].manifest).server.system_identifier
        if before != details.server.system_identifier:
            found.append(
                f"The archive before it, {earlier[-1].manifest.recovery_point}, is of another cluster ({before}): "
                f"this one is {details.server.system_identifier}. An upgrade does that; a wrong connection, too."
            )
    return found
