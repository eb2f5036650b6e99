"""`lifeboat drill`: the loss of a system practised, step by step, from what a scenario leaves."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, length, note, say, show_fields, show_json, show_table
from lifeboat.cli.outside import surroundings
from lifeboat.cli.proof_options import AsJson, Binaries, Checks, Reason, RunAs, Scratch, SystemName, absolute
from lifeboat.cli.restore_test import document, show_checks, show_failure
from lifeboat.errors import RestoreError

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from lifeboat.policy.drills import Scenario
    from lifeboat.recovery.evidence import Drill, Proof, Record, Step


def drill_verb(
    ctx: typer.Context,
    system: SystemName,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="What is taken for lost: total_loss, primary_lost, key_lost, late_corruption or airflow_lost; by "
            "default the one that was practised longest ago."
        ),
    ] = None,
    incident: Annotated[
        str | None,
        typer.Option(help="When it was lost, on the policy's clock or with an offset; by default now.", metavar="TIME"),
    ] = None,
    recovery_kit: Annotated[
        Path | None,
        typer.Option(help="The kit that airflow_lost begins with; by default the policy's.", metavar="FILE"),
    ] = None,
    scratch: Scratch = None,
    checks: Checks = None,
    binaries: Binaries = None,
    run_as: RunAs = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Practise the loss of a system: the eight steps of its recovery, into a scratch place, measured and recorded."""
    here = surroundings(ctx)
    loaded = here.loaded(system)
    if here.kit is not None:
        raise RestoreError("A kit has no signing key, so that nobody would believe the drill.", "Say --recovery-kit.")
    from lifeboat.cli.recording import actor, command
    from lifeboat.recovery.bringing_back import Means
    from lifeboat.recovery.drill.practice import Practice, Wish
    from lifeboat.recovery.sql_checks import checks_of
    from lifeboat.repository.manifest import Run

    means = Means(
        scratch=absolute(scratch),
        binaries=absolute(binaries),
        user=run_as,
        checks=tuple(checks_of(loaded, checks)),
    )
    wish = Wish(
        scenario=_scenario(scenario),
        incident=_incident(incident, loaded.policy.zone),
        reason=reason,
        means=means,
        break_glass=here.break_glass,
        kit=recovery_kit,
    )
    record = Practice(
        here.repository(loaded),
        wish,
        secrets.token_hex(4),
        Run(command=command("drill", system)),
        actor(),
        tell=lambda sentence: note(f"{sentence} …", "dim"),
        tick=STOP.check,
    ).carry_out()
    if as_json:
        show_json(document(record))
    else:
        _show(record)
    if not record.passed:
        raise typer.Exit(1)


def _scenario(name: str | None) -> Scenario | None:
    from lifeboat.policy.drills import Scenario

    if name is not None and name not in get_args(Scenario):
        raise RestoreError(f"There is no scenario {name!r}.", f"There are: {', '.join(get_args(Scenario))}.")
    return cast("Scenario | None", name)


def _incident(text: str | None, zone: ZoneInfo) -> datetime | None:
    from lifeboat.cli.moment import time_in

    return None if text is None else time_in(text, zone)[0]


def _show(record: Record) -> None:
    """A record for people: what failed first."""
    drill = record.drill
    assert drill is not None
    from lifeboat.recovery.drill.scenarios import TITLES

    if record.passed:
        say(f"The drill of {record.system} passed: {TITLES[drill.scenario]}.", "green")
    else:
        note(f"The drill of {record.system} FAILED: {TITLES[drill.scenario]}.", "bold red")
    _show_failures(record, drill)
    show_table("Steps", ("step", "outcome", "took", "what was seen"), [_step(step) for step in drill.steps])
    show_table(
        "What came back",
        ("source", "recovery point", "from", "newest change", "lost (RPO)", "took (RTO)", "outcome"),
        [_row(proof) for proof in record.proofs],
    )
    for proof in record.proofs:
        show_checks(proof)
    show_fields(
        "Drill",
        [
            ("record", record.id),
            ("incident", exact_moment(drill.incident)),
            (
                "measured RTO",
                f"{length(drill.recovery_milliseconds / 1000)} of {length(drill.rto_milliseconds / 1000)}",
            ),
            ("SHA-256", record.sha256),
            ("signed by", record.key_id),
        ],
    )


def _show_failures(record: Record, drill: Drill) -> None:
    if not drill.in_time:
        note(
            f"  the system took {length(drill.recovery_milliseconds / 1000)}, and "
            f"{length(drill.rto_milliseconds / 1000)} is its RTO",
            "red",
        )
    for step in drill.steps:
        if not step.passed and not step.source:
            note(f"  step {step.title}: {step.what}", "red")
            if step.remedy:
                note(f"    → {step.remedy}", "red")
    for source, why in record.lacking.items():
        note(f"  {source}: {why}", "red")
    for proof in record.proofs:
        if not proof.passed:
            show_failure(proof)


def _step(step: Step) -> tuple[str, ...]:
    outcome = "FAILED" if not step.passed else "passed" if step.practised else "—"
    took = (
        length((step.ended - step.begun).total_seconds()) if step.begun is not None and step.ended is not None else ""
    )
    return step.title, outcome, took, step.what


def _row(proof: Proof) -> tuple[str, ...]:
    return (
        proof.source,
        proof.recovery_point,
        proof.target,
        exact_moment(proof.newest_change) if proof.newest_change is not None else "",
        length(proof.lost_milliseconds / 1000) if proof.lost_milliseconds is not None else "",
        length(proof.recovery_milliseconds / 1000),
        "passed" if proof.passed else "FAILED",
    )
