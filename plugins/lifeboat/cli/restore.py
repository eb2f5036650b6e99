"""``lifeboat restore``: show the plan, ask, bring it back, say what came back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifeboat.cli.outside import check_source, surroundings
from lifeboat.cli.restore_export import Wanted, is_export, restore_export
from lifeboat.cli.restore_physical import insist_on_place, mapped, propose, restore_data_directory
from lifeboat.cli.restore_snapshots import WantedSnapshot, restorer_of
from lifeboat.errors import PolicyError, RestoreError

if TYPE_CHECKING:
    from lifeboat.policy.postgres_source import PostgresSource
    from lifeboat.repository.system import SystemRepository


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
    from lifeboat.cli.moment import asked, time_in

    here = surroundings(ctx)
    loaded = here.loaded(system)
    check_source(loaded, source)
    restore_snapshot = restorer_of(loaded.policy.sources[source].kind)
    if restore_snapshot is not None:
        of_data = (lsn, name, timeline, base, tablespace, binaries, run_as, connection, format_name, as_table)
        of_dumps = (database, new_name, into_database, with_globals, show_globals, replace_rows, replace_database)
        they_take = "What is no database takes --into, --at, --recovery-point, --target and --only."
        _refuse(any((*of_data, *of_dumps, replace_directory)), "Some of these options", "a database", they_take)
        wanted_snapshot = WantedSnapshot(
            into, time_in(at, loaded.policy.zone)[0] if at is not None else None, recovery_point, target,
            tuple(only or ()), replace_files, plan, yes, as_json, stdout, into_store,
        )  # fmt: skip
        kind = loaded.policy.sources[source].kind
        _refuse(replace_files and kind != "files", "--replace-files", "a set of files")
        _refuse((stdout or into_store) and kind != "configuration", "--stdout and --into-store", "a configuration")
        restore_snapshot(here.repository(loaded), source, wanted_snapshot)
        return
    _refuse(replace_files, "--replace-files", "a set of files")
    _refuse(stdout or into_store, "--stdout and --into-store", "a configuration")
    of_archive = bool(database or new_name or into_database or with_globals or show_globals or replace_database)
    of_export = bool(format_name or as_table or replace_rows)
    if recovery_point is not None and is_export(recovery_point):
        they = "--database, --as, --into-database, --replace-database, --with-globals and --show-globals"
        _refuse(of_archive, they, "a logical archive")
        _refuse(replace_directory, "--replace-directory", "a physical backup")
        wanted_tables = Wanted(
            recovery_point,
            tuple(only or ()),
            format_name,  # type: ignore[arg-type]  # looked at before it is used
            into,
            connection,
            as_table,
            replace_rows,
            target,
            plan,
            yes,
            as_json,
        )
        repository = here.repository(loaded)
        restore_export(repository, source, _postgres(repository, source), wanted_tables)
        return
    _refuse(of_export, "--format, --as-table and --replace-rows", "an export", "Name it: --recovery-point ID.")
    wanted = asked(at=at, lsn=lsn, name=name, recovery_point=recovery_point, latest=latest, zone=loaded.policy.zone)
    repository = here.repository(loaded)
    if connection is not None:
        from lifeboat.cli.restore_logical import Wish, restore_into_connection

        no_use = any(option is not None for option in (into, lsn, name, base)) or replace_directory
        _refuse(
            no_use,
            "--into, --lsn, --name, --base and --replace-directory",
            "a physical backup",
            "Or leave --connection out.",
        )
        wish = Wish(
            connection=connection,
            at=time_in(at, loaded.policy.zone)[0] if at is not None else None,
            recovery_point=recovery_point,
            target=target,
            databases=database or (),
            only=only or (),
            name=new_name,
            into=into_database,
            with_globals=with_globals,
            owners=owners,
            binaries=binaries,
            replace_databases=replace_database,
        )
        policy = _postgres(repository, source)
        restore_into_connection(
            repository, policy, source, wish, plan_only=plan, show_globals=show_globals, yes=yes, as_json=as_json
        )
        return
    into = insist_on_place(into, parts=of_archive or bool(only), system=system, source=source)
    proposal = propose(
        repository,
        _postgres(repository, source),
        source,
        wanted,
        into=into,
        target=target,
        base=base,
        timeline=timeline,
        tablespaces=mapped(tablespace or ()),
        binaries=binaries,
        user=run_as,
        replace=replace_directory,
    )
    restore_data_directory(repository, proposal, plan_only=plan, yes=yes, as_json=as_json)


def _refuse(given: bool, options: str, of: str, remedy: str = "") -> None:
    """Refuse options that what is asked for has no use for, rather than pass over them."""
    if given:
        raise RestoreError(
            f"{options} are for {of}, and what is asked for is none.", remedy or "Leave them out, or name another."
        )


def _postgres(repository: SystemRepository, source: str) -> PostgresSource:
    from lifeboat.policy.postgres_source import PostgresSource

    policy = repository.policy.sources[source]
    if not isinstance(policy, PostgresSource):
        raise PolicyError(
            f"The source {source} is of kind {policy.kind}; this version restores PostgreSQL.",
            "`lifeboat policy check` says what is not built yet.",
        )
    return policy
