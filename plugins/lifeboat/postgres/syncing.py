"""What a restore writes reaches the disk at its end, by one call for each file system, before anything gets its name.

The server that recovers need not wait for the disk meanwhile: a restore that loses its machine in the middle begins
anew. It would sync every WAL segment that it is given, and throw most of them away.

The file systems are opened before anything is written: Linux tells whoever syncs of every write that has
failed since then, also of those that it tried by itself in between. It does so since 5.8.

Source: https://man7.org/linux/man-pages/man2/sync.2.html
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lifeboat.errors import RestoreError

_TELLS_SINCE = (5, 8)
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def synced_at_the_end(places: Iterable[Path]) -> Iterator[Callable[[], None] | None]:
    """Gives what syncs all of the file systems that the places lie on, to be called once everything is written;
    ``None`` where the kernel would not tell of every error: then each file has to be synced by whoever writes it.

    What it gives raises:
        RestoreError: something that was written did not reach the disk.
    """
    if not tells_of_every_error(platform.system(), platform.release()):
        yield None
        return
    with ExitStack() as stack:
        opened: dict[int, tuple[int, Path]] = {}
        for place in places:
            device = place.stat().st_dev
            if device not in opened:
                opened[device] = (os.open(place, os.O_RDONLY | os.O_DIRECTORY), place)
                stack.callback(os.close, opened[device][0])

        def sync() -> None:
            for descriptor, place in opened.values():
                _sync(descriptor, place)

        yield sync


def tells_of_every_error(system: str, release: str) -> bool:
    """Whether a kernel tells whoever syncs a whole file system of what failed on it."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return system == "Linux" and found is not None and (int(found[1]), int(found[2])) >= _TELLS_SINCE


def _sync(descriptor: int, place: Path) -> None:
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise RestoreError(
            f"Not everything that was written reached the disk below {place}: {os.strerror(number)}.",
            "Look at the disk and the kernel's log, and restore to another one. What was restored is removed.",
        )
