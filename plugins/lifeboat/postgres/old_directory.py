"""The data directory in whose place a restored one is to come: whether it is one, and whether nobody is in it."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from lifeboat.errors import DestinationInUse, RestoreError

BEFORE = ".before-"
_LOCK_FILE = "postmaster.pid"
_NOTHING = "Nothing was touched."


def aside_of(into: Path, now: datetime) -> Path:
    """Where a data directory goes that gives way: ``…/data.before-20261122T140500Z``; numbered where that is taken."""
    place = Path(f"{into}{BEFORE}{now:%Y%m%dT%H%M%SZ}")
    number = 1
    while os.path.lexists(place):
        number += 1
        place = Path(f"{into}{BEFORE}{now:%Y%m%dT%H%M%SZ}.{number}")
    return place


def holds_something(into: Path) -> bool:
    """Whether there is a directory that is not empty.

    Raises:
        RestoreError: it can't be read.
    """
    try:
        return into.is_dir() and any(into.iterdir())
    except PermissionError as error:
        raise RestoreError(
            f"{into} can't be read: {error.strerror}.", "Run it as root, or as the user whose directory it is."
        ) from error


def check_old(into: Path, aside: Path) -> None:
    """Insist on a data directory that no server uses, and on its being able to give way.

    Raises:
        DestinationInUse: it is something else, or in use; nothing was touched.
    """
    if not ((into / "PG_VERSION").is_file() and (into / "global" / "pg_control").is_file()):
        raise DestinationInUse(
            f"{into} is not empty and is no data directory of PostgreSQL: it won't be renamed.",
            f"{_NOTHING} Move what is there aside yourself, or name another destination.",
        )
    if os.path.lexists(aside):
        raise DestinationInUse(f"{aside} is there already.", f"{_NOTHING} Look at the plan again.")
    if aside.parent != into.parent:
        raise DestinationInUse(f"{aside} is not beside {into}.", _NOTHING)
    insist_on_no_server(into)


def insist_on_no_server(data: Path, known_as: Path | None = None) -> None:
    """Insist on no server's running in a data directory, nor anything that a crashed one has left behind.

    Args:
        data: the directory.
        known_as: its path when a server last ran in it, where it has been renamed since.

    Raises:
        DestinationInUse: one runs there, or may run.
    """
    if processes := processes_in(data):
        raise DestinationInUse(
            f"A server runs in {data}: {', '.join(f'process {process}' for process in processes[:5])}.",
            f"{_NOTHING} Stop it (pg_ctl -D {data} stop), and let nothing start it again; then run this again.",
        )
    lines = _lock_lines(data)
    if not lines:
        return
    process = abs(int(lines[0])) if lines[0].lstrip("-").isdigit() else 0
    home = lines[1] if len(lines) > 1 else ""
    elsewhere = home and os.path.realpath(home) != os.path.realpath(known_as or data)
    if elsewhere or _may_be_it(process):
        why = f"a server that calls it {home}" if elsewhere else f"process {process}, which runs"
        raise DestinationInUse(
            f"{data / _LOCK_FILE} is of {why}: it may run there, in a container or on another machine.",
            f"{_NOTHING} See that no server uses {data}, and remove that file; then run this again.",
        )


def processes_in(data: Path) -> list[int]:
    """The processes that work in a directory, as all of a server's do; as far as we may see. Empty without /proc."""
    there = data.stat()
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            seen = link.stat()
            if (seen.st_dev, seen.st_ino) == (there.st_dev, there.st_ino):
                found.append(int(link.parent.name))
    return sorted(found)


def size_of(folder: Path) -> int:
    """Bytes of the files in a directory, as far as they can be read; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(Path(place) / name).st_size
    return total


def links_out(data: Path) -> dict[str, str]:
    """What of a data directory lies elsewhere: its WAL and tablespaces, by their links in it."""
    links = [data / "pg_wal"]
    with suppress(OSError):
        links += sorted((data / "pg_tblspc").iterdir())
    return {str(link.relative_to(data)): str(link.readlink()) for link in links if link.is_symlink()}


def _lock_lines(data: Path) -> list[str]:
    try:
        return (data / _LOCK_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DestinationInUse(
            f"{data / _LOCK_FILE} can't be read: {error.strerror}.", "Run it as root, or as the server's user."
        ) from error


def _may_be_it(process: int) -> bool:
    """Whether the process may be the server: one that we see to work elsewhere has got the number after it."""
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        Path(f"/proc/{process}/cwd").stat()
    except OSError:
        return True
    return not Path("/proc/self/cwd").exists()
