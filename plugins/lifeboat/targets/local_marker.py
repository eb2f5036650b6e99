"""The file that proves that the right disk is mounted."""

from __future__ import annotations

import os

from lifeboat.errors import TargetUnavailable
from lifeboat.targets.keys import RESERVED
from lifeboat.targets.local_places import Tree, translated

MARKER = f"{RESERVED}target"


def insist_on_marker(tree: Tree, identity: str) -> None:
    """Raise unless the file ``.lifeboat-target`` in the root holds ``identity``.

    Raises:
        TargetUnavailable: nothing is mounted there, or another target is.
    """
    path = tree.root / MARKER
    with tree.folder([]) as root, translated(tree.target, f"reading {path}"):
        try:
            descriptor = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
        except FileNotFoundError as error:
            raise TargetUnavailable(
                f"Target {tree.target}: {tree.root} has no marker file {MARKER}. Probably nothing is mounted there.",
                f"Mount it. If it is new, mark it: lifeboat target mark, or: echo {identity} > {path}",
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            found = file.read(4096).decode(errors="replace").strip()
    if found != identity:
        raise TargetUnavailable(
            f"Target {tree.target}: {path} says {found[:80]!r}, but the policy expects {identity!r}: another disk is "
            "mounted there.",
            "Mount the right one, or correct the policy.",
        )
