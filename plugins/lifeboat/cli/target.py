"""``lifeboat target mark``: the file that proves that the right disk is mounted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lifeboat.cli.output import note, say
from lifeboat.cli.outside import surroundings, targets_of
from lifeboat.errors import PolicyError, TargetUnavailable

app = typer.Typer(help="Prepare targets.", no_args_is_help=True)


@app.callback()
def _targets() -> None:
    """Prepare targets."""


@app.command("mark")
def mark_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    target: Annotated[str, typer.Argument(help="A file:// target with a `marker` in the policy.")],
) -> None:
    """Write the marker file of a directory that has none. Mount the disk first."""
    from lifeboat.targets.local_marker import MARKER

    loaded = surroundings(ctx).loaded(system)
    (name,) = targets_of(loaded, target)
    policy = loaded.policy.targets[name]
    if policy.scheme == "sftp" and policy.marker is not None:
        raise PolicyError(
            f"The target {name} lies on a server, and is marked there.",
            f"Put a file {MARKER} with the line {policy.marker} into {policy.directory} on {policy.host}.",
        )
    if policy.scheme != "file" or policy.marker is None:
        raise PolicyError(
            f"The target {name} has no marker in the policy.", "Only file:// targets with `marker` are marked."
        )
    file = policy.directory / MARKER
    if not policy.directory.is_dir():
        raise TargetUnavailable(f"There is no directory {policy.directory}.", "Mount the disk, or make it, first.")
    if not os.path.ismount(policy.directory):
        note(f"{policy.directory} is no mount point itself: see to it that what you mean is mounted.", "yellow")
    if _present(file) == policy.marker:
        say(f"{file} says {policy.marker} already.")
        return
    _write(file, policy.marker)
    say(f"Marked: {file} says {policy.marker}.", "green")


def _present(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _write(file: Path, identity: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except FileExistsError as error:
        raise TargetUnavailable(
            f"{file} is there already and says {(_present(file) or 'something unreadable')[:80]!r}.",
            "This is another target's disk. Mount the right one, or correct the policy; if it really is to become this "
            "target, remove the file by hand.",
        ) from error
    except OSError as error:
        raise TargetUnavailable(f"{file} can't be written: {error.strerror}.", "Mend the permissions.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(identity + "\n")
        opened.flush()
        os.fsync(opened.fileno())
