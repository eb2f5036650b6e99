"""Whether a set of files can be read from here."""

from __future__ import annotations

import os

from lifeboat.errors import Cancelled, LifeboatError
from lifeboat.files.own_targets import insist_on_places_apart
from lifeboat.files.places import open_far_place
from lifeboat.outside import Outside
from lifeboat.policy.files_source import FilesSource
from lifeboat.policy.model import Policy
from lifeboat.targets.target import Finding


def preflight_files(name: str, source: FilesSource, policy: Policy, outside: Outside) -> list[Finding]:
    """Findings on the place: there, readable, not empty.

    Args:
        name: the source's name in the policy.
    """
    subject = f"source {name}"
    try:
        insist_on_places_apart(name, source, policy, outside)
        place = open_far_place(name, source, outside)
        if place is None:
            return _directory(source.directory, subject)
        with place:
            found = place.try_out()
    except Cancelled:
        raise
    except LifeboatError as error:
        return [Finding("error", subject, error.what, error.remedy)]
    if found:
        return [Finding("ok", subject, f"{source.url} can be listed and read.")]
    return [
        Finding(
            "warning",
            subject,
            f"There is nothing in {source.url}.",
            "Where it should not be empty: is it the right one? A snapshot would show all of it as deleted.",
        )
    ]


def _directory(directory: str, subject: str) -> list[Finding]:
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
