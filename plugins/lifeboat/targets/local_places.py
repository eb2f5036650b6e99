"""Ways through a directory tree that never leave it: each step begins at an open directory, no link is followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lifeboat.errors import ObjectExists, ObjectMissing, TargetError, TargetFull, TargetUnavailable
from lifeboat.targets.keys import fault_of_key

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def translate(error: OSError, target: str, what: str) -> TargetError:
    """A system error as the exception of a target; ``what`` was being done when it came."""
    reason = error.strerror or type(error).__name__
    sentence = f"Target {target}: {what} failed: {reason}."
    if error.errno == errno.EFBIG:
        return TargetFull(
            sentence, "The file system or a limit of the process (ulimit -f) allows no file of that size."
        )
    if error.errno in _FULL:
        return TargetFull(
            sentence, "Make room or raise the quota, then run the backup again. Nothing half-done was kept."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return TargetError(sentence, f"Let the account with uid {os.geteuid()} read and write there.")
    if error.errno == errno.EROFS:
        return TargetUnavailable(
            sentence, "The file system is mounted read-only: find out why, then mount it writable."
        )
    if error.errno in (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN):
        return TargetUnavailable(sentence, "The device or the network mount is in trouble: look at the system's log.")
    return TargetError(sentence)


@contextmanager
def translated(target: str, what: str) -> Iterator[None]:
    """Within it, system errors become errors of the target."""
    try:
        yield
    except OSError as error:
        raise translate(error, target, what) from error


@dataclass(frozen=True)
class Place:
    """Where an object's file is or will be: an open directory and a name in it."""

    directory: int
    name: str


class Tree:
    """The directory below which a target keeps its objects.

    Args:
        target: the target's name, for messages.
        root: the directory; may itself be a symbolic link: whoever wrote the policy chose it.
    """

    def __init__(self, target: str, root: Path) -> None:
        self.target = target
        self.root = root

    def open_root(self) -> int:
        """A descriptor of the root directory; the caller closes it.

        Raises:
            TargetUnavailable: it does not exist, or is no directory.
        """
        try:
            return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise TargetUnavailable(
                f"Target {self.target}: there is no directory {self.root}.",
                "Mount it, or make it if it was never there (mkdir -m 700 -p): Lifeboat does not, since a directory "
                "made where a disk should be mounted fills the wrong disk.",
            ) from error
        except OSError as error:
            raise translate(error, self.target, f"opening {self.root}") from error

    @contextmanager
    def folder(self, parts: list[str], *, make: bool = False) -> Iterator[int | None]:
        """An open directory below the root; ``None`` when there is none and ``make`` is false.

        Raises:
            TargetError: a part of the way is a symbolic link or no directory.
        """
        descriptor: int | None = self.open_root()
        try:
            for part in parts:
                assert descriptor is not None
                following = self._step(descriptor, part, parts, make=make)
                os.close(descriptor)
                descriptor = following
                if descriptor is None:
                    break
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _step(self, directory: int, part: str, parts: list[str], *, make: bool) -> int | None:
        try:
            return os.open(part, _DIRECTORY, dir_fd=directory)
        except FileNotFoundError:
            if not make:
                return None
        except OSError as error:
            # Without following: Linux answers ENOTDIR for a symbolic link when O_DIRECTORY is set, ELOOP elsewhere.
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise TargetError(
                    f"Target {self.target}: {part!r} on the way to {'/'.join(parts)} is a symbolic link or a file, "
                    "not a folder.",
                    "Lifeboat follows no links inside a target. Move it away.",
                ) from error
            raise
        with suppress(FileExistsError):
            os.mkdir(part, 0o700, dir_fd=directory)
            os.fsync(directory)
        return os.open(part, _DIRECTORY, dir_fd=directory)

    @contextmanager
    def place(self, key: str, *, make: bool = False) -> Iterator[Place | None]:
        """The place of an object; ``None`` when its folder does not exist and ``make`` is false."""
        *parts, name = key.split("/")
        with self.folder(parts, make=make) as directory:
            yield None if directory is None else Place(directory, name)

    def open_file(self, key: str) -> int:
        """A descriptor of an object's file; the caller closes it.

        Raises:
            ObjectMissing: there is none.
            TargetError: something that is no plain file has its name.
        """
        with self.place(key) as place:
            if place is not None and self.is_object(place, key):
                # It may go between the look and the opening: then it is missing, and no fault of the disk.
                with suppress(FileNotFoundError):
                    return os.open(place.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.directory)
            raise ObjectMissing(
                f"Target {self.target} holds no object {key}.",
                "Take another copy, or look at what the target holds: lifeboat list.",
            )

    def is_object(self, place: Place, key: str) -> bool:
        """Whether a plain file is there; a directory or nothing is no object.

        Raises:
            TargetError: a symbolic link, device or pipe has the name.
        """
        try:
            mode = os.stat(place.name, dir_fd=place.directory, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return False
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return stat.S_ISREG(mode)
        raise TargetError(
            f"Target {self.target}: {key} is a symbolic link, a device or a pipe, not an object.",
            "Somebody put it there by hand: move it away.",
        )

    def prune(self, parts: list[str]) -> None:
        """Remove the folder and its parents as long as they are empty, never the root."""
        while parts:
            with self.folder(parts[:-1]) as parent:
                if parent is None:
                    parts = parts[:-1]
                    continue
                try:
                    os.rmdir(parts[-1], dir_fd=parent)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.EACCES, errno.EPERM):
                        return
                    raise
            parts = parts[:-1]

    def entries(self, prefix: str) -> list[tuple[str, os.stat_result]]:
        """Names and states of what is directly in a folder, in the order of keys; ``lost+found`` in the root is not."""
        parts = prefix.split("/")[:-1]
        found = []
        with self.folder(parts) as directory:
            if directory is None:
                return []
            for name in os.listdir(directory):  # noqa: PTH208 (a Path takes no descriptor)
                if not parts and name == "lost+found":
                    continue
                with suppress(FileNotFoundError):
                    found.append((name, os.stat(name, dir_fd=directory, follow_symlinks=False)))
        # By key: a folder's name sorts as if it ended in "/", since that is what follows it in a key.
        return sorted(found, key=lambda entry: entry[0] + "/" if stat.S_ISDIR(entry[1].st_mode) else entry[0])

    def walk(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """Keys and states of all plain files below a folder, uploads in progress too, in the order of keys."""
        for name, found in self.entries(prefix):
            if stat.S_ISDIR(found.st_mode):
                if fault_of_key(name) is None:
                    yield from self.walk(f"{prefix}{name}/")
            elif stat.S_ISREG(found.st_mode):
                yield f"{prefix}{name}", found


def already_there(target: str, key: str) -> ObjectExists:
    """The error for an object that is written only once and is there."""
    return ObjectExists(
        f"Target {target} holds an object {key} already.", "It was left as it is: objects are written once."
    )
