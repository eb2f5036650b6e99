"""``lifeboat restore … --connection ID``: a logical archive, whole or some of its tables, into new databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, length, note, say, show_fields, show_json, size, warn
from lifeboat.cli.outside import in_words, targets_of
from lifeboat.cli.progress import Bar, bar
from lifeboat.cli.restore_choice import NEAREST_FIRST
from lifeboat.errors import Cancelled, LifeboatError, RestoreError

if TYPE_CHECKING:
    from lifeboat.policy.postgres_source import PostgresSource
    from lifeboat.postgres.logical_planning import DatabasePlan, LogicalPlan
    from lifeboat.postgres.logical_restore import Progress, RestoredArchive
    from lifeboat.postgres.parameters import ConnectionParameters
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository

_PHASES = {"restore": "Restored", "check": "Databases compared"}
MOST_NAMED = 12


@dataclass(frozen=True)
class Wish:
    """What a person asked for.

    Attributes:
        connection: the id of the connection to the server that the databases come back to.
        at, recovery_point: which archive; by default the newest.
        target: read from this target alone.
        databases, only: which databases, and patterns of tables.
        name: what the one database is to be called.
        with_globals: make the roles and tablespaces that the server lacks.
        owners: give objects their owners and privileges.
        binaries: where the client programs are.
    """

    connection: str
    at: datetime | None
    recovery_point: str | None
    target: str | None
    databases: Sequence[str]
    only: Sequence[str]
    name: str | None
    with_globals: bool
    owners: bool
    binaries: Path | None


def restore_into_connection(
    repository: SystemRepository,
    source: PostgresSource,
    source_name: str,
    wish: Wish,
    *,
    plan_only: bool,
    show_globals: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Choose, plan, show, ask, do, say what came back."""
    from lifeboat.postgres.logical_preparing import prepare

    copy, reached, passed_over = _choose(repository, source_name, wish)
    if show_globals:
        from lifeboat.postgres.logical_restore import globals_script

        say(globals_script(repository, copy))
        return
    parameters = _parameters(repository, source, wish.connection, None)
    plan = prepare(
        repository,
        copy,
        parameters,
        binaries=wish.binaries or source.binaries,
        databases=wish.databases,
        only=wish.only,
        name=wish.name,
        globals_wanted=wish.with_globals,
        owners=wish.owners,
        tick=STOP.check,
    )
    remarks = [*passed_over, *plan.remarks]
    if as_json and plan_only:
        show_json(document(plan, parameters, remarks))
    elif not as_json:
        _show_plan(plan, parameters, remarks)
    if plan_only:
        raise typer.Exit(1 if plan.obstacles else 0)
    for obstacle in plan.obstacles:
        raise obstacle
    agree(f"Make {', '.join(one.name for one in plan.databases)}?", yes)
    restored = _carry_out(repository, source, source_name, wish, plan, reached)
    if as_json:
        show_json({"plan": document(plan, parameters, remarks), "restored": _document(restored)})
    else:
        _show(restored, plan)


def _choose(repository: SystemRepository, source: str, wish: Wish) -> tuple[Copy, list[str], list[str]]:
    """The archive on the nearest target that has it, the targets that can take events, that one first, and what was
    passed over. All targets are looked at: a near one may be behind."""
    from lifeboat.postgres.logical_planning import newest_not_later

    names = targets_of(repository.loaded, wish.target)
    names.sort(key=lambda name: NEAREST_FIRST.index(name) if name in NEAREST_FIRST else len(NEAREST_FIRST))
    found: list[Copy] = []
    refused: list[tuple[str, LifeboatError]] = []
    for name in names:
        STOP.check()
        note(f"Looking at {name} …", "dim")
        try:
            copies = repository.catalogue(name).recovery_points(source).copies
            found.append(newest_not_later(copies, wish.at, wish.recovery_point))
        except Cancelled:
            raise
        except LifeboatError as error:
            refused.append((name, error))
    if not found:
        if len(refused) == 1:
            raise refused[0][1]
        raise RestoreError("No target has such an archive.", f"What each of them says:\n{in_words(refused)}")
    best = max(found, key=lambda copy: copy.manifest.moment)
    reached = [best.target, *(copy.target for copy in found if copy is not best)]
    return best, reached, [f"{name} was passed over: {error}" for name, error in refused]


def _parameters(
    repository: SystemRepository, source: PostgresSource, connection: str, database: str | None
) -> ConnectionParameters:
    from lifeboat.postgres.parameters import Tls, connection_parameters

    return connection_parameters(
        repository.outside.connection(connection),
        Tls(source.tls, source.tls_minimum),
        application_name="lifeboat restore",
        database=database,
    )


def document(plan: LogicalPlan, parameters: ConnectionParameters, remarks: Sequence[str]) -> dict[str, Any]:
    """The plan for programs."""
    manifest = plan.copy.manifest
    return {
        "system": manifest.system,
        "source": manifest.source,
        "target": plan.copy.target,
        "recovery_point": manifest.recovery_point,
        "moment": manifest.moment,
        "server": parameters.address,
        "fetch_bytes": _fetched(plan),
        "databases": [
            {
                "database": one.archive.name,
                "new_name": one.name,
                "tables": None if one.tables is None else [table.label for table in one.tables],
                "rows": _rows(one),
                "left_out": [] if one.selection is None else list(one.selection.left_out),
                "only_defined": [] if one.selection is None else list(one.selection.only_defined),
            }
            for one in plan.databases
        ],
        "with_globals": plan.globals_wanted,
        "remarks": list(remarks),
        "obstacles": [str(error) for error in plan.obstacles],
    }


