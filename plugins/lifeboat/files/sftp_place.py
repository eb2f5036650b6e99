"""A set of files in a directory of an SFTP server: ``sftp://``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Self

import asyncssh

from lifeboat.errors import SourceUnreadable, TargetError, TargetUnavailable
from lifeboat.files.entries import ROOT, Entry, FileType
from lifeboat.files.far_place import NOBODY
from lifeboat.files.patterns import Selection
from lifeboat.files.sftp_file import STILL_FRESH, SftpFile, identity_of, readable, said
from lifeboat.files.walking import DEEPEST, Unseen
from lifeboat.outside import Outside
from lifeboat.policy.files_source import FilesSource
from lifeboat.targets.background import awaited, in_background
from lifeboat.targets.sftp_access import access_from
from lifeboat.targets.sftp_errors import MISSING, Speaker, is_lost
from lifeboat.targets.sftp_session import Link, Session
from lifeboat.targets.sftp_tree import Tree

_LINKS_AT_ONCE = 32
_FOLDERS_AHEAD = 4
_NAMES_AHEAD = 50_000
_TYPES: dict[int, FileType] = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character", stat.S_IFBLK: "block",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Named:
    """What a listing says of a name in a folder."""

    name: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: str = ""

    @classmethod
    def of(cls, name: str, found: asyncssh.SFTPAttrs) -> _Named:
        uid = NOBODY if found.uid is None else found.uid
        gid = NOBODY if found.gid is None else found.gid
        return cls(name, found.permissions or 0, uid, gid, found.size or 0, found.mtime or 0)

    def entry(self, path: str, kind: FileType, where: str) -> Entry:
        plain = kind == "file"
        return Entry(
            path, kind, stat.S_IMODE(self.mode), self.uid, self.gid, self.mtime * 10**9,
            size=self.size if plain else 0, link=self.link,
            identity=identity_of(where, self.mtime, self.size) if plain else "",
        )  # fmt: skip


class SftpPlace:
    """A directory as an SFTP server shows it. One SSH connection serves everything, made anew when it breaks.

    Args:
        name: the source's name in the policy.
        source: what the policy says of it.
        outside: finds the connection; tells the time.
        silence: seconds without a sign of life after which a connection counts as broken.

    Raises:
        ConnectionUnknown: there is no such connection.
        SourceUnreadable: something in it is missing or can't be read.
    """

    def __init__(self, name: str, source: FilesSource, outside: Outside, *, silence: float = 60.0) -> None:
        assert source.connection is not None
        with readable():
            connection = outside.connection(source.connection)
            access = access_from(connection, target=name, host=source.host, port=source.port, role="Source")
        root = source.directory
        server = f"{access.host}:{access.port}"
        self._speaker = Speaker(name, server, access.login, root, source.connection, role="Source")
        self._session = Session(access, self._speaker, silence=silence)
        self._tree = Tree(self._speaker, root)
        self._clock = outside.clock
        self._ahead: dict[str, Future[list[_Named]]] = {}
        # Files of two servers may well have the same size and time.
        self._where = hashlib.sha256(f"{server} {root}".encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._session.close()

    def try_out(self) -> bool:
        """As the protocol says; what may be read shows when it is read."""
        with readable():
            self._root()
            return bool(self._session.run(lambda link: self._list(link, ROOT), "listing"))

    def _root(self) -> Entry:
        def missing() -> SourceUnreadable:
            return SourceUnreadable(
                f"{self._speaker.title}: there is no directory {self._tree.root} on {self._speaker.server}.",
                "Is it mounted there? In a chroot, the path is the one inside of it.",
            )

        async def look(link: Link) -> asyncssh.SFTPAttrs:
            return await link.sftp.stat(self._tree.path(""))

        try:
            found = _Named.of(ROOT, self._session.run(look, f"looking at {self._tree.root}"))
        except TargetError as error:
            if isinstance(error.__cause__, MISSING):
                raise missing() from error
            raise
        if not stat.S_ISDIR(found.mode):
            raise missing()
        return found.entry(ROOT, "directory", self._where)

    def walk(self, selection: Selection, unseen: Callable[[Unseen], None], tick: Callable[[], None]) -> Iterator[Entry]:
        """As the protocol says."""
        with readable():
            yield awaited(in_background(self._root), tick)
            yield from self._in("", selection, unseen, tick)

    def _in(
        self, folder: str, selection: Selection, unseen: Callable[[Unseen], None], tick: Callable[[], None]
    ) -> Iterator[Entry]:
        coming = self._ahead.pop(folder, None)
        try:
            names = awaited(coming if coming is not None else self._listing(folder), tick)
        except TargetError as error:
            if isinstance(error, TargetUnavailable) or not folder:
                raise
            unseen(Unseen(folder, f"can't be listed: {said(error)}"))
            return
        for number, named in enumerate(names):
            path = f"{folder}/{named.name}" if folder else named.name
            kind = _TYPES.get(stat.S_IFMT(named.mode))
            if not named.name or "/" in named.name or "\0" in named.name:
                unseen(Unseen(path, "has a name that no file can have"))
            elif kind != "directory":
                if selection.has(path):
                    yield from self._one(path, named, kind, unseen)
            elif selection.may_enter(path):
                yield named.entry(path, "directory", self._where)
                if path.count("/") >= DEEPEST:
                    unseen(Unseen(path, f"lies more than {DEEPEST} folders deep"))
                else:
                    self._look_ahead(folder, islice(names, number, None), selection)
                    yield from self._in(path, selection, unseen, tick)

    def _listing(self, folder: str) -> Future[list[_Named]]:
        doing = f"listing {folder or self._tree.root}"
        return in_background(lambda: self._session.run(lambda link: self._list(link, folder or ROOT), doing))

    def _look_ahead(self, folder: str, names: Iterable[_Named], selection: Selection) -> None:
        """Have the next folders listed while one is walked: a distant server takes its time for each."""
        done = [future for future in self._ahead.values() if future.done() and future.exception() is None]
        if sum(len(future.result()) for future in done) > _NAMES_AHEAD:
            return
        folders = (named.name for named in names if stat.S_ISDIR(named.mode) and "/" not in named.name)
        paths = (f"{folder}/{name}" if folder else name for name in folders)
        for path in islice((path for path in paths if selection.may_enter(path)), _FOLDERS_AHEAD):
            if path not in self._ahead:
                self._ahead[path] = self._listing(path)

    def _one(
        self, path: str, named: _Named, kind: FileType | None, unseen: Callable[[Unseen], None]
    ) -> Iterator[Entry]:
        if kind in ("character", "block"):
            unseen(Unseen(path, "is a device: SFTP does not tell which. Exclude it in the policy"))
        elif kind == "link" and not named.link:
            unseen(Unseen(path, "is a link that can't be read"))
        elif kind is not None:
            yield named.entry(path, kind, self._where)
        elif stat.S_ISSOCK(named.mode):
            unseen(Unseen(path, "is a socket", left_out="sockets"))
        else:
            unseen(Unseen(path, "is of a type that the server does not tell"))

    async def _list(self, link: Link, folder: str) -> list[_Named]:
        """What is in a folder, sorted; nothing in one below the root that is gone, or a link by now."""
        path = self._tree.path("" if folder == ROOT else folder)
        names: list[_Named] = []
        try:
            if folder != ROOT and not stat.S_ISDIR((await link.sftp.lstat(path)).permissions or stat.S_IFDIR):
                return []
            async for found in link.sftp.scandir(path):
                if (name := str(found.filename)) not in (".", ".."):
                    # As it comes: what asyncssh makes of a name takes a kilobyte.
                    names.append(_Named.of(name, found.attrs))
        except MISSING:
            if folder == ROOT:
                raise
            return []
        slots = asyncio.Semaphore(_LINKS_AT_ONCE)

        async def completed(named: _Named) -> _Named | None:
            async with slots:
                return await self._completed(link, path, named)

        plain = [named for named in names if not _lacks(named)]
        others = await asyncio.gather(*(completed(named) for named in names if _lacks(named)))
        plain += [named for named in others if named is not None]
        return sorted(plain, key=lambda named: os.fsencode(named.name))

    async def _completed(self, link: Link, folder: str, named: _Named) -> _Named | None:
        """With what a listing does not tell: where a link leads to; with some servers, anything but the name. ``None``
        for what is gone."""
        path = f"{folder.rstrip('/')}/{named.name}"
        try:
            if not named.mode:
                named = _Named.of(named.name, await link.sftp.lstat(path))
            if stat.S_ISLNK(named.mode):
                named = replace(named, link=str(await link.sftp.readlink(path)))
        except MISSING:
            return None
        except asyncssh.SFTPError as error:
            if is_lost(error):
                raise
        return named

    def open(self, entry: Entry, *, again: bool = False) -> SftpFile:
        """As the protocol says: the file as it is now, whatever the listing said."""
        fresh_from = int((self._clock() - STILL_FRESH).timestamp())
        return SftpFile(self._session, self._tree, entry, where=self._where, fresh_from=fresh_from)


def _lacks(named: _Named) -> bool:
    return not named.mode or stat.S_ISLNK(named.mode)
