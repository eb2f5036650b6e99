"""Keep one service: run it, and leave none of its descendants behind, whichever way it, or who asked for it, ends.

    python -I -S keeper.py GRACE PROGRAM [ARGUMENT…]

The keeper adopts every orphan among the service's descendants (``PR_SET_CHILD_SUBREAPER``). Told to end (SIGTERM, which
the kernel also sends when our parent dies), or when the service ends, it gives the service GRACE seconds, then kills
whatever is left. Should the keeper itself be killed, the kernel tells the service to end. Standard library alone: it
costs a few megabytes. Source: https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_libc = ctypes.CDLL(None, use_errno=True)


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        for pid in children.get(waiting.pop(), []):
            found.append(pid)
            waiting.append(pid)
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap(service: int, code: int | None) -> tuple[int | None, bool]:
    """Take notice of every child that has ended; the service's code once it has, and whether any child is left."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code, False
        if pid == 0:
            return code, True
        if pid == service:
            code = os.waitstatus_to_exitcode(status)


def _launch(program: list[str]) -> int:
    keeper = os.getpid()
    service = os.fork()
    if service == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(126)
        try:
            os.execvp(program[0], program)
        except OSError as error:
            os.write(2, f"{program[0]}: {error.strerror}\n".encode())
            os._exit(127)
    return service


def main() -> int:
    """Run the service named on the command line and return its exit code."""
    grace, program = float(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    service = _launch(program)
    code: int | None = None
    ending: float | None = None
    while True:
        code, any_left = _reap(service, code)
        if not any_left:
            return 128 - code if code is not None and code < 0 else code or 0
        now = time.monotonic()
        if code is not None and ending is None:
            ending = now + grace
            for pid in _descendants():
                _signal(pid, signal.SIGTERM)
        if ending is not None and now >= ending:
            for pid in _descendants():
                _signal(pid, signal.SIGKILL)
            ending = now + 0.2
        patience = 60.0 if ending is None else max(0.0, ending - now)
        received = signal.sigtimedwait(_WATCHED, patience)
        if received is not None and received.si_signo != signal.SIGCHLD and ending is None:
            ending = time.monotonic() + grace
            _signal(service, signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
