"""The demo's restore test: everything comes back into a scratch place, is looked at, and goes again."""

from __future__ import annotations

from lifeboat.recovery.evidence import Record
from lifeboat.recovery.restore_test import RestoreTest, Wish
from lifeboat.recovery.sql_checks import read_checks
from lifeboat.recovery.wording import length_of
from lifeboat.repository.manifest import Run
from sandbox.accounts import CLONE, SandboxError, server_directory
from sandbox.demo_backup import repository
from sandbox.services import Services
from sandbox.steps import Steps


def prove_that_it_comes_back(services: Services, steps: Steps) -> None:
    """Test the newest recovery point of each source and one at random, from the targets in turn."""
    with steps.step("Restore test: bring back the newest of each source and one at random") as step:
        wish = Wish(
            scratch=server_directory(services.directory / "scratch"),
            checks=tuple(read_checks(CLONE / "sandbox" / "checks")),
            reason="the demo",
        )
        test = RestoreTest(repository(services), wish, Run(command="make demo"), "the demo", tell=step.doing)
        record = test.carry_out()
        _insist_on_success(record)
        checks = sum(len(proof.checks) for proof in record.proofs)
        step.result(f"{len(record.proofs)} recovery points came back, {checks} checks are good; signed: {record.id}")
    newest = {proof.source: proof for proof in record.proofs if proof.chosen == "newest"}
    steps.fact(
        "restore test",
        ", ".join(f"{source} in {length_of(proof.recovery_milliseconds)}" for source, proof in newest.items()),
    )


def _insist_on_success(record: Record) -> None:
    if record.passed:
        return
    faults = [f"{source}: {why}" for source, why in record.lacking.items()]
    for proof in record.proofs:
        faults += [f"{proof.named}: {proof.error}"] if proof.error else []
        faults += [f"{proof.named}: {check.name}: {check.what}" for check in proof.checks if not check.passed]
    raise SandboxError(f"The restore test failed: {'; '.join(faults)}")
