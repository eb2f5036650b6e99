"""The row of a source's recovery points of one kind: each has a number, and the digest of the one before it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lifeboat.repository.catalogue import Copy


def sequence_findings(copies: Iterable[Copy], removed: Collection[int] = ()) -> list[str]:
    """What is wrong with a row of recovery points of one kind: missing, repeated, or not following each other.

    The oldest may be any number, since retention removes from that end. A missing newest one can't be seen here: other
    targets and the journal tell.

    Args:
        removed: the numbers of those that retention removed: they are not missing.
    """
    findings: list[str] = []
    before: Copy | None = None
    for copy in sorted(copies, key=lambda copy: copy.manifest.sequence):
        manifest = copy.manifest
        if before is not None:
            findings.extend(_follows(before, copy, removed))
        before = copy
        if manifest.state == "damaged":
            findings.append(f"{manifest.recovery_point} is damaged: {'; '.join(manifest.findings)}")
    return findings


def _follows(before: Copy, copy: Copy, removed: Collection[int]) -> list[str]:
    manifest, older = copy.manifest, before.manifest
    if manifest.sequence == older.sequence:
        return [f"{older.recovery_point} and {manifest.recovery_point} both are number {manifest.sequence}."]
    if manifest.sequence != older.sequence + 1:
        missing = sum(number not in removed for number in range(older.sequence + 1, manifest.sequence))
        return (
            [] if not missing else [f"{missing} missing between {older.recovery_point} and {manifest.recovery_point}."]
        )
    if manifest.previous is None or manifest.previous.sha256 != before.sha256:
        return [f"{manifest.recovery_point} was not made after {older.recovery_point} as it is stored here."]
    return []
