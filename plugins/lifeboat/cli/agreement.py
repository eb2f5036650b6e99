"""Whether a person agrees to what a plan says, asked before anything of it is done."""

from __future__ import annotations

import sys

import typer

from lifeboat.errors import Cancelled, RestoreError


def agree(question: str, yes: bool) -> None:
    """Ask on standard error, unless ``yes`` was said beforehand.

    Raises:
        RestoreError: there is nobody to be asked.
        Cancelled: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise RestoreError(
            "Nobody is there to be asked whether to go on; nothing was done.",
            "Look at the plan (--plan), then say --yes.",
        )
    if not typer.confirm(question, err=True):
        raise Cancelled("Nothing was done.")
