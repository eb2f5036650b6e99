"""Files of a base backup onto a disk: into a place of our own, with PostgreSQL's own modes, never outside of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

from lifeboat.errors import NotEnoughDisk, ObjectDamaged, RestoreError
from lifeboat.streams.tar_walking import Content

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
NO_SPACE = 28
TABLESPACES = "pg_tblspc"


@dataclass(frozen=True)
class Owner:
    """The user that the files shall belong to, when we may give them away."""

    uid: int
    gid: int


@dataclass
class Unpacker:
    """Puts the members of the archives where they belong.

    Args:
        root: the data directory in the making; empty.
        tablespaces: where each tablespace's files go, by oid; those not named lie in the data directory.
        owner: who shall own everything; ``None``: us.
    """

    root: Path
    tablespaces: dict[int, Path] = field(default_factory=dict)
    owner: Owner | None = None
    written: int = 0

    def directory(self, path: str) -> None:
        """Make a directory."""
        place = self._place(path)
        with on_disk(place):
            place.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            self._give(place)

    def link(self, path: str, points_to: str) -> None:
        """A symbolic link in an archive is a tablespace's: the server makes it anew from ``tablespace_map``."""
        if PurePosixPath(path).parent.name != TABLESPACES:
            raise ObjectDamaged(
                f"The archive holds a symbolic link, {path} to {points_to}, that is no tablespace's.",
                "PostgreSQL puts none there. Use another recovery point, and find out what this is.",
            )

    def through(self, path: str, content: Content) -> Writing:
        """Write a file while its content is read by somebody else; use it as a context."""
        place = self._place(path)
        if not place.parent.is_dir():
            self.directory(str(PurePosixPath(path).parent))
        with on_disk(place):
            descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        return Writing(self, os.fdopen(descriptor, "wb", buffering=0), content, place)

    def _place(self, path: str) -> Path:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise ObjectDamaged(
                f"The archive holds the path {path!r}, which leads out of the data directory.",
                "PostgreSQL puts no such path there. Use another recovery point, and find out what this is.",
            )
        if len(parts) > 1 and parts[0] == TABLESPACES and parts[1].isdigit() and int(parts[1]) in self.tablespaces:
            return self.tablespaces[int(parts[1])].joinpath(*parts[2:])
        return self.root.joinpath(*parts)

    def _give(self, place: Path) -> None:
        if self.owner is not None:
            os.chown(place, self.owner.uid, self.owner.gid)


@contextmanager
def on_disk(place: Path) -> Iterator[None]:
    """Say what happened to a file that could not be written."""
    try:
        yield
    except FileExistsError as error:
        raise ObjectDamaged(
            f"The archives hold {place.name} twice.", "Use another recovery point, and find out what this is."
        ) from error
    except OSError as error:
        if error.errno == NO_SPACE:
            raise NotEnoughDisk(
                f"The disk is full at {place}.",
                "Make room there, or name another destination; what was written so far is removed.",
            ) from error
        raise RestoreError(f"{place} can't be written: {error.strerror}.", "Look at the disk.") from error


class Writing:
    """A file's content on its way to the disk: reading it writes it."""

    def __init__(self, unpacker: Unpacker, file: BinaryIO, content: Content, place: Path) -> None:
        self._unpacker = unpacker
        self._file = file
        self._content = content
        self._place = place

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes of the content, written already; fewer only at its end."""
        data = self._content.read(size)
        self._write(data)
        return data

    def read_some(self) -> bytes:
        """What is at hand of the content, written already; empty only at its end."""
        piece = self._content.read_some()
        self._write(piece)
        return piece

    def _write(self, data: bytes) -> None:
        self._unpacker.written += len(data)
        with on_disk(self._place):
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]

    def __enter__(self) -> Writing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # What the checks had no need to read belongs to the file all the same.
            while self.read_some():
                pass
        self._file.close()
        if kind is None:
            self._unpacker._give(self._place)
