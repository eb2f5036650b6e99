"""PostgreSQL's server programs on this machine, and the user that they run as."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lifeboat.errors import RestoreError
from lifeboat.postgres.unpacking import Owner

COMBINER = "pg_combinebackup"
TICK_SECONDS = 0.1
END_SECONDS = 5.0
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


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


def check_combiner(binaries: Path, major: int, owner: Owner | None) -> None:
    """Insist on the program that combines chains.

    Raises:
        RestoreError: it is missing, or of another major version.
    """
    remedy = (
        f"Combining this chain takes PostgreSQL {major}'s {COMBINER}: name its directory with `binaries` in the policy "
        "or with --binaries. Or begin with a full (--base): WAL leads on from there."
    )
    try:
        told = _run([str(binaries / COMBINER), "--version"], owner).stdout.decode("utf-8", "replace")
    except OSError as error:
        raise RestoreError(f"{binaries / COMBINER} can't be run: {error.strerror}.", remedy) from error
    found = re.search(r"\(PostgreSQL\) (\d+)", told)
    if found is None or int(found[1]) != major:
        raise RestoreError(f"{binaries / COMBINER} is {told.strip() or 'no such program'}.", remedy)


def run_program(
    arguments: Sequence[str],
    log: Path,
    owner: Owner | None,
    tick: Callable[[], None],
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a program to its end; returns its exit code.

    Args:
        log: a new file for its words.
        tick: called often; when it raises, the program is ended.
        environment: variables besides those that keep its words English and its times UTC.

    Raises:
        RestoreError: it can't be started.
    """
    try:
        with log.open("xb") as words:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC", **(environment or {})},
                preexec_fn=dies_with_us(os.getpid()),
                **identity(owner),
            )
    except OSError as error:
        raise RestoreError(f"{arguments[0]} can't be started: {error.strerror}.", "Look at its permissions.") from error
    try:
        while process.poll() is None:
            tick()
            time.sleep(TICK_SECONDS)
    except BaseException:
        _end(process)
        raise
    return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def dies_with_us(parent: int, sent: int = signal.SIGKILL) -> Callable[[], None]:
    """What a child process does before it becomes another program, so that a worker that is killed leaves none behind.

    Args:
        parent: our process.
        sent: the signal that the child gets when we are gone.
    """

    def begin() -> None:
        # A shell's background job ignores these two, and hands that on: a server that is told to end before it has
        # handlers of its own would not hear it.
        for each in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(each, signal.SIG_DFL)
        if _LIBC.prctl(_PR_SET_PDEATHSIG, sent, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(126)

    return begin


def identity(owner: Owner | None) -> dict[str, Any]:
    """The arguments of ``subprocess`` that make a program run as this user."""
    return {"user": owner.uid, "group": owner.gid, "extra_groups": []} if owner is not None else {}
