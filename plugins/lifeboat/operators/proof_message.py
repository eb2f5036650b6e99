"""What people are told of a restore test or a drill: what failed, or how soon everything was back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lifeboat.alerts.slack import escaped
from lifeboat.operators.alerts import tell_slack
from lifeboat.recovery.wording import length_of

if TYPE_CHECKING:
    from lifeboat.policy.model import Policy
    from lifeboat.policy.people import Severity
    from lifeboat.recovery.evidence import Proof, Record

MOST_TOLD = 10


def looked_at(proof: Proof) -> list[tuple[bool, str]]:
    """What was looked at in what came back, a line each with whether it was as it should be."""
    return [
        (check.passed, f"  {'good' if check.passed else 'NOT GOOD'}: {check.name}: {check.what}")
        for check in proof.checks
    ]


def outcome(proof: Proof) -> str:
    """What became of one recovery point, in a sentence."""
    if proof.error:
        return f"{proof.named} did not come back: {proof.error} {proof.remedy}".rstrip()
    return f"{proof.named} ({proof.chosen}) came back in {length_of(proof.recovery_milliseconds)}"


def faults(record: Record) -> list[str]:
    """Everything that a record's proofs hold against a recovery, in sentences."""
    lacking = [f"{source}: {why}" for source, why in record.lacking.items()]
    errors = [f"{outcome(proof)}." for proof in record.proofs if proof.error]
    checks = [
        f"{proof.named}: {check.name}: {check.what}."
        for proof in record.proofs
        for check in proof.checks
        if not check.passed
    ]
    return [*lacking, *errors, *checks]


def message(record: Record, head: str, lines: Sequence[str]) -> str:
    """What Slack is told.

    Args:
        head: whether it passed, in Slack's own mark-up.
        lines: what failed, of which the first are told; or how soon each part was back.
    """
    listed = list(lines)
    if not record.passed and len(listed) > MOST_TOLD:
        listed = [*listed[:MOST_TOLD], f"and {len(listed) - MOST_TOLD} more"]
    sign = ":white_check_mark:" if record.passed else ":rotating_light:"
    shown = "\n".join(f"• {escaped(line)}" for line in listed)
    report = f"`lifeboat report test {record.system} --record {record.id}`"
    return f"{sign} {head}\n{shown}\n{report} has all of it; run `{record.run.run_id}`"


def tell_people(policy: Policy, record: Record, text: str) -> list[str]:
    """Send it to the Slack channels that take messages of this weight; returns what went wrong, a sentence each."""
    severity: Severity = "info" if record.passed else "critical"
    return tell_slack(policy, severity, text)
