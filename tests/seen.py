"""What a process that is about to be killed looks for, to know how far it has come."""

from __future__ import annotations

import os
from pathlib import Path


def is_seen(name: str, below: Path) -> bool:
    """Whether a file of this name lies anywhere in a directory that others add to and remove from meanwhile.

    ``Path.rglob`` fails where a directory goes while it looks; a walk passes it over. A cluster's tables, a thousand
    files, are not looked through: this is asked at every tick.
    """
    for _, folders, names in os.walk(below):
        if name in names:
            return True
        folders[:] = [folder for folder in folders if folder != "base"]
    return False
