"""``lifeboat attended``: a command of ours for somebody far away, ended when he is not there any more.

It has one thread alone: the kernel tells a child of its parent's death once for each thread that dies, and a command
that is told three times does not clear away any more.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Annotated

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import note
from lifeboat.errors import Cancelled

GRACE_SECONDS = 10.0
"""How long the command may clear away once it was told to stop; then it is killed."""
_TICK_SECONDS = 0.2
_PIECE = 64 * 1024


def attended_verb(
    words: Annotated[
        list[str], typer.Argument(help="The command: `--`, and what would follow `lifeboat`.", metavar="-- VERB …")
    ],
    silence: Annotated[
        float, typer.Option(help="Seconds without a byte on standard input after which nobody is there.", min=0.5)
    ] = 60.0,
) -> None:
    """Run a command of ours for a worker far away, over SSH; when standard input ends or falls silent, stop it."""
    from lifeboat.postgres.server_programs import dies_with_us
    from lifeboat.repository.child_programs import end

    child = subprocess.Popen(
        [sys.executable, "-m", "lifeboat.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=dies_with_us(os.getpid(), signal.SIGTERM),
    )
    watched = _Watched(child)
    try:
        try:
            stays = watched.while_attended(silence)
        except Cancelled:
            stays = False
        if not stays:
            with suppress(ProcessLookupError):
                child.terminate()
            watched.until(time.monotonic() + GRACE_SECONDS)
    finally:
        end(child)
    if not stays:
        with suppress(OSError):
            note("Nobody attends to it any more: it was stopped.", "bold red")
        raise typer.Exit(128 + signal.SIGTERM)
    raise typer.Exit(child.returncode if child.returncode >= 0 else 128 - child.returncode)


class _Watched:
    """A child whose words are passed on, also when nobody listens any more: so it can come to its end."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        for pipe, descriptor in ((child.stdout, 1), (child.stderr, 2)):
            assert pipe is not None
            self._selector.register(pipe, selectors.EVENT_READ, descriptor)
        self._deaf: set[int] = set()
        self._heard = time.monotonic()
        self._left = False

    def while_attended(self, silence: float) -> bool:
        """Until the command has ended; false when whoever attends to it has left before."""
        while self._turn():
            STOP.check()
            if self._left or time.monotonic() - self._heard > silence:
                return False
        return True

    def until(self, deadline: float) -> None:
        """Until the command has ended, or that moment of ``time.monotonic()`` has come."""
        while self._turn() and time.monotonic() < deadline:
            pass

    def _turn(self) -> bool:
        """Pass on what there is; false when the command has ended and said everything."""
        ended = self._child.poll() is not None
        events = self._selector.select(0 if ended else _TICK_SECONDS)
        spoke = False
        for key, _ in events:
            data = os.read(key.fd, _PIECE)
            if key.fd == 0:
                self._heard = time.monotonic()
                self._left = self._left or not data
            elif data:
                spoke = True
                self._pass_on(key.data, data)
            if not data:
                self._selector.unregister(key.fileobj)
        return spoke or not ended

    def _pass_on(self, descriptor: int, data: bytes) -> None:
        while data and descriptor not in self._deaf:
            try:
                data = data[os.write(descriptor, data) :]
            except OSError:
                self._deaf.add(descriptor)
