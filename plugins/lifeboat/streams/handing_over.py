"""How soon one stage's thread lets another one run.

Most of a stage's work is done outside Python's global lock, but each piece passes through it, and by default a thread
that wants the lock waits 5 ms before it asks for it. Stages that hand megabytes on a few hundred times a second can't
wait that long: a full backup took a twentieth to a tenth longer, and more pieces lay about in memory (measured).
Source: https://docs.python.org/3/library/sys.html#sys.setswitchinterval
"""

from __future__ import annotations

import sys

SWITCH_SECONDS = 0.0005


def hand_over_sooner() -> None:
    """Let this process's threads ask for the lock sooner; never later than somebody else has set already."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
