"""``lifeboat report``: what others are told of a system, who don't have Lifeboat."""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import moment, note, say, show_json, show_table, warn
from lifeboat.cli.outside import surroundings, targets_of
from lifeboat.cli.report_test import report_test_verb
from lifeboat.errors import Cancelled, LifeboatError, PolicyError, TargetUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from lifeboat.recovery.auditing import Evidence, Period
    from lifeboat.repository.system import SystemRepository

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

app = typer.Typer(help="Reports of what was proved: for people, and for auditors.", no_args_is_help=True)
app.command("test")(report_test_verb)


@app.command("evidence")
def evidence_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    begin: Annotated[
        str, typer.Option("--from", help="A day or a time on the policy's clock; a day from its beginning.")
    ],
    end: Annotated[str, typer.Option("--to", help="The same; a day to its end.")],
    into: Annotated[Path, typer.Option(help="The archive to be made, a .tar.gz file; never overwritten.")],
    target: Annotated[str | None, typer.Option(help="Read this target's; by default the first that answers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the signed records of restore tests, drills and restores into an archive that can be checked without
    Lifeboat."""
    from lifeboat.recovery.audit_archive import index_of, insist_on_new, write_archive

    here = surroundings(ctx)
    loaded = here.loaded(system)
    period = _period(begin, end, loaded.policy.zone)
    insist_on_new(into)
    evidence = _from_first_that_answers(here.repository(loaded), targets_of(loaded, target), period)
    digest = write_archive(evidence, into)
    if as_json:
        show_json({"file": os.fspath(into), "sha256": digest, "whole": evidence.whole, **index_of(evidence)})
    else:
        _show(evidence)
        say(f"{into} has all of it; its SHA-256 is {digest}.")
        if evidence.whole:
            say("Every record is announced, and every announcement has its record.", "green")
        else:
            note("Something is missing or can't be believed: see above.", "bold red")
    if not evidence.whole:
        raise typer.Exit(1)


def _period(begin: str, end: str, zone: ZoneInfo) -> Period:
    from lifeboat.recovery.auditing import Period

    period = Period.of(_moment(begin, "--from", zone), _moment(end, "--to", zone, to_the_end=True))
    if period.until < period.since:
        raise PolicyError("The period ends before it begins.", "Exchange --from and --to.")
    return period


def _moment(text: str, option: str, zone: ZoneInfo, *, to_the_end: bool = False) -> datetime:
    from lifeboat.cli.moment import time_in

    try:
        if _DAY.fullmatch(text.strip()) is None:
            return time_in(text, zone)[0]
        day = date.fromisoformat(text.strip()) + timedelta(days=to_the_end)
    except (LifeboatError, ValueError, OverflowError) as error:
        raise PolicyError(
            f"{option} {text!r} is neither a day nor a time"
            + (f": {error.what}" if isinstance(error, LifeboatError) else "."),
            "Write 2026-11-22, or 2026-11-22 14:30:00, with an offset where the policy's time zone is not meant.",
        ) from error
    midnight = datetime.combine(day, time(), zone).astimezone(UTC)
    return midnight - timedelta(microseconds=1) if to_the_end else midnight


def _from_first_that_answers(repository: SystemRepository, targets: Sequence[str], period: Period) -> Evidence:
    from lifeboat.cli.recording import actor
    from lifeboat.recovery.auditing import gather

    errors: list[LifeboatError] = []
    for name in targets:
        try:
            return gather(repository, name, period, made_by=actor(), tick=STOP.check)
        except Cancelled:
            raise
        except LifeboatError as error:
            errors.append(error)
            if len(targets) > 1:
                warn(f"The target {name} is out of reach: {error}")
    if len(errors) == 1:
        raise errors[0]
    raise TargetUnavailable("Not one target's evidence can be read.", "What each of them says is above.")


def _show(evidence: Evidence) -> None:
    from lifeboat.recovery.controls import controls_of

    period = f"{moment(evidence.period.since)} to {moment(evidence.period.until)}"
    show_table(
        f"{evidence.system}: evidence on {evidence.target}, {period}",
        ("record", "kind", "outcome", "sources", "controls"),
        [
            (
                record.id,
                record.kind.replace("_", " "),
                "passed" if record.passed else "failed",
                ", ".join(sorted({proof.source for proof in record.proofs} | set(record.lacking))),
                ", ".join(control.id for control in controls_of(record.kind)),
            )
            for record in evidence.records
        ],
    )
    if evidence.missed:
        show_table(
            "Due, and without a record",
            ("due", "kind", "state"),
            [
                (
                    moment(run.due),
                    run.kind.replace("_", " "),
                    f"may come until {moment(run.following)}" if run.may_come else "missed",
                )
                for run in evidence.missed
            ],
        )
    for missing in evidence.compared.missing:
        note(f"missing: {missing.record}, which {missing.event} announces.", "bold red")
    for record in evidence.compared.unannounced:
        note(f"unannounced: no event announces {record} as it is.", "bold red")
    for one in evidence.unbelievable:
        note(f"not believed: {one.key}: {one.what}", "bold red")
