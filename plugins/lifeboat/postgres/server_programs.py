"""PostgreSQL's server programs on this machine, and the user that they run as."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import Any

from lifeboat.errors import RestoreError
from lifeboat.postgres.unpacking import Owner


def run_as(name: str | None, place: Path) -> Owner | None:
    """The user to run servers as, and to give the restored files to: ourselves when we are an ordinary user.

    PostgreSQL refuses to run as root; for root it is the user named, else whoever owns ``place``, else ``postgres``.

    Raises:
        RestoreError: we are root, and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    if name is None and (owner := place.stat()).st_uid != 0:
        return Owner(owner.st_uid, owner.st_gid)
    for candidate in [name] if name else ["postgres", "nobody"]:
        try:
            entry = pwd.getpwnam(candidate)
        except KeyError:
            continue
        return Owner(entry.pw_uid, entry.pw_gid)
    raise RestoreError(
        f"There is no user {name or 'postgres'!r} here.", "Name one with --run-as; PostgreSQL won't run as root."
    )


def check_ready(binaries: Path, major: int, place: Path, owner: Owner | None) -> None:
    """Insist on the right server programs, and on the server's user being able to reach them and the destination.

    Raises:
        RestoreError: something is missing; the text says what.
    """
    remedy = (
        f"Restoring this backup takes PostgreSQL {major}'s server programs: name their directory with `binaries` in "
        "the policy or with --binaries."
    )
    try:
        told = _run([str(binaries / "postgres"), "--version"], owner).stdout.decode("utf-8", "replace")
    except OSError as error:
        raise RestoreError(f"{binaries / 'postgres'} can't be run: {error.strerror}.", remedy) from error
    found = re.search(r"\(PostgreSQL\) (\d+)", told)
    if found is None or int(found[1]) != major:
        raise RestoreError(f"{binaries / 'postgres'} is {told.strip() or 'no PostgreSQL server'}.", remedy)
    if _run(["test", "-x", str(place)], owner).returncode != 0:
        raise RestoreError(
            f"The user that runs the server can't reach {place}.",
            "Choose a destination whose parent directories that user may enter, or name another user with --run-as.",
        )


def _run(arguments: list[str], owner: Owner | None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        arguments, check=False, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", timeout=60, **identity(owner)
    )


def identity(owner: Owner | None) -> dict[str, Any]:
    """The arguments of ``subprocess`` that make a program run as this user."""
    return {"user": owner.uid, "group": owner.gid, "extra_groups": []} if owner is not None else {}