def _rows(one: DatabasePlan) -> int:
    return sum(table.rows or 0 for table in (one.contents.tables if one.tables is None else one.tables))


def _fetched(plan: LogicalPlan) -> int:
    streams = (archive.stream for one in plan.databases for archive in one.archive.archives)
    return sum(plan.copy.manifest.stream(stream).stored_size for stream in streams)


def _show_plan(plan: LogicalPlan, parameters: ConnectionParameters, remarks: Sequence[str]) -> None:
    manifest, details = plan.copy.manifest, plan.details
    fields = [
        ("archive", f"{manifest.recovery_point}, which stands for {exact_moment(manifest.moment)}"),
        ("from target", plan.copy.target),
        ("made of", f"PostgreSQL {details.server.version}, read by pg_dump {details.dumped_by}"),
        ("into", f"the server at {parameters.address}, into new databases; nothing that is there is touched"),
        ("to fetch", size(_fetched(plan))),
        ("programs", f"{plan.programs.directory} ({plan.programs.version})"),
    ]
    for one in plan.databases:
        fields += list(_of_database(one))
    if plan.globals_wanted:
        fields.append(("first", "the roles and tablespaces that the server lacks"))
    if not plan.owners:
        fields.append(("owners", "everything will belong to the connection's role, without the old privileges"))
    fields += [("not in it", finding) for finding in manifest.findings]
    show_fields(f"Restore {manifest.system} {manifest.source}", fields)
    for remark in remarks:
        note(f"note: {remark}", "yellow")
    for error in plan.obstacles:
        note(f"in the way: {error.what}", "bold red")
        if error.remedy:
            note(f"  → {error.remedy}", "red")


def _of_database(one: DatabasePlan) -> Iterator[tuple[str, str]]:
    yield "database", f"{one.archive.name} → {one.name}"
    if one.tables is None or one.selection is None:
        yield "with", f"{one.archive.tables} tables, {_rows(one):,} rows, {one.archive.large_objects} large objects"
        return
    yield "tables", f"{_named([table.label for table in one.tables])}: {_rows(one):,} rows"
    if one.selection.only_defined:
        yield "without rows", f"{_named(one.selection.only_defined)}: others need their definitions"
    if one.selection.left_out:
        yield "left out", f"{_named(one.selection.left_out)}: these need tables that were not asked for"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _carry_out(
    repository: SystemRepository,
    source: PostgresSource,
    source_name: str,
    wish: Wish,
    plan: LogicalPlan,
    reached: Sequence[str],
) -> RestoredArchive:
    from lifeboat.cli.recording import BestEffortJournal
    from lifeboat.postgres.logical_restore import restore_logical

    journal = BestEffortJournal(repository, reached, run="command-restore", tell=warn)
    about: dict[str, Any] = {
        "source": source_name,
        "recovery_point": plan.copy.manifest.recovery_point,
        "target": plan.copy.target,
    }
    into = [one.name for one in plan.databases]
    journal.write("restore_begun", **about, connection=wish.connection, into=into, only=list(wish.only))
    try:
        with _phases() as progress:
            restored = restore_logical(
                repository,
                plan,
                lambda name: _parameters(repository, source, wish.connection, name or None),
                side_by_side=source.logical.side_by_side,
                progress=progress,
                tick=STOP.check,
            )
    except BaseException as failure:
        what = str(failure)[:2000] if isinstance(failure, LifeboatError) else ""
        journal.write("restore_failed", **about, error=type(failure).__name__, what=what)
        raise
    journal.write(
        "restore_ended",
        **about,
        into=into,
        rows=sum(one.rows for one in restored.databases),
        milliseconds={phase: round(seconds * 1000) for phase, seconds in restored.phases.items()},
    )
    return restored


@contextmanager
def _phases() -> Iterator[Progress]:
    present: dict[str, Bar] = {}
    with ExitStack() as stack:

        def show(phase: str, done: int, total: int) -> None:
            if phase not in present:
                stack.close()
                present[phase] = stack.enter_context(bar(_PHASES[phase], total, in_bytes=phase == "restore"))
            present[phase].at(done, total)

        yield show


def _document(restored: RestoredArchive) -> dict[str, Any]:
    return {
        "databases": [
            {"database": one.database, "name": one.name, "tables": one.tables, "rows": one.rows}
            for one in restored.databases
        ],
        "made_globals": restored.made_globals,
        "phases": {phase: round(seconds, 3) for phase, seconds in restored.phases.items()},
        "seconds": round(restored.seconds, 3),
    }


def _show(restored: RestoredArchive, plan: LogicalPlan) -> None:
    phases = ", ".join(f"{phase} {length(seconds)}" for phase, seconds in restored.phases.items())
    fields = [
        (one.database, f"is {one.name}: {one.tables} tables, {one.rows:,} rows, all compared with what was backed up")
        for one in restored.databases
    ]
    show_fields("Restored", [*fields, ("took", f"{length(restored.seconds)} ({phases})")])
    say("What to do next", "bold")
    steps = ["Look at the data before anybody works with them."]
    if any(one.tables is not None for one in plan.databases):
        steps.append("Bring the rows to where they belong: pg_dump --table … NEW | psql OLD, or INSERT … SELECT.")
    else:
        steps.append("Privileges on the database itself (GRANT CONNECT …) are not brought back: set them.")
        steps.append("To put it in the old one's place: ALTER DATABASE … RENAME TO …, with nobody connected.")
    for number, step in enumerate(steps, 1):
        say(f"  {number}. {step}")
    note("Done.", "green")
