"""Where PostgreSQL's server programs may be on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from lifeboat.errors import RestoreError

_PLACES = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/opt/homebrew/opt/postgresql@{major}/bin")


def server_programs(named: Path | None, policy: Path | None, major: int) -> Path:
    """The directory with ``postgres``: the one named, the policy's, or where the major version usually lies.

    Whether it is the right version is asked of the program itself, later.

    Raises:
        RestoreError: none is known.
    """
    for known in (named, policy):
        if known is not None:
            return known.absolute()
    for place in _PLACES:
        if (found := Path(place.format(major=major)) / "postgres").is_file():
            return found.parent
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    raise RestoreError(
        f"PostgreSQL {major}'s server programs were not found.",
        "Install them, and name their directory with --binaries or with `binaries` in the policy.",
    )
