"""``lifeboat report test``: what people read of a restore test or a drill."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifeboat.cli.output import show_json, warn
from lifeboat.cli.outside import surroundings, targets_of
from lifeboat.errors import Cancelled, DestinationInUse, LifeboatError, RecoveryPointMissing, TargetUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifeboat.recovery.evidence import Record
    from lifeboat.repository.system import SystemRepository

LOOKED_BACK = timedelta(days=400)
"""Records that actions are carried on from: more than a year of monthly tests."""


def report_test_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    record: Annotated[
        str | None, typer.Option(help="The record; by default the newest restore test or drill.", metavar="ID")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(help="A directory to write it to, as Markdown and as a page; else it is printed.", metavar="DIR"),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Read this target's; by default the first that answers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a restore test or a drill: what failed first, recovery times, and what has to be put right until when."""
    here = surroundings(ctx)
    loaded = here.loaded(system)
    repository = here.repository(loaded)
    records = _records(repository, targets_of(loaded, target))
    chosen = _chosen(records, record)
    from lifeboat.recovery.reporting import reports_of

    now = repository.outside.clock()
    reports = reports_of(chosen, records, loaded.policy.zone, now)
    if into is None:
        if as_json:
            show_json({"record": chosen.id, "passed": chosen.passed, "markdown": reports.markdown})
        else:
            typer.echo(reports.markdown)
        return
    files = {into / f"{chosen.id}.md": reports.markdown, into / f"{chosen.id}.html": reports.html}
    _write(files)
    if as_json:
        show_json({"record": chosen.id, "passed": chosen.passed, "files": [os.fspath(path) for path in files]})
    else:
        typer.echo("\n".join(map(str, files)))


def _records(repository: SystemRepository, targets: Sequence[str]) -> list[Record]:
    """Those of the last year or so on the first target that answers, oldest first."""
    from lifeboat.recovery.evidence import Record
    from lifeboat.recovery.keeping import read_evidence

    now = repository.outside.clock()
    refused: list[LifeboatError] = []
    for name in targets:
        try:
            found = list(
                read_evidence(
                    repository.target(name), repository.system, repository.trusted, since=now - LOOKED_BACK, until=now
                )
            )
        except Cancelled:
            raise
        except LifeboatError as error:
            refused.append(error)
            warn(f"The target {name} is out of reach: {error}")
            continue
        for one in found:
            if not isinstance(one, Record):
                warn(f"Not believed: {one.key}: {one.what}")
        return [one for one in found if isinstance(one, Record)]
    raise (
        refused[0]
        if len(refused) == 1
        else TargetUnavailable("Not one target's evidence can be read.", "What each of them says is above.")
    )


def _chosen(records: Sequence[Record], wanted: str | None) -> Record:
    fitting = [
        record for record in records if (record.id == wanted if wanted is not None else record.kind != "restore")
    ]
    if fitting:
        # Names tell seconds: of two records of one second the later begun is the newer.
        return max(fitting, key=lambda record: record.begun)
    raise RecoveryPointMissing(
        f"There is no record {wanted} of the last {LOOKED_BACK.days} days."
        if wanted is not None
        else f"Nothing was tested in the last {LOOKED_BACK.days} days.",
        "`lifeboat test SYSTEM` makes a test; `lifeboat report evidence` lists all records of a period.",
    )


def _write(files: dict[Path, str]) -> None:
    for path in files:
        if path.exists():
            raise DestinationInUse(f"{path} is there already.", "Nothing was written. Name another directory.")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DestinationInUse(f"The report can't be written: {error}.", "Name another directory.") from error
