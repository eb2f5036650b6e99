"""What a process that is about to be killed looks for, to know how far it has come."""

from __future__ import annotations

import os
from pathlib import Path


def is_seen(name: str, below: Path) -> bool:
    """Whether a file of this name lies anywhere in a directory that others add to and remove from meanwhile.

    ``Path.rglob`` fails where a directory goes while it looks; a walk passes it over.
    """
    return any(name in names for _, _, names in os.walk(below))
