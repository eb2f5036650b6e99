"""Everything that a backup needs, looked at before it begins: what is missing is said at once, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterable

from lifeboat.backup.kinds import kind_of
from lifeboat.errors import Cancelled, LifeboatError, PreflightFailed
from lifeboat.policy.built import built_targets
from lifeboat.policy.naming import Tier
from lifeboat.repository.system import PRIMARY, SystemRepository
from lifeboat.source import Tick
from lifeboat.targets.target import Finding


def preflight(repository: SystemRepository, source_name: str, tier: Tier, *, tick: Tick) -> list[Finding]:
    """Look at keys, targets and source.

    An error on another target than the primary one is a warning here: its copy fails by itself and later, and must not
    keep the primary copy from being made.
    """
    findings = _keys(repository)
    for name in built_targets(repository.policy):
        tick()
        findings += _target(repository, name)
    kind = kind_of(repository.policy.sources[source_name].kind)
    try:
        findings += kind.preflight(repository, source_name, tier, tick=tick)
    except Cancelled:
        raise
    except LifeboatError as error:
        findings.append(Finding("error", source_name, error.what, error.remedy))
    return findings


def insist(findings: Iterable[Finding], what: str) -> None:
    """Raise ``PreflightFailed`` with all errors among the findings; do nothing when there is none."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        listed = "\n".join(
            f"  - {finding.subject}: {finding.what}" + (f"\n    → {finding.remedy}" if finding.remedy else "")
            for finding in errors
        )
        raise PreflightFailed(f"{what} can't begin; {len(errors)} missing:\n{listed}")


def _keys(repository: SystemRepository) -> list[Finding]:
    findings: list[Finding] = []
    try:
        keyring = repository.sealing
        findings += [Finding("warning", "encryption", f"Optional key left out: {left}") for left in keyring.left_out]
    except Cancelled:
        raise
    except LifeboatError as error:
        findings.append(Finding("error", "encryption", error.what, error.remedy))
    try:
        signer = repository.signer
    except LifeboatError as error:
        findings.append(Finding("error", "signing", error.what, error.remedy))
    else:
        now = repository.outside.clock()
        trusted = next(key for key in repository.policy.signing.trusted if key.id == signer.key_id)
        if not trusted.valid_at(now):
            findings.append(
                Finding(
                    "error",
                    "signing",
                    f"The signing key {signer.key_id!r} is not valid at this moment.",
                    "Extend valid_until under signing.trusted, or sign with a newer key.",
                )
            )
    return findings


def _target(repository: SystemRepository, name: str) -> list[Finding]:
    try:
        findings = repository.target(name).check()
    except Cancelled:
        raise
    except LifeboatError as error:
        findings = [Finding("error", f"target {name}", error.what, error.remedy)]
    if name == PRIMARY:
        return findings
    return [
        Finding("warning", finding.subject, finding.what, finding.remedy) if finding.severity == "error" else finding
        for finding in findings
    ]
