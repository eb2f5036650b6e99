"""``lifeboat restore`` of a physical backup: a data directory, to any moment, proven by a server of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, length, note, say, show_fields, show_json
from lifeboat.cli.progress import phases
from lifeboat.cli.restore_permission import insist_on_permission
from lifeboat.cli.restore_record import on_record
from lifeboat.errors import RestoreError

if TYPE_CHECKING:
    from lifeboat.cli.moment import Asked
    from lifeboat.cli.restore_plan import Proposal
    from lifeboat.policy.postgres_source import PostgresSource
    from lifeboat.postgres.restore import Restored
    from lifeboat.repository.system import SystemRepository

_PHASES = {
    "fetch": "Fetched",
    "combine": "Combined",
    "stage": "WAL files staged",
    "replay": "Replayed",
    "check": "Checked",
    "swap": "Exchanged",
}


def insist_on_place(into: Path | None, *, parts: bool, system: str, source: str) -> Path:
    """The data directory to make; raises ``RestoreError`` where none was named, or parts were asked for."""
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


def mapped(texts: Sequence[str]) -> dict[str, Path]:
    """Where tablespaces go, by their old places; raises ``RestoreError``."""
    from lifeboat.cli.restore_plan import absolute

    found: dict[str, Path] = {}
    for text in texts:
        old, separator, new = text.partition("=")
        if not separator or not old or not new:
            raise RestoreError(f"--tablespace {text!r} is not OLD=NEW.", "Write its old place, =, and its new place.")
        found[old.rstrip("/") or "/"] = absolute(Path(new))
    return found


def propose(
    repository: SystemRepository,
    policy: PostgresSource,
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
    replace: bool = False,
) -> Proposal:
    """What would be restored, from where and with what; with the obstacles that were found."""
    from lifeboat.cli.restore_choice import choose
    from lifeboat.cli.restore_estimate import estimated
    from lifeboat.cli.restore_plan import Proposal, absolute, obstacles
    from lifeboat.postgres.destination import Request, moved_tablespaces
    from lifeboat.postgres.finding_programs import server_programs
    from lifeboat.postgres.old_directory import aside_of

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
        aside=aside_of(absolute(into), repository.outside.clock()) if replace else None,
    )
    found = tuple(obstacles(repository, choice.plan, request))
    measured = estimated(repository, source, choice.offer.target, choice.plan.plain_bytes)
    return Proposal(repository.system, source, asked, choice, request, found, measured)


def restore_data_directory(
    repository: SystemRepository, proposal: Proposal, *, plan_only: bool, yes: bool, as_json: bool
) -> None:
    """Show the plan, ask, restore, and say what came back and what to do next.

    Raises:
        typer.Exit: nothing but the plan was asked for.
        LifeboatError: an obstacle, or the restore failed; the destination is as it was.
    """
    from lifeboat.postgres.old_directory import holds_something

    if plan_only:
        _show_plan(proposal, as_json)
        raise typer.Exit(1 if proposal.obstacles else 0)
    if not as_json:
        _show_plan(proposal, as_json=False)
    for obstacle in proposal.obstacles:
        raise obstacle
    gives_way = holds_something(proposal.request.into)
    insist_on_permission()
    agree(f"{'Put it in the place of' if gives_way else 'Restore into'} {proposal.request.into}?", yes)
    restored = _carry_out(repository, proposal)
    if as_json:
        from lifeboat.cli.restore_plan import document

        show_json({"plan": document(proposal), "restored": _document(restored)})
    else:
        _show(restored, proposal)


def _show_plan(proposal: Proposal, as_json: bool) -> None:
    from lifeboat.cli.restore_plan import document, show

    if as_json:
        show_json(document(proposal))
    else:
        show(proposal)


def _carry_out(repository: SystemRepository, proposal: Proposal) -> Restored:
    from lifeboat.cli.restore_elsewhere import naming_other_copies
    from lifeboat.postgres.restore import restore

    plan, request = proposal.plan, proposal.request
    about = {"moment": str(plan.moment), "into": str(request.into)}
    manifest = plan.base.manifest
    with (
        on_record(repository, manifest, request.target, proposal.choice.reached, **about) as outcome,
        naming_other_copies(repository, plan.copies),
        phases(_PHASES, ("fetch", "combine")) as progress,
    ):
        restored = restore(repository, plan, request, progress=progress, tick=STOP.check)
        recovered = restored.recovered
        outcome.details = {
            "stopped_at": str(recovered.stopped_at),
            "last_commit": recovered.last_commit.isoformat() if recovered.last_commit is not None else None,
            "to_the_end": restored.to_the_end,
        }
        if restored.aside is not None:
            outcome.details["renamed"] = {str(restored.into): str(restored.aside)}
        outcome.phases, outcome.size, outcome.data_until = restored.phases, plan.plain_bytes, recovered.last_commit
        outcome.proven = f"every file and WAL record; {len(restored.databases)} databases answered"
    return restored


def _document(restored: Restored) -> dict[str, Any]:
    recovered = restored.recovered
    return {
        "into": str(restored.into),
        "aside": str(restored.aside) if restored.aside is not None else None,
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
    if restored.aside is not None:
        fields.insert(1, ("gave way", f"what was there is {restored.aside} now"))
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
        f"Remove {restored.aside} when nobody needs it any more. Until then, to go back: stop the server, rename both."
        if restored.aside is not None
        else "",
        f"It is on a new timeline: lead the policy's connection to it, then back it up: "
        f"lifeboat backup {proposal.system} {proposal.source} --tier daily",
    ]
    for number, step in enumerate(filter(None, steps), 1):
        say(f"  {number}. {step}")
    note("Done.", "green")
