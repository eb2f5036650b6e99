"""``lifeboat retention hold``, ``release``, ``undo``, ``quarantine``: what a person says about recovery points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from lifeboat.cli.output import say, warn
from lifeboat.cli.outside import check_source, surroundings, targets_of

System = Annotated[str, typer.Argument(help="The system, as its policy calls it.")]
Source = Annotated[str, typer.Argument(help="The source in it.")]
Points = Annotated[list[str], typer.Argument(help="The recovery points' ids.", metavar="ID…")]
Reason = Annotated[str, typer.Option(help="Why: it is kept in the journal, and shown in every plan.")]


def add_to(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("hold")(hold_verb)
    app.command("release")(release_verb)
    app.command("undo")(undo_verb)
    app.command("quarantine")(quarantine_verb)


def hold_verb(ctx: typer.Context, system: System, source: Source, points: Points, reason: Reason) -> None:
    """Keep recovery points on every target until they are released, whatever any rule says."""
    from lifeboat.cli.recording import actor
    from lifeboat.repository.retention.keeping import hold

    here = surroundings(ctx)
    loaded = here.loaded(system)
    check_source(loaded, source)
    away = hold(here.repository(loaded), source, points, reason, actor())
    say(f"Held: {', '.join(points)}.")
    _insist_on_all(away, "hold", "Until then they may be deleted there, where a rule says so.")


def release_verb(ctx: typer.Context, system: System, source: Source, points: Points, reason: Reason = "") -> None:
    """End the holds on recovery points: the rules decide about them again."""
    from lifeboat.cli.recording import actor
    from lifeboat.repository.retention.keeping import release

    here = surroundings(ctx)
    loaded = here.loaded(system)
    check_source(loaded, source)
    away = release(here.repository(loaded), source, points, reason, actor())
    say(f"No longer held: {', '.join(points)}. `lifeboat retention plan` says what becomes of them.")
    if away:
        warn(f"{', '.join(away)} can't be reached, and will be told by the next cleanup.")


def undo_verb(
    ctx: typer.Context,
    system: System,
    source: Source,
    points: Points,
    target: Annotated[str | None, typer.Option(help="On this target alone.")] = None,
    reason: Reason = "taken back by hand",
    hold: Annotated[
        bool, typer.Option("--hold/--no-hold", help="Hold what came back: else the next cleanup may delete it again.")
    ] = True,
) -> None:
    """Take deletions back, as long as the bytes are there, and hold what came back."""
    from lifeboat.cli.recording import actor
    from lifeboat.repository.retention.keeping import undo

    here = surroundings(ctx)
    loaded = here.loaded(system)
    check_source(loaded, source)
    back = undo(here.repository(loaded), source, points, targets_of(loaded, target), reason, actor(), held=hold)
    for one in back:
        say(f"Back: {one}.")
    if hold:
        say("They are held now; `lifeboat retention release` ends that.")


def quarantine_verb(
    ctx: typer.Context,
    system: System,
    source: Source,
    point: Annotated[str, typer.Argument(help="The recovery point's id.", metavar="ID")],
    target: Annotated[str, typer.Option(help="The target whose copy can't be believed.")],
    reason: Reason,
    end: Annotated[bool, typer.Option("--end", help="Judge it again.")] = False,
) -> None:
    """Set aside a copy that can't be believed: its bytes stay, and it stops the retention of its source no longer."""
    from lifeboat.cli.recording import actor
    from lifeboat.repository.retention.keeping import end_quarantine, quarantine

    here = surroundings(ctx)
    loaded = here.loaded(system)
    check_source(loaded, source)
    targets_of(loaded, target)
    (end_quarantine if end else quarantine)(here.repository(loaded), source, point, target, reason, actor())
    say(f"{point} on {target} is {'judged again' if end else 'set aside; its bytes stay'}.")


def _insist_on_all(away: Sequence[str], verb: str, what: str) -> None:
    if away:
        warn(f"{', '.join(away)} can't be reached and does not know of it. {what} Say `{verb}` again when it is back.")
        raise typer.Exit(1)
