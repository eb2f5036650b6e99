"""``lifeboat retention plan`` and ``run``: which copies stay, which go and why, and letting them go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli import retention_marks, retention_simulation
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.moment import time_in
from lifeboat.cli.output import fail, iso, note, say, show_json, show_table, warn
from lifeboat.cli.outside import check_source, surroundings, targets_of

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from lifeboat.policy.model import LoadedPolicy
    from lifeboat.repository.retention.decisions import Decision
    from lifeboat.repository.retention.source_plan import SourcePlan
    from lifeboat.repository.system import SystemRepository

app = typer.Typer(
    help="Which copies stay, which go and why; holds, deletions, and taking them back.", no_args_is_help=True
)
retention_marks.add_to(app)
retention_simulation.add_to(app)

System = Annotated[str, typer.Argument(help="The system, as its policy calls it.")]
OneSource = Annotated[str | None, typer.Argument(help="The source in it; by default every one.")]


@app.command("plan")
def plan_verb(
    ctx: typer.Context,
    system: System,
    source: OneSource = None,
    target: Annotated[str | None, typer.Option(help="Show this target alone.")] = None,
    at: Annotated[str | None, typer.Option(help="Plan for this moment; by default now.", metavar="MOMENT")] = None,
    wal: Annotated[bool, typer.Option("--wal", help="List every WAL run, not only how many.")] = False,
    calendar: Annotated[
        bool, typer.Option("--calendar", help="Show a calendar with a letter for each day instead of a list.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say of every copy whether it stays or would go, and why. Nothing is changed."""
    if calendar and as_json:
        raise typer.BadParameter("It is for people; leave out --json.", param_hint="--calendar")
    here = surroundings(ctx)
    loaded = here.loaded(system)
    sources, targets = _sources(loaded, source), targets_of(loaded, target)
    repository = here.repository(loaded)
    now = repository.outside.clock() if at is None else time_in(at, loaded.policy.zone)[0]
    plans = []
    for name in sources:
        plan = _planned(repository, name, now, supposed=at is not None)
        plans.append(plan)
        if not as_json:
            _show_plan(repository, plan, targets, wal=wal, calendar=calendar)
    if as_json:
        documents = [_document(plan, targets, repository.policy.zone) for plan in plans]
        show_json({"system": system, "at": iso(now), "sources": documents})
    else:
        note("Nothing was changed.")


@app.command("run")
def run_verb(
    ctx: typer.Context,
    system: System,
    source: OneSource = None,
    target: Annotated[str | None, typer.Option(help="Clean this target alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Carry the plan out: hide what goes, and remove what was hidden long enough. What the DAG does every day."""
    from lifeboat.errors import Cancelled, LifeboatError

    here = surroundings(ctx)
    loaded = here.loaded(system)
    sources, targets = _sources(loaded, source), targets_of(loaded, target)
    repository = here.repository(loaded, removing=True)
    done: list[dict[str, Any]] = []
    failed = False
    for name in sources:
        for place in targets:
            try:
                done.append(_clean(repository, name, place))
            except Cancelled:
                raise
            except LifeboatError as error:
                failed = True
                fail(error)
    if as_json:
        show_json({"system": system, "cleaned": done})
    if failed or any(one["stopped"] for one in done):
        raise typer.Exit(1)


def _sources(loaded: LoadedPolicy, source: str | None) -> list[str]:
    from lifeboat.policy.built import built_tiers

    if source is not None:
        check_source(loaded, source)
        return [source]
    return list(dict.fromkeys(name for name, _ in built_tiers(loaded.policy)))


def _planned(repository: SystemRepository, source: str, now: datetime, *, supposed: bool) -> SourcePlan:
    from lifeboat.backup.kinds import kind_of
    from lifeboat.repository.retention.source_plan import source_plan

    roles = kind_of(repository.policy.sources[source].kind).roles()
    return source_plan(repository, source, roles, now, supposed=supposed, tick=STOP.check)


def _clean(repository: SystemRepository, source: str, target: str) -> dict[str, Any]:
    from lifeboat.backup.kinds import kind_of
    from lifeboat.cli.recording import actor
    from lifeboat.repository.retention.cleaning import Cleanup

    roles = kind_of(repository.policy.sources[source].kind).roles()
    done = Cleanup(repository, source, roles, target, "command-retention", actor(), STOP.check).all()
    words = f"{repository.system} {source} on {target}"
    for sentence in done.stopped:
        warn(f"{words}: {sentence}")
    say(f"{words}: {done.in_words()}")
    return {"source": source, "target": target} | done.document()


def _document(plan: SourcePlan, targets: Sequence[str], zone: ZoneInfo) -> dict[str, Any]:
    return {
        "source": plan.source,
        "stopped": list(plan.stopped),
        "copies": [
            {
                "target": one.target,
                "recovery_point": one.point.recovery_point,
                "action": one.action.value,
                "reason": one.reason.value,
                "because": one.sentence(zone),
            }
            for one in plan.decisions
            if one.target in targets
        ],
    }


def _show_plan(
    repository: SystemRepository, plan: SourcePlan, targets: Sequence[str], *, wal: bool, calendar: bool
) -> None:
    for state in plan.held.states:
        if state.target not in targets:
            continue
        title = f"{repository.system} {plan.source} on {state.target}"
        _show(title, plan.of(state.target), repository.policy.zone, wal=wal, calendar=calendar)
        for mark in plan.held.marks:
            if mark.kind == "quarantined" and mark.target == state.target:
                say(f"{title}: {mark.recovery_point} is set aside: {mark.reason}")
        for sentence in plan.frozen(state.target):
            warn(f"{plan.source}: {sentence}")
    for sentence in plan.stopped:
        warn(f"{plan.source}: {sentence} Such a plan is not carried out.")


def _show(title: str, decisions: Sequence[Decision], zone: ZoneInfo, *, wal: bool, calendar: bool) -> None:
    listed = [one for one in decisions if wal or one.point.kind != "wal"]
    if listed and calendar:
        from lifeboat.cli.retention_calendar import show_calendar

        show_calendar(title, listed, zone)
    elif listed:
        show_table(
            title, ("id", "tiers", ""),
            [(one.point.recovery_point, ", ".join(one.point.tiers), one.sentence(zone)) for one in listed],
        )  # fmt: skip
    if not wal:
        for words, count in Counter(_wal_in_words(one) for one in decisions if one.point.kind == "wal").items():
            say(f"{title}: {count} WAL runs {words}.")
    if not decisions:
        say(f"{title}: nothing is there.")


def _wal_in_words(decision: Decision) -> str:
    verbs = {"stays": "stay", "goes": "go", "waits": "are deleted", "returns": "come back", "purged": "are removed"}
    return f"{verbs[decision.action.value]} ({decision.reason.value})"
