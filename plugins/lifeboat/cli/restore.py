"""``lifeboat restore``: show the plan, ask, bring it back, say what came back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, length, note, say, show_fields, show_json, warn
from lifeboat.cli.outside import check_source, surroundings
from lifeboat.cli.progress import Bar, bar
from lifeboat.cli.restore_export import Wanted, is_export, restore_export
from lifeboat.cli.restore_snapshots import WantedSnapshot, restorer_of
from lifeboat.errors import LifeboatError, PolicyError, RestoreError

if TYPE_CHECKING:
    from lifeboat.cli.moment import Asked
    from lifeboat.cli.restore_plan import Proposal
    from lifeboat.policy.postgres_source import PostgresSource
    from lifeboat.postgres.restore import Progress, Restored
    from lifeboat.repository.system import SystemRepository

_PHASES = {
    "fetch": "Fetched",
    "combine": "Combined",
    "stage": "WAL files staged",
    "replay": "Replayed",
    "check": "Checked",
}


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
        of_dumps = (database, new_name, into_database, with_globals, show_globals, replace_rows)
        they_take = "What is no database takes --into, --at, --recovery-point, --target and --only."
        _refuse(any((*of_data, *of_dumps)), "Some of these options", "a database", they_take)
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
    of_archive = bool(database or new_name or into_database or with_globals or show_globals)
    of_export = bool(format_name or as_table or replace_rows)
    if recovery_point is not None and is_export(recovery_point):
        _refuse(of_archive, "--database, --as, --into-database, --with-globals and --show-globals", "a logical archive")
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

        no_use = any(option is not None for option in (into, lsn, name, base))
        _refuse(no_use, "--into, --lsn, --name and --base", "a physical backup", "Or leave --connection out.")
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
        )
        policy = _postgres(repository, source)
        restore_into_connection(
            repository, policy, source, wish, plan_only=plan, show_globals=show_globals, yes=yes, as_json=as_json
        )
        return
    into = _insist_on_place(into, parts=of_archive or bool(only), system=system, source=source)
    proposal = _propose(
        repository,
        source,
        wanted,
        into=into,
        target=target,
        base=base,
        timeline=timeline,
        tablespaces=_mapped(tablespace or ()),
        binaries=binaries,
        user=run_as,
    )
    if plan:
        _show_plan(proposal, as_json)
        raise typer.Exit(1 if proposal.obstacles else 0)
    if not as_json:
        _show_plan(proposal, as_json=False)
    for obstacle in proposal.obstacles:
        raise obstacle
    agree(f"Restore into {proposal.request.into}?", yes)
    restored = _carry_out(repository, proposal)
    if as_json:
        from lifeboat.cli.restore_plan import document

        show_json({"plan": document(proposal), "restored": _document(restored)})
    else:
        _show(restored, proposal)


def _refuse(given: bool, options: str, of: str, remedy: str = "") -> None:
    """Refuse options that what is asked for has no use for, rather than pass over them."""
    if given:
        raise RestoreError(
            f"{options} are for {of}, and what is asked for is none.", remedy or "Leave them out, or name another."
        )


def _insist_on_place(into: Path | None, *, parts: bool, system: str, source: str) -> Path:
    if parts:
        raise RestoreError(
            "A data directory comes back whole; single databases and tables come from a logical archive or an export.",
            f"Say --connection ID, or --recovery-point ID of an export; `lifeboat list {system} {source}` shows both.",
        )
    if into is None:
        raise RestoreError(
            "It is not said where to.",
            "Name a data directory with --into, or a server with --connection for a logical archive.",
        )
    return into


def _mapped(texts: Sequence[str]) -> dict[str, Path]:
    from lifeboat.cli.restore_plan import absolute

    found: dict[str, Path] = {}
    for text in texts:
        old, separator, new = text.partition("=")
        if not separator or not old or not new:
            raise RestoreError(f"--tablespace {text!r} is not OLD=NEW.", "Write its old place, =, and its new place.")
        found[old.rstrip("/") or "/"] = absolute(Path(new))
    return found


def _propose(
    repository: SystemRepository,
    source: str,
    asked: Asked,
    *,
    into: Path,
    target: str | None,
    base: str | None,
    timeline: int | None,
    tablespaces: Mapping[str, Path],
    binaries: Path | None,
    user: str | None,
) -> Proposal:
    from lifeboat.cli.restore_binaries import server_programs
    from lifeboat.cli.restore_choice import choose
    from lifeboat.cli.restore_plan import Proposal, absolute, obstacles
    from lifeboat.postgres.destination import Request, moved_tablespaces

    policy = _postgres(repository, source)
    choice = choose(repository, source, asked.moment, target=target, base=base, timeline=timeline)
    known = {str(one.location) for one in moved_tablespaces(choice.plan)}
    for old in tablespaces:
        if old not in known:
            raise RestoreError(
                f"The backup has no tablespace at {old}.", f"It has: {', '.join(sorted(known)) or 'none'}."
            )
    major = choice.plan.base.details.server.major
    request = Request(
        choice.offer.target,
        absolute(into),
        server_programs(binaries, policy.binaries, major),
        dict(tablespaces),
        user,
    )
    found = tuple(obstacles(repository, choice.plan, request))
    return Proposal(repository.system, source, asked, choice, request, found)


def _postgres(repository: SystemRepository, source: str) -> PostgresSource:
    from lifeboat.policy.postgres_source import PostgresSource

    policy = repository.policy.sources[source]
    if not isinstance(policy, PostgresSource):
        raise PolicyError(
            f"The source {source} is of kind {policy.kind}; this version restores PostgreSQL.",
            "`lifeboat policy check` says what is not built yet.",
        )
    return policy


def _show_plan(proposal: Proposal, as_json: bool) -> None:
    from lifeboat.cli.restore_plan import document, show

    if as_json:
        show_json(document(proposal))
    else:
        show(proposal)


def _carry_out(repository: SystemRepository, proposal: Proposal) -> Restored:
    from lifeboat.cli.recording import BestEffortJournal
    from lifeboat.cli.restore_elsewhere import naming_other_copies
    from lifeboat.postgres.restore import restore

    plan = proposal.plan
    journal = BestEffortJournal(repository, proposal.choice.reached, run="command-restore", tell=warn)
    about: dict[str, Any] = {
        "source": proposal.source,
        "recovery_point": plan.base.manifest.recovery_point,
        "target": proposal.request.target,
    }
    journal.write("restore_begun", **about, moment=str(plan.moment), into=str(proposal.request.into))
    try:
        with naming_other_copies(repository, plan.copies), _phases() as progress:
            restored = restore(repository, plan, proposal.request, progress=progress, tick=STOP.check)
    except BaseException as failure:
        what = str(failure)[:2000] if isinstance(failure, LifeboatError) else ""
        journal.write("restore_failed", **about, error=type(failure).__name__, what=what)
        raise
    last = restored.recovered.last_commit
    journal.write(
        "restore_ended",
        **about,
        moment=str(plan.moment),
        into=str(restored.into),
        stopped_at=str(restored.recovered.stopped_at),
        last_commit=last.isoformat() if last is not None else None,
        to_the_end=restored.to_the_end,
        milliseconds={phase: round(seconds * 1000) for phase, seconds in restored.phases.items()},
    )
    return restored


@contextmanager
def _phases() -> Iterator[Progress]:
    """A bar for each phase, one after the other."""
    present: dict[str, Bar] = {}
    with ExitStack() as stack:

        def show(phase: str, done: int, total: int) -> None:
            if phase not in present:
                stack.close()
                in_bytes = phase in ("fetch", "combine")
                present[phase] = stack.enter_context(bar(_PHASES.get(phase, phase), total, in_bytes=in_bytes))
            present[phase].at(done, total)

        yield show


def _document(restored: Restored) -> dict[str, Any]:
    recovered = restored.recovered
    return {
        "into": str(restored.into),
        "last_commit": recovered.last_commit,
        "stopped_at": str(recovered.stopped_at),
        "reason": recovered.reason,
        "timeline": recovered.timeline,
        "to_the_end": restored.to_the_end,
        "databases": list(restored.databases),
        "phases": {phase: round(seconds, 3) for phase, seconds in restored.phases.items()},
        "seconds": round(restored.seconds, 3),
    }


def _show(restored: Restored, proposal: Proposal) -> None:
    recovered = restored.recovered
    phases = ", ".join(f"{phase} {length(seconds)}" for phase, seconds in restored.phases.items())
    fields = [
        ("into", f"{restored.into} (stopped cleanly, ready to be started)"),
        ("last commit", exact_moment(recovered.last_commit) if recovered.last_commit else "none was replayed"),
        ("stopped at", f"{recovered.stopped_at}: {recovered.reason or 'no reason given'}"),
        ("timeline", str(recovered.timeline)),
        ("answered", ", ".join(restored.databases)),
        ("took", f"{length(restored.seconds)} ({phases})"),
    ]
    if restored.to_the_end:
        fields.insert(3, ("to the end", "nothing was committed between the last commit and the moment asked for"))
    show_fields("Restored", fields)
    _show_next(restored, proposal)


def _show_next(restored: Restored, proposal: Proposal) -> None:
    server = proposal.details.server
    say("What to do next", "bold")
    steps = [
        f"Bring {', '.join(server.files_outside)} back from elsewhere: the backup does not hold them."
        if server.files_outside
        else "",
        "Look through its postgresql.conf and postgresql.auto.conf: they are the lost server's.",
        f"Start it: {proposal.request.binaries / 'pg_ctl'} -D {restored.into} -l LOGFILE start",
        "Look at the data before anybody works with them.",
        f"It is on a new timeline: lead the policy's connection to it, then back it up: "
        f"lifeboat backup {proposal.system} {proposal.source} --tier daily",
    ]
    for number, step in enumerate(filter(None, steps), 1):
        say(f"  {number}. {step}")
    note("Done.", "green")
