"""The links of a chain become one data directory: ``pg_combinebackup`` of the server's own major version.

Every link was proven before; what comes out is compared with the manifest that the program writes for it.

Sources: https://www.postgresql.org/docs/current/app-pgcombinebackup.html,
https://man7.org/linux/man-pages/man2/ficlone.2const.html
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lifeboat.errors import NotEnoughDisk, PostgresError, RestoreError, VerificationFailed
from lifeboat.postgres.backup_manifest import BackupManifestReader, ManifestFile, file_checksum
from lifeboat.postgres.base_backup import MANIFEST_STREAM
from lifeboat.postgres.destination import Place
from lifeboat.postgres.server_programs import COMBINER, run_program
from lifeboat.postgres.unpacking import TABLESPACES

LINKS_SINCE = 18
PIECE_BYTES = 1024 * 1024
MOST_FAULTS = 20
_FICLONE = 0x40049409
_WAL = "pg_wal"


def combine(
    links: Sequence[Path], place: Place, binaries: Path, major: int, log: Path, *, tick: Callable[[], None]
) -> None:
    """Combine the links into ``place.data``; they stay, since what came out is compared with them.

    Args:
        links: the data directories of the links, the full first.
        log: a file for the program's words.

    Raises:
        RestoreError: the program could not combine them; its own words are in the text.
        NotEnoughDisk: the disk filled meanwhile.
    """
    spaces = [
        f"--tablespace-mapping={_escaped(space.link(len(links) - 1))}={_escaped(space.building)}"
        for space in place.tablespaces
    ]
    arguments = [
        str(binaries / COMBINER),
        # The server that recovers it syncs the whole directory before it begins.
        "--no-sync",
        way_of_copying(major, [place.root, *(space.root for space in place.tablespaces)]),
        *spaces,
        f"--output={place.data}",
        *map(str, links),
    ]
    _run(arguments, place, log, tick)


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace("=", "\\=")


def way_of_copying(major: int, roots: Sequence[Path]) -> str:
    """The cheapest way that the program and every file system at hand know: the links are thrown away afterwards, so
    that their files may become the result's."""
    ways: list[tuple[str, Callable[[Path, Path], object]]] = [
        *([("--link", _link)] if major >= LINKS_SINCE else []),
        ("--clone", _clone),
        ("--copy-file-range", _copy_range),
    ]
    return next((way for way, attempt in ways if all(_works(attempt, root) for root in roots)), "--copy")


def _works(attempt: Callable[[Path, Path], object], root: Path) -> bool:
    one, other = root / "one-way", root / "another"
    try:
        one.write_bytes(b"x")
        attempt(one, other)
        return other.read_bytes() == b"x"
    except OSError:
        return False
    finally:
        one.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


def _link(one: Path, other: Path) -> None:
    other.hardlink_to(one)


def _clone(one: Path, other: Path) -> None:
    with one.open("rb") as source, other.open("xb") as made:
        fcntl.ioctl(made.fileno(), _FICLONE, source.fileno())


def _copy_range(one: Path, other: Path) -> None:
    with one.open("rb") as source, other.open("xb") as made:
        os.copy_file_range(source.fileno(), made.fileno(), 1)


def _run(arguments: Sequence[str], place: Place, log: Path, tick: Callable[[], None]) -> None:
    code = run_program(arguments, log, place.owner, tick)
    if code != 0:
        told = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = " | ".join(told[-4:]) or f"it ended with code {code}"
        if any("No space left on device" in line for line in told):
            raise NotEnoughDisk(
                f"The disk is full at {place.root}: {last}",
                "Make room there, or name another destination; what was written so far is removed.",
            )
        raise RestoreError(
            f"{COMBINER} could not combine the chain: {last}",
            "Begin with an older link or a full (--base), or restore from another target.",
        )


def check_combined(data: Path, links: Sequence[Path], *, passed: Callable[[int], None]) -> int:
    """Compare the combined directory, file by file, with the manifest that was written for it.

    A file that is a link's own, under a second name, was compared with that link's manifest while it was written, and
    is not read again: only its size is looked at.

    Args:
        links: the data directories that it was combined from.
        passed: told the bytes that were compared; may raise to stop.

    Returns:
        The bytes of all files.

    Raises:
        VerificationFailed: names up to ``MOST_FAULTS`` files that are missing, added or different.
    """
    faults: list[str] = []
    listed = size = 0
    path = data / MANIFEST_STREAM
    with path.open("rb") as stream:
        for entry in BackupManifestReader(stream):
            listed += not entry.path.startswith(f"{_WAL}/")
            size += entry.size
            if fault := _fault(data, links, entry, passed):
                faults.append(fault)
            if len(faults) >= MOST_FAULTS:
                break
        else:
            if (there := sum(1 for _ in _files(data))) != listed:
                faults.append(f"there are {there} files, and {listed} in the manifest")
    if faults:
        raise VerificationFailed(
            f"The combined chain does not match the manifest written for it: {'; '.join(faults)}.",
            "The disk or the memory of this machine may be bad. Restore to another one.",
        )
    return size


def _fault(data: Path, links: Sequence[Path], entry: ManifestFile, passed: Callable[[int], None]) -> str:
    try:
        checksum = file_checksum(entry.checksum_algorithm)
        with (data / entry.path).open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size != entry.size:
                return f"{entry.path} has {found.st_size} bytes instead of {entry.size}"
            if _is_of_a_link(found, entry.path, links):
                passed(entry.size)
                return ""
            while piece := file.read(PIECE_BYTES):
                checksum.update(piece)
                passed(len(piece))
    except OSError as error:
        return f"{entry.path} can't be read: {error.strerror}"
    except PostgresError as error:
        return f"{entry.path}: {error.what}"
    return "" if checksum.hexdigest() == entry.checksum else f"{entry.path} differs from its checksum"


def _is_of_a_link(found: os.stat_result, path: str, links: Sequence[Path]) -> bool:
    if found.st_nlink < 2:
        return False
    for link in reversed(links):
        with suppress(FileNotFoundError):
            if os.path.samestat(found, (link / path).stat()):
                return True
    return False


def _files(data: Path) -> Iterator[Path]:
    """All files that the manifest must name; whether it names WAL depends on the version."""
    spaces = data / TABLESPACES
    for root in [data, *(link for link in spaces.iterdir() if link.is_symlink())]:
        for folder, directories, files in os.walk(root):
            if Path(folder) == data and _WAL in directories:
                directories.remove(_WAL)
            yield from (Path(folder) / name for name in files if Path(folder) != data or name != MANIFEST_STREAM)
