"""``lifeboat restore … --connection ID``: a logical archive, whole or some tables, into databases new or there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import length, note, say, show_fields, show_json
from lifeboat.cli.outside import in_words, targets_of
from lifeboat.cli.progress import phases
from lifeboat.cli.restore_choice import NEAREST_FIRST
from lifeboat.cli.restore_elsewhere import naming_other_copies
from lifeboat.cli.restore_logical_plan import document, show_plan
from lifeboat.cli.restore_permission import insist_on_permission
from lifeboat.cli.restore_record import on_record
from lifeboat.errors import Cancelled, LifeboatError, RestoreError

if TYPE_CHECKING:
    from lifeboat.policy.postgres_source import PostgresSource
    from lifeboat.postgres.logical_filling import Progress
    from lifeboat.postgres.logical_planning import LogicalPlan
    from lifeboat.postgres.logical_proof import RestoredArchive
    from lifeboat.postgres.parameters import ConnectionParameters
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository

_PHASES = {"restore": "Restored", "check": "Databases compared", "swap": "Names exchanged"}


@dataclass(frozen=True)
class Wish:
    """What a person asked for.

    Attributes:
        connection: the id of the connection to the server that the databases come back to.
        at, recovery_point: which archive; by default the newest.
        target: read from this target alone.
        databases, only: which databases, and patterns of tables.
        name: what the one database is to be called.
        into: the database that is there, and is to take in what comes back; by default new ones are made.
        replace_databases: in the place of those that have the names, which are renamed.
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
    into: str | None
    with_globals: bool
    owners: bool
    binaries: Path | None
    replace_databases: bool = False


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

        with naming_other_copies(repository, [copy]):
            say(globals_script(repository, copy))
        return
    if wish.into is not None and wish.name is not None:
        raise RestoreError("--as names a new database, and --into-database one that is there.", "Say one of them.")
    parameters = _parameters(repository, source, wish.connection, None)
    with naming_other_copies(repository, [copy]):
        plan = prepare(
            repository,
            copy,
            parameters,
            binaries=wish.binaries or source.binaries,
            databases=wish.databases,
            only=wish.only,
            name=wish.name,
            existing=None if wish.into is None else _parameters(repository, source, wish.connection, wish.into),
            replace_databases=wish.replace_databases,
            globals_wanted=wish.with_globals,
            owners=wish.owners,
            tick=STOP.check,
        )
    remarks = [*passed_over, *plan.remarks]
    if as_json and plan_only:
        show_json(document(plan, parameters, remarks))
    elif not as_json:
        show_plan(plan, parameters, remarks)
    if plan_only:
        raise typer.Exit(1 if plan.obstacles else 0)
    for obstacle in plan.obstacles:
        raise obstacle
    names = ", ".join(one.name for one in plan.databases)
    insist_on_permission()
    agree(_question(plan, names), yes)
    restored = _carry_out(repository, source, source_name, wish, plan, reached)
    if as_json:
        show_json({"plan": document(plan, parameters, remarks), "restored": _document(restored)})
    else:
        _show(restored, plan)


def _question(plan: LogicalPlan, names: str) -> str:
    if plan.existing:
        return f"Bring it into {names}?"
    return f"Put what comes back in the place of {', '.join(plan.replaces)}?" if plan.replaces else f"Make {names}?"


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


def _carry_out(
    repository: SystemRepository,
    source: PostgresSource,
    source_name: str,
    wish: Wish,
    plan: LogicalPlan,
    reached: Sequence[str],
) -> RestoredArchive:
    into = [one.name for one in plan.databases]
    about: dict[str, Any] = {"connection": wish.connection, "into": into, "only": list(wish.only)}
    if plan.replaces:
        about["renamed"] = plan.replaces
    manifest = plan.copy.manifest
    with (
        on_record(repository, manifest, plan.copy.target, reached, **about) as outcome,
        naming_other_copies(repository, [plan.copy]),
        phases(_PHASES, ("restore",)) as progress,
    ):
        restored = _do(repository, source, wish, plan, progress)
        rows = sum(one.rows for one in restored.databases)
        outcome.details = {"rows": rows, **({"sessions_ended": restored.sessions_ended} if plan.replaces else {})}
        if restored.gone:
            outcome.details["dropped_first"] = list(restored.gone)
        outcome.phases, outcome.size, outcome.data_until = restored.phases, manifest.plain_size, manifest.moment
        outcome.proven = f"{len(restored.databases)} databases, {rows:,} rows, all compared with the backup"
    return restored


def _do(
    repository: SystemRepository, source: PostgresSource, wish: Wish, plan: LogicalPlan, progress: Progress
) -> RestoredArchive:
    from lifeboat.postgres.logical_existing import restore_into
    from lifeboat.postgres.logical_restore import restore_logical

    def to(name: str) -> ConnectionParameters:
        return _parameters(repository, source, wish.connection, name or None)

    if plan.existing:
        return restore_into(repository, plan, to(plan.databases[0].name), progress=progress, tick=STOP.check)
    return restore_logical(
        repository, plan, to, side_by_side=source.logical.side_by_side, progress=progress, tick=STOP.check
    )


def _document(restored: RestoredArchive) -> dict[str, Any]:
    return {
        "databases": [
            {"database": one.database, "name": one.name, "tables": one.tables, "rows": one.rows}
            | ({"aside": one.aside} if one.aside else {})
            for one in restored.databases
        ],
        "made_globals": restored.made_globals,
        "dropped_first": list(restored.gone),
        "left": list(restored.left),
        "phases": {phase: round(seconds, 3) for phase, seconds in restored.phases.items()},
        "seconds": round(restored.seconds, 3),
    }


def _show(restored: RestoredArchive, plan: LogicalPlan) -> None:
    phases = ", ".join(f"{phase} {length(seconds)}" for phase, seconds in restored.phases.items())
    where = "in " if plan.existing else ""
    fields = [
        (one.database, f"is {where}{one.name}: {one.tables} tables, {one.rows:,} rows, all compared with the backup")
        for one in restored.databases
    ]
    fields += [("gave way", f"{one.name} is {one.aside} now") for one in restored.databases if one.aside]
    fields += [("dropped first", f"{name}, which a killed restore had left") for name in restored.gone]
    show_fields("Restored", [*fields, ("took", f"{length(restored.seconds)} ({phases})")])
    for sentence in restored.left:
        note(f"note: {sentence}", "yellow")
    say("What to do next", "bold")
    steps = ["Look at the data before anybody works with them."]
    if plan.existing:
        left_out = [statement for one in plan.databases if one.fit is not None for statement in one.fit.by_hand]
        if left_out:
            steps.append("What was left out, to be made where the other tables are there:\n" + "\n".join(left_out))
    elif plan.replaces:
        steps += [
            "Let the applications connect again: their sessions were ended.",
            "Back it up: lifeboat backup SYSTEM SOURCE with its tiers.",
            f"Drop {', '.join(plan.replaces.values())} when nobody needs it any more. Until then, to go back, with "
            "nobody connected: ALTER DATABASE … RENAME TO …, both in one transaction.",
        ]
    elif any(one.tables is not None for one in plan.databases):
        steps.append("Bring the rows to where they belong: pg_dump --table … NEW | psql OLD, or INSERT … SELECT.")
    else:
        steps.append("To put it in the old one's place: ALTER DATABASE … RENAME TO …, with nobody connected.")
    for number, step in enumerate(steps, 1):
        say(f"  {number}. {step}")
    note("Done.", "green")
