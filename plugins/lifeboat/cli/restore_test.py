"""``lifeboat test``: does it come back? A restore test of a system, into a scratch place that is gone afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, length, note, say, show_fields, show_json, show_table, size, warn
from lifeboat.cli.outside import check_source, surroundings, targets_of
from lifeboat.cli.proof_options import AsJson, Binaries, Checks, Reason, RunAs, Scratch, SystemName, absolute

if TYPE_CHECKING:
    from lifeboat.recovery.evidence import Proof, Record


def restore_test_verb(
    ctx: typer.Context,
    system: SystemName,
    sources: Annotated[list[str] | None, typer.Argument(help="The sources in it; by default every one.")] = None,
    target: Annotated[str | None, typer.Option(help="Restore from this target; by default from each in turn.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same recovery points as a test of this seed.")] = None,
    scratch: Scratch = None,
    checks: Checks = None,
    binaries: Binaries = None,
    run_as: RunAs = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Bring back the newest recovery point of each source and one at random, look at both, and record what was seen."""
    here = surroundings(ctx)
    loaded = here.loaded(system)
    for source in sources or ():
        check_source(loaded, source)
    if target is not None:
        targets_of(loaded, target)
    from lifeboat.cli.recording import actor, command
    from lifeboat.recovery.restore_test import RestoreTest, Wish
    from lifeboat.recovery.sql_checks import checks_of
    from lifeboat.repository.manifest import Run

    wish = Wish(
        sources=tuple(sources or ()),
        target=target,
        seed=seed,
        scratch=absolute(scratch),
        binaries=absolute(binaries),
        user=run_as,
        checks=tuple(checks_of(loaded, checks)),
        reason=reason,
    )
    repository = here.repository(loaded)
    run = Run(command=command("test", system, *(sources or ())))
    record = RestoreTest(
        repository, wish, run, actor(), tell=lambda sentence: note(f"{sentence} …", "dim"), tick=STOP.check
    ).carry_out()
    if as_json:
        show_json(document(record))
    else:
        show(record)
    if not record.passed:
        raise typer.Exit(1)


def document(record: Record) -> dict[str, Any]:
    """A record for programs, as it is stored, with what is worked out from it."""
    told: dict[str, Any] = record.model_dump(mode="json")
    for one, proof in zip(told["proofs"], record.proofs, strict=True):
        one |= {"passed": proof.passed, "recovery_milliseconds": proof.recovery_milliseconds}
    return told | {"id": record.id, "sha256": record.sha256}


def show(record: Record) -> None:
    """A record for people: what failed first."""
    failed = [proof for proof in record.proofs if not proof.passed]
    if record.passed:
        points = f"{len(record.proofs)} recovery point{'s' if len(record.proofs) > 1 else ''}"
        say(f"{record.system} comes back: {points} restored and looked at.", "green")
    else:
        note(f"The restore test of {record.system} FAILED.", "bold red")
    for source, why in record.lacking.items():
        note(f"  {source}: {why}", "red")
    for proof in failed:
        show_failure(proof)
    show_table(
        "Restore test",
        ("source", "recovery point", "chosen", "from", "size", "data until", "took", "outcome"),
        [_row(proof) for proof in record.proofs],
        right=(4, 6),
    )
    for proof in record.proofs:
        show_checks(proof)
    show_fields(
        "Record",
        [
            ("id", record.id),
            ("SHA-256", record.sha256),
            ("signed by", record.key_id),
            ("seed", f"{record.seed} (draws the same again)"),
            ("took", length((record.ended - record.begun).total_seconds())),
        ],
    )


def show_checks(proof: Proof) -> None:
    """What was looked at in what came back."""
    if proof.place:
        say(f"{proof.named} was restored into {proof.place}")
    if proof.checks:
        show_table(
            proof.named,
            ("looked at", "outcome", "what was seen"),
            [(check.name, "good" if check.passed else "NOT GOOD", check.what) for check in proof.checks],
        )


def show_failure(proof: Proof) -> None:
    """Why a source did not come back, or was not as it should be."""
    what = proof.named
    if proof.error:
        note(f"  {what} did not come back: {proof.error}", "red")
        if proof.remedy:
            note(f"    → {proof.remedy}", "red")
    for check in proof.checks:
        if not check.passed:
            warn(f"{what}: {check.name}: {check.what}")


def _row(proof: Proof) -> tuple[str, ...]:
    return (
        proof.source,
        proof.recovery_point,
        proof.chosen,
        proof.target,
        size(proof.size),
        exact_moment(proof.data_until) if proof.data_until is not None else "",
        length(proof.recovery_milliseconds / 1000),
        "passed" if proof.passed else "FAILED",
    )
