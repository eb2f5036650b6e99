"""Everything that a restore of a logical archive has to know before it begins: read, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from lifeboat.errors import LifeboatError, RestoreError
from lifeboat.postgres.client_programs import Programs, client_programs
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.logical_databases import things_in
from lifeboat.postgres.logical_details import DatabaseArchive, TableContent, logical_details
from lifeboat.postgres.logical_fitting import fit
from lifeboat.postgres.logical_home import encoding_obstacles, home_of, there_in
from lifeboat.postgres.logical_marks import said_of
from lifeboat.postgres.logical_naming import restored_name
from lifeboat.postgres.logical_planning import DatabasePlan, Home, LogicalPlan, choose_databases, obstacles
from lifeboat.postgres.logical_reading import definitions_in, listing_of
from lifeboat.postgres.logical_replacing import earlier, find_replaced
from lifeboat.postgres.logical_selection import Entry, Selection, select, select_rows, tables_like
from lifeboat.postgres.logical_verification import read_contents
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository


def prepare(
    repository: SystemRepository,
    copy: Copy,
    parameters: ConnectionParameters,
    *,
    binaries: Path | None,
    databases: Sequence[str] = (),
    only: Sequence[str] = (),
    name: str | None = None,
    existing: ConnectionParameters | None = None,
    replace_databases: bool = False,
    globals_wanted: bool = False,
    owners: bool = True,
    called: Callable[[str, datetime], str] = restored_name,
    tick: Callable[[], None] = no_tick,
) -> LogicalPlan:
    """Plan what comes back, and look at the server that it comes back to.

    Args:
        copy: the archive, on the target that is to be read.
        parameters: of the connection to that server.
        binaries: where the client programs are.
        databases: by name; by default all that hold anything.
        only: patterns of tables; by default everything.
        name: what the one database that comes back is to be called.
        existing: of a database that is there, and is to take in what comes back; by default new ones are made.
        replace_databases: whether what comes back takes the place, and the name, of the databases that are there: they
            are renamed aside.
        globals_wanted: whether roles and tablespaces that are missing shall be made.
        owners: whether objects get their owners and privileges back.
        called: what new databases are called that nobody has named, by the old name and the archive's moment.

    Raises:
        RestoreError: what is asked for is not in the archive, or means several things.
        PostgresError: the server can't be asked, or programs are missing.
    """
    details = logical_details(copy.manifest)
    programs = client_programs(binaries, at_least=details.dump_major, why="read the archive")
    chosen = choose_databases(details, databases)
    if len(chosen) > 1 and (only or name is not None or existing is not None):
        raise RestoreError(
            f"The archive holds several databases: {', '.join(database.name for database in chosen)}.",
            "Say which one is meant: --database NAME.",
        )
    if existing is not None:
        name = existing.keywords["dbname"]
    if replace_databases and (only or existing is not None):
        raise RestoreError(
            "Only a whole database takes the place of another: with a part of it, all else would be missing.",
            "Leave --only and --into-database out, or --replace-database.",
        )
    plans = tuple(
        _database(
            repository,
            copy,
            database,
            programs,
            only,
            name or (database.name if replace_databases else called(database.name, copy.manifest.moment)),
            tick,
        )
        for database in chosen
    )
    replacing: list[LifeboatError] = []
    with connect_sql(parameters, tick=tick) as session:
        home = home_of(
            session,
            repository.system,
            [setting.partition("=")[0] for one in plans for setting in _settings(one.archive)],
        )
        if replace_databases:
            own = str(session.info.dbname)
            plans, replacing = find_replaced(session, plans, home, own, repository.outside.clock())
    in_the_way = obstacles(
        details, plans, home, globals_wanted=globals_wanted, owners=owners, existing=existing is not None
    )
    in_the_way += replacing
    if existing is not None and not in_the_way:
        plans, more = fitted(repository, copy, plans[0], programs, existing, home, tick)
        in_the_way += more
    remarks = [said_of(one, dropped=existing is None) for one in home.remains]
    if before := earlier(plans, home):
        remarks.append(f"Of earlier restores there are still: {', '.join(before)}. Drop them when nobody needs them.")
    remarks += [remark for one in plans for remark in _not_brought(one, home, existing=existing is not None)]
    lacking = sorted({space.name for space in details.server.tablespaces} - home.tablespaces)
    if globals_wanted and existing is None:
        lacking = []
    elif lacking:
        remarks.append(f"The server lacks the tablespaces {', '.join(lacking)}: all tables go into the default one.")
    return LogicalPlan(
        copy=copy,
        details=details,
        databases=plans,
        globals_wanted=globals_wanted,
        owners=owners,
        programs=programs,
        home=home,
        tablespaces=not lacking,
        existing=existing is not None,
        remarks=tuple(remarks),
        obstacles=tuple(in_the_way),
    )


def _settings(archive: DatabaseArchive) -> list[str]:
    return [*archive.settings, *(setting for one in archive.role_settings for setting in one.settings)]


def _not_brought(plan: DatabasePlan, home: Home, *, existing: bool) -> Iterator[str]:
    """What belongs to a database and does not come back, a sentence each."""
    archive = plan.archive
    if archive.subscriptions and plan.tables is None:
        yield (
            f"The subscriptions of database {archive.name} don't come back: {', '.join(archive.subscriptions)}. Each "
            "would begin to take changes from its publisher, and take over the old one's slot there."
        )
    if existing:
        yield f"The database {plan.name} keeps its own owner, settings, privileges and comment."
        return
    if unknown := sorted({one.partition("=")[0] for one in _settings(archive)} & home.unknown_settings):
        yield f"The server knows no {', '.join(unknown)}: database {archive.name} comes back without it."
    if strangers := sorted({one.role for one in archive.role_settings} - home.roles):
        yield (
            f"Database {archive.name} has settings for roles that the server lacks: {', '.join(strangers)}. They come "
            "back only if the roles are made first."
        )


def fitted(
    repository: SystemRepository,
    copy: Copy,
    plan: DatabasePlan,
    programs: Programs,
    parameters: ConnectionParameters,
    home: Home,
    tick: Callable[[], None],
) -> tuple[tuple[DatabasePlan, ...], list[LifeboatError]]:
    """Hold a plan against the database that is to take it in: what it has already is left out, or in the way."""
    if plan.name not in home.databases:
        return (plan,), [
            RestoreError(
                f"There is no database {plan.name!r}.",
                "Make it first, or leave --into-database out: --as names a new one.",
            )
        ]
    with connect_sql(parameters, tick=tick) as session:
        problems = encoding_obstacles(session, plan)
        if plan.selection is None:
            if things := things_in(session):
                more = " …" if len(things) == 10 else ""
                problems.append(
                    RestoreError(
                        f"The database {plan.name} is not empty: {', '.join(things)}{more}.",
                        "Name tables with --only, another database, or none: then a new one is made.",
                    )
                )
            return (plan,), problems
        selection = plan.selection
        defining = next(archive for archive in plan.archive.archives if archive.holds != "data")
        numbers = selection.numbers | selection.left_out_numbers
        defined = definitions_in(repository, copy, defining.stream, programs, numbers, tick=tick)
        wanted = [one for one in defined if one.number in selection.numbers]
        there = there_in(session, parameters, programs, wanted, tick=tick)
    found = fit(selection.entries, selection.numbers, wanted, there, plan.contents.sequences)
    found.by_hand += [one.text for one in defined if one.number in selection.left_out_numbers]
    if found.in_the_way:
        shown = "; ".join(found.in_the_way[:10]) + (" …" if len(found.in_the_way) > 10 else "")
        problems.append(
            RestoreError(
                f"What is to come into the database {plan.name} is in part there: {shown}.",
                "Nothing that is there is changed: rename or drop it first, or leave --into-database out, and bring "
                "the rows over from the new database.",
            )
        )
        return (plan,), problems
    selection = replace(selection, numbers=selection.numbers - found.used)
    listings = {
        archive.stream: selection.entries
        if archive is defining
        else listing_of(repository, copy.target, copy, archive.stream, programs, tick=tick)
        for archive in plan.archive.archives
    }
    assert plan.tables is not None
    return (replace(_picked(plan, selection, plan.tables, listings), fit=found),), problems


def _database(
    repository: SystemRepository,
    copy: Copy,
    database: DatabaseArchive,
    programs: Programs,
    only: Sequence[str],
    name: str,
    tick: Callable[[], None],
) -> DatabasePlan:
    contents = read_contents(copy, database, origin_of(repository, copy.target, copy), lambda _: None)
    plan = DatabasePlan(
        archive=database,
        contents=contents,
        tables=None,
        selection=None,
        numbers={},
        name=name,
    )
    if not only:
        return plan
    tables = tables_like(only, contents)
    listings = {
        archive.stream: listing_of(repository, copy.target, copy, archive.stream, programs, tick=tick)
        for archive in database.archives
    }
    defining = next(archive for archive in database.archives if archive.holds != "data")
    return _picked(plan, select(listings[defining.stream], tables), tables, listings)


def _picked(
    plan: DatabasePlan,
    selection: Selection,
    tables: tuple[TableContent, ...],
    listings: Mapping[str, Sequence[Entry]],
) -> DatabasePlan:
    """The plan for some tables: what of each archive comes back."""
    chosen = [entry for entry in selection.entries if entry.kind == "SEQUENCE" and entry.number in selection.numbers]
    names = [" ".join(entry.words.split(" ")[:2]) for entry in chosen]
    numbers = {}
    for archive in plan.archive.archives:
        entries = listings[archive.stream]
        picked = selection.numbers if archive.holds != "data" else select_rows(entries, tables, names)
        numbers[archive.stream] = [entry.number for entry in entries if entry.number in picked]
    oids = {entry.oid for entry in chosen}
    sequences = tuple(sequence for sequence in plan.contents.sequences if sequence.oid in oids)
    return replace(plan, tables=tables, selection=selection, numbers=numbers, sequences=sequences)
