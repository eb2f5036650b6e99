"""``lifeboat retention``: which copies stay, which would go, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.moment import time_in
from lifeboat.cli.output import iso, note, say, show_json, show_table, warn
from lifeboat.cli.outside import check_source, surroundings

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from lifeboat.repository.retention.decisions import Decision
    from lifeboat.repository.system import SystemRepository

app = typer.Typer(help="See which copies stay, which would go, and why.", no_args_is_help=True)


@app.callback()
def _verbs() -> None:
    """So that the one verb there is keeps its name."""


@app.command("plan")
def plan_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    source: Annotated[str | None, typer.Argument(help="The source in it; by default every one.")] = None,
    at: Annotated[str | None, typer.Option(help="Plan for this moment; by default now.", metavar="MOMENT")] = None,
    wal: Annotated[bool, typer.Option("--wal", help="List every WAL run, not only how many.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say of every copy whether it stays or would go, and why. Nothing is changed."""
    from lifeboat.policy.built import built_tiers

    here = surroundings(ctx)
    loaded = here.loaded(system)
    if source is not None:
        check_source(loaded, source)
    repository = here.repository(loaded)
    now = repository.outside.clock() if at is None else time_in(at, loaded.policy.zone)[0]
    sources = [source] if source is not None else list(dict.fromkeys(name for name, _ in built_tiers(loaded.policy)))
    plans = [_plan(repository, name, now, wal=wal, as_json=as_json) for name in sources]
    if as_json:
        show_json({"system": system, "at": iso(now), "sources": plans})
    else:
        note("Nothing was changed.")


def _plan(repository: SystemRepository, source: str, now: datetime, *, wal: bool, as_json: bool) -> dict[str, Any]:
    from lifeboat.backup.kinds import kind_of
    from lifeboat.repository.retention.guarding import stopped_by_clock, stopped_by_number
    from lifeboat.repository.retention.planning import plan_source
    from lifeboat.repository.retention.reading import read_source
    from lifeboat.repository.retention.rules import rules_of

    roles = kind_of(repository.policy.sources[source].kind).roles()
    held = read_source(repository, source, roles, tick=STOP.check)
    rules = rules_of(repository.policy, source)
    decisions = plan_source(held.states, rules, now)
    stopped = [one for one in (stopped_by_clock(held.latest, now), *stopped_by_number(decisions, rules)) if one]
    if as_json:
        return {
            "source": source,
            "stopped": stopped,
            "copies": [
                {
                    "target": one.target,
                    "recovery_point": one.point.recovery_point,
                    "action": one.action.value,
                    "reason": one.reason.value,
                    "because": one.sentence(repository.policy.zone),
                }
                for one in decisions
            ],
        }
    for state in held.states:
        _show(repository.system, source, state.target, _of(decisions, state.target), repository.policy.zone, wal=wal)
    for sentence in stopped:
        warn(f"{source}: {sentence} Such a plan is not carried out.")
    return {}


def _of(decisions: Iterable[Decision], target: str) -> list[Decision]:
    return [one for one in decisions if one.target == target]


def _show(system: str, source: str, target: str, decisions: Sequence[Decision], zone: ZoneInfo, *, wal: bool) -> None:
    listed = [one for one in decisions if wal or one.point.kind != "wal"]
    if listed:
        show_table(
            f"{system} {source} on {target}", ("id", "tiers", ""),
            [(one.point.recovery_point, ", ".join(one.point.tiers), one.sentence(zone)) for one in listed],
        )  # fmt: skip
    if not wal:
        for words, count in Counter(_wal_in_words(one) for one in decisions if one.point.kind == "wal").items():
            say(f"{system} {source} on {target}: {count} WAL runs {words}.")
    if not decisions:
        say(f"{system} {source} on {target}: nothing is there.")


def _wal_in_words(decision: Decision) -> str:
    return f"{'go' if decision.action.value == 'goes' else 'stay'} ({decision.reason.value})"
