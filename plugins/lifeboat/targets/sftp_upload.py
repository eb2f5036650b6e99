"""One object on its way to an SFTP server: under a hidden name, synced, measured, then renamed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import asyncssh

from lifeboat.errors import ObjectExists, TargetError
from lifeboat.targets.local_writing import upload_name
from lifeboat.targets.sftp_errors import MISSING, is_lost
from lifeboat.targets.sftp_session import Link, Session, under_way
from lifeboat.targets.sftp_tree import Tree
from lifeboat.targets.target import Readable

_PIECE = 1024 * 1024
_PIECES_UNDER_WAY = 4
# Cancelled work must have ended 3 s later.
_PATIENCE_FOR_UNDOING = 1.8
_MOST_TRIES_TO_OPEN = 20

Commit = Callable[[Link, str], Coroutine[Any, Any, None]]


class Upload:
    """Stores one body; at most 4 MiB of it are under way, whatever its length.

    Writes are not waited for one by one: each piece goes as several requests, and several pieces are under way. A
    connection that breaks ends the upload: what a server has acknowledged but not synced may be lost with its machine,
    and only an upload from the start is surely whole. Where it breaks while the object gets its name, the object may be
    there: whole, since it was synced and measured before.

    Args:
        session: the server.
        tree: where on it.
        key: the object's.
    """

    def __init__(self, session: Session, tree: Tree, key: str) -> None:
        self._session = session
        self._tree = tree
        self._key = key
        *folder, name = key.split("/")
        self._hidden = tree.path("/".join([*folder, upload_name(name)]))
        self._doing = f"writing {key}"
        self._link: Link | None = None
        self._file: asyncssh.SFTPClientFile | None = None
        self._writes: set[asyncio.Task[int]] = set()
        self._size = 0

    def run(self, body: Readable, commit: Commit) -> int:
        """Store ``body`` to its end, let ``commit`` give it its name, and return its size.

        Raises:
            TargetError: the server failed; nothing is visible.
            BaseException: what ``body.read`` raised, as it is.
        """
        try:
            self._session.run(self._begin, self._doing, again=False)
            while piece := body.read(_PIECE):
                self._session.wait(self._write(piece), self._doing)
            self._session.wait(self._finish(commit), self._doing)
        except BaseException as error:
            self._undo(error)
            raise
        return self._size

    async def _begin(self, link: Link) -> None:
        self._link = link
        await self._tree.insist_on_marker(link)
        for attempt in range(_MOST_TRIES_TO_OPEN):
            try:
                self._file = await link.sftp.open(
                    self._hidden,
                    "xb",
                    asyncssh.SFTPAttrs(permissions=0o600),
                    encoding=None,
                    block_size=link.block,
                )
            except (*MISSING, asyncssh.SFTPFailure):
                if attempt + 1 == _MOST_TRIES_TO_OPEN:
                    raise
                # Not made yet, or somebody's clean-up removed the folder while it was empty.
                await self._tree.make_folders(link, self._key)
            else:
                return

    async def _write(self, piece: bytes) -> None:
        assert self._file is not None
        self._writes.add(under_way(self._file.write(piece, self._size)))
        self._size += len(piece)
        while len(self._writes) >= _PIECES_UNDER_WAY:
            await self._settle(asyncio.FIRST_COMPLETED)

    async def _settle(self, until: str) -> None:
        done, self._writes = await asyncio.wait(self._writes, return_when=until)
        for write in done:
            await self._explained(write)

    async def _explained(self, work: Any) -> Any:
        """Wait for it; where the server only says "Failure", ask whether its disk is full."""
        try:
            return await work
        except asyncssh.SFTPFailure:
            assert self._link is not None
            with suppress(asyncssh.SFTPError):
                space = await self._link.sftp.statvfs(self._tree.root)
                if space.bavail * space.frsize < _PIECE:
                    raise self._tree.speaker.full(self._doing) from None
            raise

    async def _finish(self, commit: Commit) -> None:
        assert self._file is not None
        assert self._link is not None
        while self._writes:
            await self._settle(asyncio.ALL_COMPLETED)
        with suppress(asyncssh.SFTPOpUnsupported):
            await self._explained(self._file.fsync())
        await self._explained(self._file.close())
        self._file = None
        stored = (await self._link.sftp.lstat(self._hidden)).size
        if stored != self._size:
            raise TargetError(
                f"Target {self._tree.speaker.target}: {self._tree.speaker.server} took {self._size} bytes of "
                f"{self._key} and keeps {stored}.",
                "Look at the server's disk and log; then run it again.",
            )
        await commit(self._link, self._hidden)

    def _undo(self, error: BaseException) -> None:
        """Leave nothing behind, within 3 s; what could not be removed is noted on the error."""
        if self._link is None:
            return
        with suppress(TargetError):
            self._session.wait(self._close(), self._doing, within=_PATIENCE_FOR_UNDOING / 3)
        try:
            self._session.wait(self._session.on_link(self._remove), self._doing, within=_PATIENCE_FOR_UNDOING)
        except TargetError as left:
            error.add_note(f"Remains of {self._key} may be left on target {self._tree.speaker.target}: {left.what}")

    async def _close(self) -> None:
        for write in self._writes:
            write.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        if self._file is not None and self._link is not None and self._link.alive:
            await self._file.close()

    async def _remove(self, link: Link) -> None:
        with suppress(*MISSING):
            await link.sftp.remove(self._hidden)
        await self._tree.prune(link, self._key)


class Commits:
    """How a hidden file gets its name.

    Args:
        tree: where.
        key: the object's.
    """

    def __init__(self, tree: Tree, key: str) -> None:
        self._tree = tree
        self._key = key

    async def replacing(self, link: Link, hidden: str) -> None:
        """In the place of any object of that key, where the server can do that in one step."""
        found = await self._tree.look(link, self._key)
        path = self._tree.path(self._key)
        try:
            await link.sftp.posix_rename(hidden, path)
        except (asyncssh.SFTPOpUnsupported, asyncssh.SFTPPermissionDenied):
            if found is not None:
                raise self._taken("This server can't replace it in one step (posix-rename@openssh.com).") from None
            await link.sftp.rename(hidden, path)

    async def only_if_new(self, link: Link, hidden: str) -> None:
        """Only if there is none: in one step on OpenSSH, and where the server makes hard links; else after a look.

        Raises:
            ObjectExists: there is one.
        """
        path = self._tree.path(self._key)
        if await self._tree.look(link, self._key) is not None:
            raise self._taken()
        if not link.openssh:
            try:
                await link.sftp.link(hidden, path)
            except asyncssh.SFTPOpUnsupported:
                pass
            except asyncssh.SFTPError as error:
                if is_lost(error):
                    raise
                if await self._tree.look(link, self._key) is not None:
                    raise self._taken() from error
            else:
                await link.sftp.remove(hidden)
                return
        try:
            await link.sftp.rename(hidden, path)
        except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists) as error:
            if await self._tree.look(link, self._key) is not None:
                raise self._taken() from error
            raise

    def _taken(self, more: str = "") -> ObjectExists:
        return ObjectExists(
            f"Target {self._tree.speaker.target} holds an object {self._key} already. {more}".rstrip(),
            "It was left as it is: objects are written once.",
        )
