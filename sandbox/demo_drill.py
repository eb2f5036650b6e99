"""The demo's drill: all of the system is taken for lost, and comes back by the eight steps of a full recovery."""

from __future__ import annotations

import secrets

from lifeboat.recovery.bringing_back import Means
from lifeboat.recovery.drill.practice import Practice, Wish
from lifeboat.recovery.evidence import Record
from lifeboat.recovery.sql_checks import read_checks
from lifeboat.recovery.wording import length_of
from lifeboat.repository.manifest import Run
from sandbox.accounts import CLONE, SandboxError, server_directory
from sandbox.demo_backup import SOURCE, repository
from sandbox.services import Services
from sandbox.steps import Steps


def practise_a_total_loss(services: Services, steps: Steps) -> None:
    """Recover database, files, configuration and code as after a total loss, and measure RTO and RPO."""
    with steps.step("Drill, total loss of the system: code, database, files and configuration come back") as step:
        wish = Wish(
            scenario="total_loss",
            reason="the demo",
            means=Means(
                scratch=server_directory(services.directory / "drill"),
                checks=tuple(read_checks(CLONE / "sandbox" / "checks")),
            ),
        )
        practice = Practice(
            repository(services), wish, secrets.token_hex(4), Run(command="make demo"), "the demo", tell=step.doing
        )
        record = practice.carry_out()
        _insist_on_success(record)
        step.result(f"{_lost(services, record)}; signed: {record.id}")
    drill = record.drill
    assert drill is not None
    sources = ", ".join(f"{proof.source} in {length_of(proof.recovery_milliseconds)}" for proof in record.proofs)
    steps.fact(
        "drill, measured RTO",
        f"{length_of(drill.recovery_milliseconds)} of {length_of(drill.rto_milliseconds)} ({sources})",
    )
    losses = ", ".join(f"{proof.source} {length_of(proof.lost_milliseconds or 0)}" for proof in record.proofs)
    steps.fact("drill, measured RPO", f"{losses} before the incident")


def _lost(services: Services, record: Record) -> str:
    """What the database lost, by the writer's own record of its commits: it must be what the drill says."""
    (proof,) = [proof for proof in record.proofs if proof.source == SOURCE]
    assert record.drill is not None
    assert proof.newest_change is not None
    incident = record.drill.incident
    commits = [commit for commit in services.writer.commits() if commit.before <= incident]
    kept = [commit for commit in commits if commit.before <= proof.newest_change]
    if not kept or any(commit.after < proof.newest_change for commit in commits[len(kept) :]):
        raise SandboxError(f"The newest change that came back, of {proof.newest_change}, is no commit of the writer's.")
    lost = len(commits) - len(kept)
    return f"commits up to {kept[-1].number} are there, the last {lost} before {incident:%H:%M:%S} UTC are lost"


def _insist_on_success(record: Record) -> None:
    if record.passed:
        return
    faults = [f"{source}: {why}" for source, why in record.lacking.items()]
    for proof in record.proofs:
        faults += [f"{proof.named}: {proof.error}"] if proof.error else []
        faults += [f"{proof.named}: {check.name}: {check.what}" for check in proof.checks if not check.passed]
    steps = record.drill.steps if record.drill is not None else ()
    faults += [f"step {step.title}: {step.what}" for step in steps if not step.passed and not step.source]
    raise SandboxError(f"The drill failed: {'; '.join(faults)}")
