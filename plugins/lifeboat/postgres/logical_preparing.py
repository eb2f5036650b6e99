"""Everything that a restore of a logical archive has to know before it begins: read, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lifeboat.errors import RestoreError
from lifeboat.postgres.client_programs import Programs, client_programs
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.logical_details import DatabaseArchive, logical_details
from lifeboat.postgres.logical_naming import restored_name
from lifeboat.postgres.logical_planning import DatabasePlan, LogicalPlan, choose_databases, obstacles
from lifeboat.postgres.logical_restore import home_of, listing_of
from lifeboat.postgres.logical_selection import Selection, select, select_rows, tables_like
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
    globals_wanted: bool = False,
    owners: bool = True,
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
        globals_wanted: whether roles and tablespaces that are missing shall be made.
        owners: whether objects get their owners and privileges back.

    Raises:
        RestoreError: what is asked for is not in the archive, or means several things.
        PostgresError: the server can't be asked, or programs are missing.
    """
    details = logical_details(copy.manifest)
    programs = client_programs(binaries, at_least=details.dump_major, why="read the archive")
    chosen = choose_databases(details, databases)
    if len(chosen) > 1 and (only or name is not None):
        raise RestoreError(
            f"The archive holds several databases: {', '.join(database.name for database in chosen)}.",
            "Say which one is meant: --database NAME.",
        )
    plans = tuple(_database(repository, copy, database, programs, only, name, tick) for database in chosen)
    with connect_sql(parameters, tick=tick) as session:
        home = home_of(session)
    remarks = [
        f"A restore that was cut short left the database {left}: DROP DATABASE {left};" for left in home.unproven
    ]
    lacking = sorted({space.name for space in details.server.tablespaces} - home.tablespaces)
    if globals_wanted:
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
        remarks=tuple(remarks),
        obstacles=tuple(obstacles(details, plans, home, globals_wanted=globals_wanted, owners=owners)),
    )


def _database(
    repository: SystemRepository,
    copy: Copy,
    database: DatabaseArchive,
    programs: Programs,
    only: Sequence[str],
    name: str | None,
    tick: Callable[[], None],
) -> DatabasePlan:
    contents = read_contents(copy, database, origin_of(repository, copy.target, copy), lambda _: None)
    tables = tables_like(only, contents) if only else None
    selection: Selection | None = None
    numbers: Mapping[str, Sequence[int]] = {}
    if tables is not None:
        listings = {
            archive.stream: listing_of(repository, copy.target, copy, archive.stream, programs, tick=tick)
            for archive in database.archives
        }
        defining = next(archive for archive in database.archives if archive.holds != "data")
        entries = listings[defining.stream]
        selection = select(entries, tables)
        sequences = [
            " ".join(entry.words.split(" ")[:2])
            for entry in entries
            if entry.kind == "SEQUENCE" and entry.number in selection.numbers
        ]
        picked = {
            archive.stream: selection.numbers
            if archive is defining
            else select_rows(listings[archive.stream], tables, sequences)
            for archive in database.archives
        }
        numbers = {
            stream: [entry.number for entry in entries if entry.number in picked[stream]]
            for stream, entries in listings.items()
        }
    return DatabasePlan(
        archive=database,
        contents=contents,
        tables=tables,
        selection=selection,
        numbers=numbers,
        name=name or restored_name(database.name, copy.manifest.moment),
    )
