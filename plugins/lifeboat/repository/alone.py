"""One run at a time of one thing on one machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lifeboat.errors import BackupBlocked

LOOK_SECONDS = 0.25


@contextmanager
def alone_on_this_machine(what: str, tick: Callable[[], None]) -> Iterator[None]:
    """Wait for whoever does the same on this machine; the kernel ends the lock with the process.

    Two machines that see one set of files are not kept apart: Airflow runs one run of a DAG at a time.

    Args:
        what: the thing; any text.
        tick: called while it waits; may raise to give up.
    """
    name = f"lifeboat-{os.getuid()}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.lock"
    path = Path(tempfile.gettempdir()) / name
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BackupBlocked(
            f"The lock {path} can't be opened: {error.strerror}.", "Is it somebody else's? Remove it, and try again."
        ) from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                tick()
                time.sleep(LOOK_SECONDS)
        yield
    finally:
        os.close(descriptor)
