"""Options that `lifeboat test` and `lifeboat drill` have alike: where it is restored, and what is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SystemName = Annotated[str, typer.Argument(help="The system, as its policy calls it.")]
Scratch = Annotated[
    Path | None, typer.Option(help="A directory with room; by default the policy's.", metavar="DIR")
]  # fmt: skip
Checks = Annotated[
    Path | None, typer.Option(help="The SQL checks; by default `checks/SYSTEM` beside the policies.", metavar="DIR")
]
Binaries = Annotated[
    Path | None, typer.Option(help="The directory with PostgreSQL's server programs.", metavar="DIR")
]  # fmt: skip
RunAs = Annotated[
    str | None, typer.Option("--run-as", help="The user to run the scratch server as, for root.", metavar="USER")
]
Reason = Annotated[str, typer.Option(help="What it is for; goes into the record.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def absolute(path: Path | None) -> Path | None:
    """A directory as it was typed, wherever what is begun works."""
    return None if path is None else path.expanduser().absolute()
