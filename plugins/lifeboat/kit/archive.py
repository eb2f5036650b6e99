"""The kit's archive: an ordinary zip, written whole or not at all, and read without trusting it."""

from __future__ import annotations

import hashlib
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from lifeboat.errors import ManifestInvalid, RepositoryError
from lifeboat.kit.contents import WHEELS, KitFile

PIECE_BYTES = 1024 * 1024
LARGEST_READ = 64 * 1024 * 1024
# A fixed time (the earliest that a zip can say) and mode: what is inside says when and for whom it was made.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_MODE = 0o600


class KitWriter:
    """Adds files to the archive and keeps account of them."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.files: list[KitFile] = []

    def add(self, name: str, data: bytes, *, listed: bool = True) -> None:
        """Add a file; ``listed`` is false for the manifest and its signatures."""
        self._archive.writestr(_entry(name), data)
        if listed:
            self.files.append(KitFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()))

    def add_file(self, name: str, path: Path) -> None:
        """Add a file from the disk, however large; it may not be a link or anything else than a plain file."""
        digest, size = hashlib.sha256(), 0
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as source, self._archive.open(_entry(name), "w", force_zip64=True) as entry:
            while piece := source.read(PIECE_BYTES):
                entry.write(piece)
                digest.update(piece)
                size += len(piece)
        self.files.append(KitFile(name=name, size=size, sha256=digest.hexdigest()))


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _MOMENT)
    entry.external_attr = _MODE << 16
    # Wheels are zips themselves.
    entry.compress_type = zipfile.ZIP_STORED if name.startswith(WHEELS) else zipfile.ZIP_DEFLATED
    return entry


@contextmanager
def new_archive(destination: Path, prove: Callable[[Path], object]) -> Iterator[KitWriter]:
    """A new archive, beside ``destination`` until the block has ended without an error, of mode 0600.

    Args:
        destination: the file to be made.
        prove: given the file's present path when everything is on the disk; what it raises stops the kit.

    Raises:
        RepositoryError: there is a file of that name, or it can't be written.
    """
    if destination.exists() or destination.is_symlink():
        raise _there_already(destination)
    unfinished = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.unfinished")
    try:
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _not_written(destination, error) from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            with zipfile.ZipFile(file, "w", strict_timestamps=False) as archive:
                yield KitWriter(archive)
            file.flush()
            os.fsync(file.fileno())
        prove(unfinished)
        _give_name(unfinished, destination)
    except OSError as error:
        raise _not_written(destination, error) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _give_name(unfinished: Path, destination: Path) -> None:
    try:
        os.link(unfinished, destination)
    except FileExistsError as error:
        raise _there_already(destination) from error
    except OSError:
        # A file system without hard links, such as that of a memory stick: the name is taken by an empty file first.
        try:
            os.close(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError as error:
            raise _there_already(destination) from error
        try:
            unfinished.replace(destination)
        except OSError:
            destination.unlink(missing_ok=True)
            raise
    # Some file systems refuse to sync a directory; the kit itself is on the disk.
    with suppress(OSError):
        descriptor = os.open(destination.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _there_already(destination: Path) -> RepositoryError:
    return RepositoryError(
        f"{destination} is there already.", "A kit is never overwritten: name another file, or put the old kit away."
    )


def _not_written(destination: Path, error: OSError) -> RepositoryError:
    return RepositoryError(
        f"The kit can't be written to {destination}: {error.strerror or error}.",
        "Name a file in a directory that exists, with room for it.",
    )


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive for reading; no name stands in it twice.

    Raises:
        ManifestInvalid: it is no zip, or a name stands in it twice.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ManifestInvalid(
            f"The kit {path} can't be opened: {getattr(error, 'strerror', None) or error}.",
            "Take another copy of it, or export a new one.",
        ) from error
    with archive:
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise ManifestInvalid(f"The kit {path} has two files of one name.", "It was changed: take another copy.")
        yield archive


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """A small file as a whole.

    Raises:
        ManifestInvalid: it is missing, damaged or not small.
    """
    with _opened_entry(archive, name) as entry:
        data = entry.read(LARGEST_READ + 1)
    if len(data) > LARGEST_READ:
        raise ManifestInvalid(f"{name} in the kit is larger than it can be.", "Take another copy of the kit.")
    return data


def fault_of(archive: zipfile.ZipFile, file: KitFile) -> str:
    """What is wrong with a file of the archive, in a few words; empty when nothing is."""
    digest, size = hashlib.sha256(), 0
    try:
        with _opened_entry(archive, file.name) as entry:
            # The kit's own word for its size bounds what is unpacked.
            while size <= file.size and (piece := entry.read(PIECE_BYTES)):
                digest.update(piece)
                size += len(piece)
    except ManifestInvalid as error:
        return error.what
    if size != file.size or digest.hexdigest() != file.sha256:
        return f"{file.name} in the kit is not what was put into it."
    return ""


@contextmanager
def _opened_entry(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    try:
        with archive.open(name) as entry:
            yield entry
    except KeyError:
        raise ManifestInvalid(f"{name} is missing in the kit.", "Take another copy of the kit.") from None
    # zipfile raises the last two for a method or an encryption that the kit never has: its bytes were changed.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ManifestInvalid(f"{name} in the kit is damaged: {error}.", "Take another copy of the kit.") from error
