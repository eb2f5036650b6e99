"""``lifeboat restore``: show the plan, ask, bring it back, say what came back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lifeboat.cli.outside import check_source, surroundings
from lifeboat.cli.restore_by_kind import Shown, restore_by_kind
from lifeboat.cli.restore_permission import permission


def restore_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    source: Annotated[str, typer.Argument(help="The source in it.")],
    into: Annotated[
        Path | None,
        typer.Option(
            help="The directory to make, empty or not there: for data, files, or an export's files.", metavar="DIR"
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="A time; without an offset, on the clock of the policy's zone.", metavar="TIME")
    ] = None,
    lsn: Annotated[str | None, typer.Option(help="A position in the WAL, such as 0/3000028.")] = None,
    name: Annotated[str | None, typer.Option(help="A restore point named with pg_create_restore_point().")] = None,
    recovery_point: Annotated[str | None, typer.Option(help="The moment of a recovery point.", metavar="ID")] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Everything there is: the default.")] = False,
    target: Annotated[str | None, typer.Option(help="Read from this target alone.")] = None,
    timeline: Annotated[int | None, typer.Option(help="Follow this timeline; by default the newest.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Begin with this full, or with this incremental and its chain.", metavar="ID")
    ] = None,
    tablespace: Annotated[
        list[str] | None, typer.Option(help="Where a tablespace goes. May be repeated.", metavar="OLD=NEW")
    ] = None,
    binaries: Annotated[
        Path | None, typer.Option(help="The directory with PostgreSQL's server programs.", metavar="DIR")
    ] = None,
    run_as: Annotated[
        str | None,
        typer.Option(help="As root: the user to run the server as and to give the files to.", metavar="USER"),
    ] = None,
    connection: Annotated[
        str | None,
        typer.Option(help="Of a logical archive or an export: the server or database to bring it into.", metavar="ID"),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="These tables of an archive or export, paths of files, items, repositories. May be repeated.",
            metavar="PATTERN",
        ),
    ] = None,
    database: Annotated[
        list[str] | None, typer.Option(help="Of a logical archive: this database. May be repeated.", metavar="NAME")
    ] = None,
    new_name: Annotated[
        str | None,
        typer.Option("--as", help="Of a logical archive: what the restored database is to be called.", metavar="NAME"),
    ] = None,
    into_database: Annotated[
        str | None,
        typer.Option(
            help="Of a logical archive: bring it into this database, which must be there: empty, or with --only "
            "without these tables.",
            metavar="NAME",
        ),
    ] = None,
    replace_database: Annotated[
        bool,
        typer.Option(
            "--replace-database",
            help="Of a logical archive: put the database in the place of the one that has its name, which is renamed.",
        ),
    ] = False,
    replace_directory: Annotated[
        bool,
        typer.Option(
            "--replace-directory",
            help="Of a physical backup: put the data directory in the place of the old one, which is renamed.",
        ),
    ] = False,
    with_globals: Annotated[
        bool,
        typer.Option("--with-globals", help="Of a logical archive: make the roles and tablespaces the server lacks."),
    ] = False,
    show_globals: Annotated[
        bool,
        typer.Option("--show-globals", help="Of a logical archive: print its roles and tablespaces, and do nothing."),
    ] = False,
    owners: Annotated[
        bool, typer.Option("--owner/--no-owner", help="Of a logical archive: give objects their old owners and rights.")
    ] = True,
    format_name: Annotated[str | None, typer.Option("--format", help="Of an export: json or csv.")] = None,
    as_table: Annotated[
        str | None,
        typer.Option(help="Of an export: the table's new name; by default its own and _restored.", metavar="NAME"),
    ] = None,
    replace_rows: Annotated[
        bool, typer.Option("--replace-rows", help="Of an export: put the rows in the place of those that are there.")
    ] = False,
    replace_files: Annotated[
        bool,
        typer.Option(
            "--replace-files", help="Of a set of files: into a directory that is in use; files it lacks stay there."
        ),
    ] = False,
    stdout: Annotated[
        bool,
        typer.Option("--stdout", help="Of a configuration: write the item that --only names to standard output."),
    ] = False,
    into_store: Annotated[
        bool,
        typer.Option("--into-store", help="Of a configuration: put its secrets back into the stores they are from."),
    ] = False,
    approval: Annotated[
        str | None,
        typer.Option(help="Carry out what this approved request says, exactly; no other option.", metavar="REQUEST"),
    ] = None,
    break_glass: Annotated[
        str | None,
        typer.Option(
            help="Restore without approval where it needs one: why. It is recorded, and everybody is told.",
            metavar="REASON",
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show the plan and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring a database back: to any moment into a new data directory (--into), or a logical archive, whole or some of
    its tables, into new databases of a server (--connection) or one that is there. What comes back is proven.

    Of an export: single tables, into a database beside the old ones, or as files. Of a set of files: a snapshot, whole
    or some of its paths. Of a configuration: its items as files, one of them to standard output, or its secrets into
    their stores. Of Git repositories: bare ones, all or some. Nothing that exists is touched, unless you say so.
    """
    from lifeboat.recovery.approval.options import RestoreOptions

    options = RestoreOptions(
        into=None if into is None else str(into.expanduser().absolute()),
        at=at,
        lsn=lsn,
        name=name,
        recovery_point=recovery_point,
        target=target,
        timeline=timeline,
        base=base,
        tablespaces=tuple(tablespace or ()),
        binaries=None if binaries is None else str(binaries),
        run_as=run_as,
        connection=connection,
        only=tuple(only or ()),
        databases=tuple(database or ()),
        new_name=new_name,
        into_database=into_database,
        with_globals=with_globals,
        owners=owners,
        format_name=format_name,
        as_table=as_table,
        replace_rows=replace_rows,
        replace_files=replace_files,
        replace_database=replace_database,
        replace_directory=replace_directory,
        into_store=into_store,
    )
    here = surroundings(ctx)
    loaded = here.loaded(system)
    check_source(loaded, source)
    repository = here.repository(loaded)
    shown = Shown(plan, yes, as_json, stdout, show_globals)
    with permission(
        repository,
        source,
        options,
        approval=approval,
        break_glass=break_glass,
        looks_only=plan or stdout or show_globals,
    ) as allowed:
        restore_by_kind(repository, source, allowed, latest, shown)
