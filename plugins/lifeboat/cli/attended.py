"""``lifeboat attended``: a command of ours for somebody far away, ended when he is not there any more."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Annotated

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import note

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
    assert child.stdout is not None
    assert child.stderr is not None
    pumps = [_pump(child.stdout, 1), _pump(child.stderr, 2)]
    left = False
    try:
        left = not _stays(child, silence)
    finally:
        end(child, GRACE_SECONDS)
        for pump in pumps:
            pump.join(GRACE_SECONDS)
    if left:
        with suppress(OSError):
            note("Nobody attends to it any more: it was stopped.", "bold red")
        raise typer.Exit(128 + signal.SIGTERM)
    raise typer.Exit(child.returncode if child.returncode >= 0 else 128 - child.returncode)


def _stays(child: subprocess.Popen[bytes], silence: float) -> bool:
    """Wait for the command's end; false where whoever attends to it has left before."""
    heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        while child.poll() is None:
            STOP.check()
            if selector.select(_TICK_SECONDS):
                if not os.read(0, _PIECE):
                    return False
                heard = time.monotonic()
            elif time.monotonic() - heard > silence:
                return False
    return True


def _pump(pipe: IO[bytes], descriptor: int) -> threading.Thread:
    """Pass on what a pipe says; also when nobody listens any more, so that whoever speaks can come to its end."""

    def run() -> None:
        listens = True
        with suppress(OSError, ValueError):
            while piece := os.read(pipe.fileno(), _PIECE):
                while listens and piece:
                    try:
                        piece = piece[os.write(descriptor, piece) :]
                    except OSError:
                        listens = False

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
