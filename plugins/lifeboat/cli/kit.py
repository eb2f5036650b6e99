"""``lifeboat kit``: the recovery kit, made and looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifeboat.cli.output import note, say, show_fields, show_json, size, warn
from lifeboat.cli.outside import surroundings
from lifeboat.cli.preflight import show_findings
from lifeboat.errors import LifeboatError, PolicyError

if TYPE_CHECKING:
    from lifeboat.cli.outside import Surroundings
    from lifeboat.kit.export import KitSummary
    from lifeboat.policy.model import LoadedPolicy
    from lifeboat.repository.system import SystemRepository

app = typer.Typer(help="The recovery kit: all that a restore needs when everything else is lost.", no_args_is_help=True)


@app.command("export")
def export_verb(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The kit to be made, a zip file; never overwritten.")],
    system: Annotated[
        list[str] | None, typer.Option(help="Only this system; may be repeated. By default all that have a policy.")
    ] = None,
    wheels: Annotated[Path | None, typer.Option(help="A directory with the wheels that the reader needs.")] = None,
    connection: Annotated[
        list[str] | None,
        typer.Option(help="Seal this connection too, besides those of targets and keys; may be repeated."),
    ] = None,
    without_credentials: Annotated[
        bool, typer.Option("--without-credentials", help="Leave all secrets out: such a kit alone restores nothing.")
    ] = False,
    project: Annotated[
        Path | None, typer.Option(help="Where docs/ and include/ of the project lie, if not beside this program.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a recovery kit. Its credentials open with the break-glass key alone: keep the two apart."""
    from lifeboat.cli.recording import actor
    from lifeboat.kit.export import export
    from lifeboat.kit.papers import PROJECT

    here = surroundings(ctx)
    names = system or here.systems()
    if not names:
        raise PolicyError(f"There is no policy in {here.policies}.", "Name their directory with --policies.")
    repositories = [here.repository(here.loaded(name)) for name in dict.fromkeys(names)]
    summary = export(
        repositories,
        file,
        actor=actor(),
        connections=connection or (),
        wheels=wheels,
        without_credentials=without_credentials,
        project=project or PROJECT,
    )
    for repository in repositories:
        _record(repository, summary)
    if as_json:
        show_json({"file": str(summary.path), "break_glass": summary.break_glass, **summary.for_journal()})
    else:
        _show(summary)


def _record(repository: SystemRepository, summary: KitSummary) -> None:
    from lifeboat.cli.outside import targets_of
    from lifeboat.cli.recording import BestEffortJournal

    # The kit is made and whole; a target that is away must not make it look as if it were not.
    journal = BestEffortJournal(repository, targets_of(repository.loaded), run="command-kit", tell=warn)
    journal.write("kit_exported", **summary.for_journal())


def _show(summary: KitSummary) -> None:
    sealed = [*summary.connections, *summary.local_keys]
    opens = {name for names in summary.break_glass.values() for name in names}
    show_fields(
        f"Recovery kit {summary.kit}",
        [
            ("file", str(summary.path)),
            ("size", size(summary.size)),
            ("SHA-256", summary.sha256),
            ("systems", ", ".join(summary.systems)),
            ("sealed", ", ".join(sealed) or "nothing"),
            ("opened by", ", ".join(sorted(opens)) or "—"),
            ("wheels", str(summary.wheels) if summary.wheels else "none"),
        ],
    )
    for notice in summary.notices:
        warn(notice)
    say("Keep it where the loss is not, apart from the break-glass key; check it with `lifeboat kit check`.", "green")


@app.command("check")
def check_verb(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The kit.")],
    alone: Annotated[
        bool, typer.Option("--alone", help="Compare with no policies: as on the day on which the kit is all there is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at a kit from all sides: whole, signed, opened by the break-glass key, its targets reached, up to date."""
    from lifeboat.connections import outside_from
    from lifeboat.kit.checking import check

    here = surroundings(ctx)
    findings = check(file, here.break_glass, outside_from, policies=None if alone else _in_force(here))
    good = not any(finding.severity == "error" for finding in findings)
    if as_json:
        rows = [
            {"severity": found.severity, "subject": found.subject, "what": found.what, "remedy": found.remedy}
            for found in findings
        ]
        show_json({"file": os.fspath(file), "good": good, "findings": rows})
    else:
        show_findings(findings)
        say("The kit is good." if good else "The kit would not do: see the errors above.", "green" if good else "red")
    if not good:
        raise typer.Exit(1)


def _in_force(here: Surroundings) -> dict[str, LoadedPolicy] | None:
    """The policies at hand; ``None`` where there are none, as on a machine that has but the kit."""
    found: dict[str, LoadedPolicy] = {}
    for name in here.systems():
        try:
            found[name] = here.loaded(name)
        except LifeboatError as error:
            note(f"notice: the policy of {name} can't be compared with: {error.what}", "dim")
    return found or None
