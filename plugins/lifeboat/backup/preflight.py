"""Everything that a backup needs, looked at before it begins: what is missing is said at once, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from lifeboat.backup.kinds import kind_of
from lifeboat.errors import Cancelled, LifeboatError, PreflightFailed, RebuildSkipped
from lifeboat.policy.built import built_targets
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.naming import Tier
from lifeboat.policy.slots import Slot
from lifeboat.repository.retention.rules import undelete_window
from lifeboat.repository.system import PRIMARY, SystemRepository
from lifeboat.source import Tick
from lifeboat.targets.target import Finding, Kept


def preflight(
    repository: SystemRepository,
    source_name: str,
    tier: Tier,
    *,
    tick: Tick,
    past: Slot | None = None,
    whole: bool = True,
) -> list[Finding]:
    """Look at keys, targets and source.

    An error on another target than the primary one is a warning here: its copy fails by itself and later, and must not
    keep the primary copy from being made.

    Args:
        past: the backup is made of what was kept, for a moment that has passed: the source is not looked at, this
            machine is.
        whole: ``False`` where parts of the source are asked for.

    Raises:
        RebuildSkipped: nothing is to be made for that moment.
    """
    findings = _keys(repository)
    for name in built_targets(repository.policy):
        tick()
        findings += _target(repository, name, source_name)
    try:
        if past is None:
            kind = kind_of(repository.policy.sources[source_name].kind)
            findings += kind.preflight(repository, source_name, tier, tick=tick)
        else:
            # Imported when it is used, as each kind is.
            from lifeboat.postgres.rebuilding import preflight_rebuilding

            findings += preflight_rebuilding(repository, source_name, tier, past, whole=whole)
    except (Cancelled, RebuildSkipped):
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


def _target(repository: SystemRepository, name: str, source_name: str) -> list[Finding]:
    try:
        findings = repository.target(name).check(_kept(repository, name, source_name))
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


def _kept(repository: SystemRepository, name: str, source_name: str) -> Kept:
    """What of a source must stay on a target: as long as its longest tier says, or the target, and then for `undelete`.
    The journal must stay as well."""
    policy, system = repository.policy, repository.system
    source = policy.sources[source_name]
    longest = max(tier.retention.fixed for tier in source.tiers.values())
    shorter = policy.targets[name].retention
    lasting = min(longest, shorter.fixed) if shorter is not None else longest
    # A snapshot may refer to the packs of all of its generation.
    before = source.generation.fixed if isinstance(source, FilesSource) else timedelta()
    window = undelete_window(policy, source_name, name)
    return Kept((f"{system}/{source_name}/", f"{system}/journal/"), before + lasting + window)
