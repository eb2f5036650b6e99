"""Files, patterns and folders of a configuration, read into memory.

Patterns are expanded here and not by :mod:`glob`, which passes over folders that it may not read without a word.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec

from lifeboat.configuration.gathered import Gathered, Problem
from lifeboat.configuration.items import LARGEST_ITEM, About, ItemKind
from lifeboat.repository.ownership import group_name, user_name

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1024 * 1024
_GONE = (errno.ENOENT, errno.ENOTDIR)
FETCHED_AGAIN = ".terraform"
"""Providers and modules that ``terraform init`` fetches again, hundreds of megabytes of them."""


class FileGathering:
    """Takes files of one kind.

    Args:
        kind: the first part of the items' names.
        exclude: patterns as in a ``.gitignore``, from the root on.
        leave_out: names of folders that are not entered.
        gathered: where items and problems go.
        tick: called often; may raise to stop.
    """

    def __init__(
        self,
        kind: ItemKind,
        exclude: Sequence[str],
        gathered: Gathered,
        tick: Callable[[], None],
        *,
        leave_out: Iterable[str] = (),
    ) -> None:
        self._kind = kind
        self._exclude = GitIgnoreSpec.from_lines(exclude)
        self._gathered = gathered
        self._tick = tick
        self._leave_out = frozenset(leave_out)
        self._led_to: dict[str, str] = {}

    def take_all(self, patterns: Iterable[str]) -> None:
        """Take what paths and patterns name; what one of them does not find is a problem."""
        for pattern in patterns:
            if not glob.has_magic(pattern):
                self._take(_from_root(pattern), named=True)
                continue
            before = len(self._gathered.problems)
            found = False
            for path in self._expanded("/", list(PurePosixPath(pattern).parts[1:])):
                found = True
                self._take(path, named=False, enter=True)
            if not found and len(self._gathered.problems) == before:
                remedy = "Is it written as it is on the workers of the source's `queue`?"
                self._gathered.problems.append(Problem(pattern, "fits nothing", "nothing", remedy))
        for link, folder in self._led_to.items():
            if not self._gathered.has(self._kind + folder):
                self._gathered.remarks.append(f"{link} leads to the folder {folder}, which is not in the set.")

    def _expanded(self, base: str, parts: list[str]) -> Iterator[str]:
        """The paths that a pattern fits below a folder."""
        self._tick()
        if not parts:
            yield base
            return
        head, rest = parts[0], parts[1:]
        if head == "**":
            yield from self._expanded(base, rest)
            for name in self._listed(base) if rest else ():
                path = _in(base, name)
                if self._mode(path, follow=False) == stat.S_IFDIR:
                    yield from self._expanded(path, parts)
            return
        names = self._listed(base) if glob.has_magic(head) else [head]
        for name in names:
            path = _in(base, name)
            if not fnmatchcase(name, head) and name != head:
                continue
            if rest and self._mode(path, follow=True) == stat.S_IFDIR:
                yield from self._expanded(path, rest)
            elif not rest and self._mode(path, follow=False) is not None:
                yield path

    def _listed(self, folder: str) -> list[str]:
        if self._excluded(f"{folder}/"):
            return []
        try:
            with os.scandir(folder) as entries:
                return sorted((entry.name for entry in entries), key=os.fsencode)
        except OSError as error:
            if error.errno not in _GONE:
                self._unread(folder, error)
            return []

    def _mode(self, path: str, *, follow: bool) -> int | None:
        try:
            return stat.S_IFMT(Path(path).stat(follow_symlinks=follow).st_mode)
        except OSError as error:
            if error.errno not in _GONE:
                self._unread(path, error)
            return None

    def _excluded(self, path: str) -> bool:
        return bool(self._exclude.match_file(path.lstrip("/")))

    def _take(self, path: str, *, named: bool, enter: bool = False) -> None:
        """Take a path and what is in it.

        Args:
            named: it has to be there: the policy names it, and no pattern does.
            enter: a link to a folder means the folder.
        """
        self._tick()
        if self._gathered.has(self._kind + path):
            return
        try:
            found = os.lstat(path)
        except OSError as error:
            self._failed(path, error, named=named)
            return
        kind = stat.S_IFMT(found.st_mode)
        if self._excluded(f"{path}/" if kind == stat.S_IFDIR else path):
            return
        if kind == stat.S_IFDIR:
            self._gathered.add(self._about(path, "directory", found))
            for name in self._listed(path):
                if name not in self._leave_out:
                    self._take(_in(path, name), named=False)
        elif kind == stat.S_IFLNK:
            self._take_link(path, found, enter=enter or named)
        elif kind == stat.S_IFREG:
            self._take_file(path, named=named)
        elif named:
            self._gathered.problems.append(Problem(path, "is neither a file nor a folder", "unread", "Leave it out."))
        else:
            self._gathered.remarks.append(f"{path} is neither a file nor a folder, and is not in it.")

    def _take_link(self, path: str, found: os.stat_result, *, enter: bool) -> None:
        """A link, and what it leads to: the link alone would bring nothing back."""
        try:
            link = os.readlink(path)  # noqa: PTH115 - a Path would change what it says
        except OSError as error:
            self._failed(path, error, named=enter)
            return
        self._gathered.add(self._about(path, "link", found, link))
        folder = os.path.realpath(path.rpartition("/")[0] or "/")
        place = _from_root(link if link.startswith("/") else _in(folder, link))
        kind = self._mode(place, follow=False)
        if kind is None:
            self._gathered.remarks.append(f"{path} is a link that leads to nothing.")
        elif kind != stat.S_IFDIR:
            self._take(place, named=False, enter=enter)
        elif enter:
            self._take(place, named=False)
        else:
            self._led_to[path] = place

    def _take_file(self, path: str, *, named: bool) -> None:
        try:
            content, changed, found = self._read(path)
            if changed:
                content, changed, found = self._read(path)
        except OSError as error:
            self._failed(path, error, named=named)
            return
        if len(content) > LARGEST_ITEM:
            reason = f"has more than {LARGEST_ITEM // 1024**2} MiB, too much for an item of a configuration"
            remedy = "Leave it out by `exclude`, or make it part of a source of kind `files`."
            self._gathered.problems.append(Problem(path, reason, "unread", remedy))
            return
        if changed:
            self._gathered.remarks.append(f"{path} changed while it was read, twice.")
        self._gathered.add(self._about(path, "file", found), content)

    def _read(self, path: str) -> tuple[bytes, bool, os.stat_result]:
        """A file's bytes, of one that is too large a few too many; whether it changed meanwhile; what it is."""
        descriptor = os.open(path, _READ)
        try:
            before = os.fstat(descriptor)
            pieces, size = [], 0
            while size <= LARGEST_ITEM and (piece := os.read(descriptor, _PIECE)):
                self._tick()
                pieces.append(piece)
                size += len(piece)
            after = os.fstat(descriptor)
            changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
            return b"".join(pieces), changed, after
        finally:
            os.close(descriptor)

    def _about(self, path: str, kind: str, found: os.stat_result, link: str = "") -> About:
        return About(
            self._kind + path,
            kind,  # type: ignore[arg-type]
            stat.S_IMODE(found.st_mode),
            found.st_uid,
            found.st_gid,
            user_name(found.st_uid),
            group_name(found.st_gid),
            found.st_mtime_ns,
            link,
        )

    def _failed(self, path: str, error: OSError, *, named: bool) -> None:
        if error.errno not in _GONE:
            self._unread(path, error)
        elif named:
            remedy = "Is it on the workers of the source's `queue`? Otherwise take it out of the policy."
            self._gathered.problems.append(Problem(path, "is not there", "missing", remedy))

    def _unread(self, path: str, error: OSError) -> None:
        remedy = "Let the worker's user read it, or leave it out by `exclude`."
        self._gathered.problems.append(Problem(path, f"can't be read: {error.strerror}", "unread", remedy))


def _in(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _from_root(path: str) -> str:
    """Without what means nothing; two slashes at the beginning are one."""
    return f"/{os.path.normpath(path).lstrip('/')}"
