"""The program that a hook's command is a child of: it ends all that the command has started when the drill is gone.

Started as ``python -I -S hook_keeper.py UID GID COMMAND …``, so that it is there at once: it imports next to nothing.
What the command leaves without a parent comes to this process instead of the system's first one, also out of a session
of its own, so that it is found. A command that ends by itself may leave something in the background: that is its own.

Source: prctl(2), PR_SET_CHILD_SUBREAPER(2const)
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CANT_BE_STARTED = 126
NOT_STARTED = " can't be started: "
GRACE_SECONDS = 1.0
"""How long what is told to end may take to do so; then it is killed."""
GIVING_UP_SECONDS = 10.0
"""After this, what is left can't be killed: it is another user's, or waits for a device."""
_TICK_SECONDS = 0.05
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PACKAGES = Path(__file__).resolve().parents[2]


def main(words: Sequence[str]) -> int:
    """Run the command; returns its exit code, 128 and the signal where one has ended it or us."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    uid, gid, *command = words
    user: dict[str, Any] = {"user": int(uid), "group": int(gid), "extra_groups": []} if uid else {}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    try:
        child = subprocess.Popen(command, preexec_fn=begin, **user)
    except (OSError, subprocess.SubprocessError) as error:
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        sys.stderr.write(f"{command[0]}{NOT_STARTED}{why}\n")
        return CANT_BE_STARTED
    while (code := _reaped(child.pid)) is None:
        told = signal.sigtimedwait(_HEARD, 1.0)
        if told is not None and told.si_signo != signal.SIGCHLD:
            _end_all()
            code = 128 + told.si_signo
            break
    child.returncode = code
    return code


def _reaped(wanted: int) -> int | None:
    """Take leave of all that has ended; the exit code of the process that is wanted, once it has."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == wanted:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _end_all() -> None:
    """End what is below us, also what is started meanwhile."""
    sys.path.insert(0, str(_PACKAGES))
    from lifeboat.repository.child_programs import descendants, signal_all

    begun = time.monotonic()
    told: set[int] = set()
    while (below := descendants(os.getpid())) and (waited := time.monotonic() - begun) < GIVING_UP_SECONDS:
        if waited >= GRACE_SECONDS:
            signal_all(below, signal.SIGKILL)
        else:
            signal_all({pid: since for pid, since in below.items() if pid not in told}, signal.SIGTERM)
        told |= set(below)
        time.sleep(_TICK_SECONDS)
        _reaped(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
