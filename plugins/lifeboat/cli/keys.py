"""``lifeboat key new``: new keys, each in a file of its own, and the lines of the policy that name them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifeboat.cli.output import note, say
from lifeboat.errors import KeyUnavailable

if TYPE_CHECKING:
    from datetime import datetime

app = typer.Typer(help="Make keys.", no_args_is_help=True)


@app.callback()
def _keys() -> None:
    """Make keys."""


@app.command("new")
def new_verb(
    local: Annotated[Path | None, typer.Option(help="Make a local AES-256 key in this new file.")] = None,
    break_glass: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Make an RSA pair in two new files: private, public.", metavar="PRIVATE PUBLIC"),
    ] = None,
    signing: Annotated[
        Path | None, typer.Option(help="Make an Ed25519 pair; its private half in this new file.")
    ] = None,
) -> None:
    """Make one key and print what the policy has to say of it. An existing file is never overwritten."""
    if sum(one is not None for one in (local, break_glass, signing)) != 1:
        raise typer.BadParameter("Give exactly one of --local, --break-glass and --signing.")
    if local is not None:
        _local(local)
    elif break_glass is not None:
        _break_glass(*break_glass)
    elif signing is not None:
        from lifeboat.outside import utc_now

        _signing(signing, utc_now())


def _local(file: Path) -> None:
    from lifeboat.streams.key_making import new_local_key, write_secret

    write_secret(file, new_local_key())
    say(f"encryption:\n  keys:\n    - name: {_name(file)}\n      kind: local\n      file: {file.absolute()}")
    note("Every worker that backs up or restores needs this file. Keep a copy where a loss of them does not reach.")


def _break_glass(private: Path, public: Path) -> None:
    from lifeboat.streams.key_making import new_break_glass_pair, write_secret

    if public.exists():
        raise KeyUnavailable(f"There is a file {public} already.", "Name a file that does not exist yet.")
    pair = new_break_glass_pair()
    write_secret(private, pair.private)
    try:
        _write_new(public, pair.public)
    except OSError as error:
        private.unlink()
        raise KeyUnavailable(f"No key can be written to {public}: {error.strerror}.", "Name another file.") from error
    say(
        f"encryption:\n  keys:\n    - name: {_name(public)}\n      kind: rsa_public\n"
        f"      public_key_file: {public.absolute()}"
    )
    note(
        f"Move {private} to a safe, off this machine, and remove it here: it opens every backup. "
        "A restore takes it with --break-glass-key."
    )


def _write_new(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def _signing(file: Path, now: datetime) -> None:
    from lifeboat.streams.key_making import new_signing_pair, write_secret

    pair = new_signing_pair()
    write_secret(file, pair.private)
    name = f"{_name(file)}-{now:%Y-%m}"
    say(
        f"signing:\n  key:\n    file: {file.absolute()}\n  key_id: {name}\n  trusted:\n    - id: {name}\n"
        f"      public_key: {pair.public}\n      valid_from: {now:%Y-%m-%dT%H:%M:%SZ}"
    )
    note("Leave older keys under `trusted`, with a `valid_until`: what they have signed must stay believable.")


def _name(file: Path) -> str:
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in file.stem.lower())
    return letters.strip("-").lstrip("0123456789-") or "key"
