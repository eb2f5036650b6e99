"""``lifeboat preflight``: everything that a backup needs, looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import err, note, say, show_json
from lifeboat.cli.outside import surroundings, tier_of

if TYPE_CHECKING:
    from lifeboat.targets.target import Finding

_STYLES = {"error": "bold red", "warning": "yellow", "ok": "green"}


def preflight_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    source: Annotated[str, typer.Argument(help="The source in it.")],
    tier: Annotated[str | None, typer.Option(help="The tier to look for; by default the one that makes fulls.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at everything that a backup needs, and change nothing: keys, targets, the server's settings and rights."""
    from lifeboat.backup.preflight import preflight

    here = surroundings(ctx)
    loaded = here.loaded(system)
    chosen = tier_of(loaded, source, tier)
    findings = preflight(here.repository(loaded), source, chosen, tick=STOP.check)
    ready = not any(finding.severity == "error" for finding in findings)
    if as_json:
        rows = [
            {"severity": found.severity, "subject": found.subject, "what": found.what, "remedy": found.remedy}
            for found in findings
        ]
        show_json({"system": system, "source": source, "tier": chosen.value, "ready": ready, "findings": rows})
    else:
        show_findings(findings)
        say("Ready." if ready else "Not ready: see the errors above.", "green" if ready else "bold red")
    if not ready:
        raise typer.Exit(1)


def show_findings(findings: Iterable[Finding]) -> None:
    """Print findings on standard error, each with its remedy."""
    for finding in findings:
        style = _STYLES.get(finding.severity, "")
        err().print(f"{finding.severity:7} {finding.subject}: {finding.what}", style=style, soft_wrap=True)
        if finding.remedy:
            note(f"        → {finding.remedy}", "dim")
