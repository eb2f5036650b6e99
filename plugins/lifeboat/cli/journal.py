"""``lifeboat journal``: what happened, and whether the record of it is whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.holdings import for_each
from lifeboat.cli.output import fail, moment, note, say, show_json, show_table, warn
from lifeboat.cli.outside import surroundings, targets_of
from lifeboat.errors import LifeboatError, PolicyError, TargetUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifeboat.policy.model import LoadedPolicy
    from lifeboat.repository.journal import Event, JournalProblem
    from lifeboat.repository.system import SystemRepository

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")

app = typer.Typer(help="Read the journal.", no_args_is_help=True)


@app.command("show")
def show_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    since: Annotated[
        str | None, typer.Option(help="A length of time (7d, 12h) or a time; by default everything.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Read this target's; by default the first that answers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the events of a system, oldest first."""
    here = surroundings(ctx)
    loaded = here.loaded(system)
    repository = here.repository(loaded)
    begin = _since(since, loaded, repository.outside.clock()) if since is not None else None
    name, found = _first_that_answers(repository, targets_of(loaded, target), begin)
    events, problems = _apart(found)
    events = [event for event in events if begin is None or event.time >= begin]
    if as_json:
        show_json(
            {
                "system": system,
                "target": name,
                "events": [event.model_dump(mode="json") for event in events],
                "problems": [{"key": problem.key, "what": problem.what} for problem in problems],
            }
        )
        return
    show_table(
        f"{system}: journal on {name}",
        ("time", "event", "source", "recovery point", "target", "by", "details"),
        [_row(event) for event in events],
    )
    if problems:
        warn(f"{len(problems)} places can't be believed: see lifeboat journal verify {system}.")


def _short(digest: re.Match[str]) -> str:
    return f"{digest[0][:12]}…"


def _row(event: Event) -> tuple[str, ...]:
    details = ", ".join(
        f"{name} {_DIGEST.sub(_short, str(value))}"
        for name, value in event.details.items()
        if value not in (None, "", [])
    )
    return (
        moment(event.time),
        event.kind,
        event.source or "",
        event.recovery_point or "",
        event.target or "",
        event.actor,
        details,
    )


def _since(text: str, loaded: LoadedPolicy, now: datetime) -> datetime:
    from lifeboat.cli.moment import time_in
    from lifeboat.policy.duration import Duration

    try:
        return Duration.parse(text).before(now, loaded.policy.zone)
    except ValueError:
        pass
    try:
        return time_in(text, loaded.policy.zone)[0]
    except LifeboatError as error:
        raise PolicyError(
            f"--since {text!r} is neither a length of time nor a time.",
            "Write 7d or 12h, or 2026-11-22 14:30:00.",
        ) from error


_Found = list["Event | JournalProblem"]


def _first_that_answers(
    repository: SystemRepository, targets: Sequence[str], since: datetime | None
) -> tuple[str, _Found]:
    errors = []
    for name in targets:
        result = for_each([name], lambda one: _read(repository, one, since))[name]
        if not isinstance(result, LifeboatError):
            return name, result
        errors.append((name, result))
        if len(targets) > 1:
            warn(f"The target {name} is out of reach: {result}")
    if len(errors) == 1:
        raise errors[0][1]
    raise TargetUnavailable("Not one target's journal can be read.", "What each of them says is above.")


def _read(repository: SystemRepository, target: str, since: datetime | None = None, *, bundled: bool = True) -> _Found:
    from lifeboat.repository.journal import read_journal

    found: _Found = []
    now = repository.outside.clock()
    store = repository.target(target)
    for one in read_journal(store, repository.system, repository.trusted, since=since, now=now, bundled=bundled):
        STOP.check()
        found.append(one)
    return found


def _apart(found: _Found) -> tuple[list[Event], list[JournalProblem]]:
    from lifeboat.repository.journal import Event, JournalProblem

    return (
        [one for one in found if isinstance(one, Event)],
        [one for one in found if isinstance(one, JournalProblem)],
    )


@app.command("verify")
def verify_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    target: Annotated[str | None, typer.Option(help="Verify this target's alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify every event's signature and place, the chain of each run, and that targets don't contradict each other."""
    here = surroundings(ctx)
    loaded = here.loaded(system)
    repository = here.repository(loaded)
    looked = for_each(targets_of(loaded, target), lambda name: _read(repository, name, bundled=False))
    documents: list[dict[str, Any]] = []
    seen: dict[str, tuple[str, Event]] = {}
    bad = False
    for name, result in looked.items():
        if isinstance(result, LifeboatError):
            fail(result)
            documents.append({"target": name, "events": None, "problems": [{"key": "", "what": str(result)}]})
            bad = True
            continue
        events, problems = _apart(result)
        rows = [{"key": problem.key, "what": problem.what} for problem in problems]
        rows += _contradictions(name, events, seen)
        documents.append({"target": name, "events": len(events), "problems": rows, "newest": _newest(events)})
        bad = bad or bool(rows)
    if as_json:
        show_json({"system": system, "ok": not bad, "targets": documents})
    else:
        _show(documents)
    if bad:
        raise typer.Exit(1)


def _contradictions(target: str, events: Sequence[Event], seen: dict[str, tuple[str, Event]]) -> list[dict[str, str]]:
    found = []
    for event in events:
        other, before = seen.setdefault(event.key, (target, event))
        if before != event:
            found.append({"key": event.key, "what": f"The event is another one than on {other}."})
    return found


def _newest(events: Sequence[Event]) -> str | None:
    return max(event.time for event in events).astimezone(UTC).isoformat() if events else None


def _show(documents: Sequence[dict[str, Any]]) -> None:
    for document in documents:
        for problem in document["problems"]:
            note(f"{document['target']}: {problem['key']} {problem['what']}", "bold red")
        if document["events"] is not None:
            style = "red" if document["problems"] else "green"
            say(f"{document['target']}: {document['events']} events, {len(document['problems'])} problems.", style)
