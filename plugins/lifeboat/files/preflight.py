"""Whether a set of files can be read from here."""

from __future__ import annotations

import os

from lifeboat.policy.files_source import FilesSource
from lifeboat.targets.target import Finding


def preflight_files(source: FilesSource, subject: str) -> list[Finding]:
    """Findings on the directory: there, readable, not empty."""
    directory = source.directory
    try:
        with os.scandir(directory) as entries:
            empty = next(entries, None) is None
    except OSError as error:
        return [
            Finding(
                "error",
                subject,
                f"The directory {directory} can't be read: {error.strerror}.",
                "Mount it on the workers of the source's `queue`, and let their user read it.",
            )
        ]
    findings = [Finding("ok", subject, f"{directory} can be read.")]
    if empty:
        findings.append(
            Finding(
                "warning",
                subject,
                f"The directory {directory} is empty.",
                "Where it should not be: is the disk mounted? A snapshot would show all of it as deleted.",
            )
        )
    if os.getuid() != 0:
        findings.append(
            Finding(
                "ok",
                subject,
                "The worker is not root: what its user may not read is reported as missing, and fails the run.",
            )
        )
    return findings
