"""Whether all that a policy names of a configuration can be had from here."""

from __future__ import annotations

from collections.abc import Callable

from lifeboat.configuration.gathering import gather
from lifeboat.outside import Outside
from lifeboat.policy.configuration_source import ConfigurationSource
from lifeboat.targets.target import Finding


def preflight_configuration(
    source: ConfigurationSource, outside: Outside, subject: str, tick: Callable[[], None]
) -> list[Finding]:
    """Gather everything as the backup does, and keep nothing of it.

    What is named and not there is an error; what can't be read is a warning, since the rest is worth more than nothing:
    the backup without it is partial, and fails its run.
    """
    gathered = gather(source, outside, tick=tick)
    findings = [
        Finding("error" if one.what == "missing" else "warning", subject, f"{one}.", one.remedy)
        for one in gathered.problems
    ]
    findings.append(Finding("ok", subject, f"{len(gathered.items())} items can be read."))
    return findings
