"""Whether the repositories of a source can be read from here, and their mirrors be written to."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lifeboat.code.access import remote_access
from lifeboat.code.git_program import Git, git_in
from lifeboat.code.scratch import scratch_directory
from lifeboat.code.snapshot import trusted_directories
from lifeboat.errors import Cancelled, LifeboatError, SourceUnreadable
from lifeboat.outside import Outside
from lifeboat.policy.code_source import CodeSource
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import Finding

ANSWER_SECONDS = 60.0
LITTLE_ROOM = 1024**3


def preflight_code(
    repository: SystemRepository, source_name: str, source: CodeSource, *, tick: Callable[[], None]
) -> list[Finding]:
    """Findings on ``git``, each origin, each mirror, and the room for clones."""
    subject = f"source {source_name}"
    try:
        with scratch_directory(source.scratch) as scratch:
            git = git_in(scratch, trusting=trusted_directories(source))
            findings = [Finding("ok", subject, f"git {git.version} is here.")]
            findings += _origins(git, repository.outside, source, subject, tick)
            findings += _mirrors(git, repository.outside, source, subject, tick)
    except Cancelled:
        raise
    except LifeboatError as error:
        return [Finding("error", subject, error.what, error.remedy)]
    return [*findings, *_signers(source, subject), _room(source, subject)]


def _signers(source: CodeSource, subject: str) -> list[Finding]:
    if source.allowed_signers is None:
        return []
    if not os.access(source.allowed_signers, os.R_OK):
        remedy = "Put it there for the worker's user: without it no release tag counts as signed."
        return [Finding("error", subject, f"{source.allowed_signers} can't be read.", remedy)]
    if shutil.which("ssh-keygen") is None:
        remedy = "Install OpenSSH's client programs: git verifies signatures of SSH keys by it."
        return [Finding("error", subject, "ssh-keygen was not found on this machine.", remedy)]
    return [Finding("ok", subject, f"Release tags are verified against {source.allowed_signers}.")]


def _origins(
    git: Git, outside: Outside, source: CodeSource, subject: str, tick: Callable[[], None]
) -> Sequence[Finding]:
    failures = {
        one.name: failure
        for one in source.repositories
        if (failure := _asked(git, outside, source.connection, one.url, tick)) is not None
    }
    # One that is away must not keep the others from being backed up: the run says it as loudly.
    severity = "error" if len(failures) == len(source.repositories) else "warning"
    return [
        Finding("ok", subject, f"{one.name} answers.")
        if one.name not in failures
        else Finding(
            severity, subject, f"{one.name} can't be read: {failures[one.name].what}", failures[one.name].remedy
        )
        for one in source.repositories
    ]


def _mirrors(
    git: Git, outside: Outside, source: CodeSource, subject: str, tick: Callable[[], None]
) -> Sequence[Finding]:
    findings = []
    for one in source.repositories:
        url = source.mirror_of(one)
        if url is None:
            continue
        failure = _asked(git, outside, source.mirror_connection, url, tick)
        findings.append(
            Finding("ok", subject, f"The mirror of {one.name} answers.")
            if failure is None
            # What is backed up does not depend on it.
            else Finding(
                "warning", subject, f"The mirror of {one.name} can't be reached: {failure.what}", failure.remedy
            )
        )
    return findings


def _asked(
    git: Git, outside: Outside, connection: str | None, url: str, tick: Callable[[], None]
) -> LifeboatError | None:
    deadline = time.monotonic() + ANSWER_SECONDS

    def look() -> None:
        tick()
        if time.monotonic() > deadline:
            raise SourceUnreadable(
                f"{url} has not answered for {ANSWER_SECONDS:.0f} seconds.", "Does the server run, and is it reached?"
            )

    try:
        with remote_access(outside, connection, url) as remote:
            git.run(["ls-remote", "--quiet", "--", url, "HEAD"], remote=remote, tick=look)
    except Cancelled:
        raise
    except LifeboatError as error:
        return error
    return None


def _room(source: CodeSource, subject: str) -> Finding:
    place = source.scratch if source.scratch is not None else Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free
    if free < LITTLE_ROOM:
        return Finding(
            "warning",
            subject,
            f"{place} has {free / 1e6:,.0f} MB of room for clones.",
            "Name a `scratch` directory with more in the policy: all repositories with a mirror lie there at once.",
        )
    return Finding("ok", subject, f"{place} has {free / 1e9:,.1f} GB of room for clones.")
