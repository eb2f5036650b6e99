"""One object on its way to an SFTP server: under a hidden name, synced, measured, then renamed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import asyncssh
from asyncssh.constants import FILEXFER_TYPE_REGULAR

from lifeboat.errors import TargetError
from lifeboat.targets.local_writing import upload_name
from lifeboat.targets.sftp_commits import got_its_name, holds
from lifeboat.targets.sftp_errors import MISSING, may_come_back, was_lost
from lifeboat.targets.sftp_session import Link, Session, under_way
from lifeboat.targets.sftp_tree import Tree
from lifeboat.targets.sftp_window import Window
from lifeboat.targets.target import Readable

_PIECE = 1024 * 1024
_PIECES_UNDER_WAY = 4
_SYNC_EVERY = 8 * 1024 * 1024
_MOST_HELD_UNSYNCED = 2 * _SYNC_EVERY
_LOOK = 64 * 1024
# Cancelled work must have ended 3 s later.
_PATIENCE_FOR_UNDOING = 1.8
_LONGEST_PAUSE = 1.0
_MOST_TRIES_TO_OPEN = 20
_MOST_RESUMPTIONS = 20

Commit = Callable[[Link, str], Coroutine[Any, Any, None]]


class Upload:
    """Stores one body; at most 4 MiB of it are under way and 24 MiB held, whatever its length.

    Writes are not waited for one by one: each piece goes as several requests, and several pieces are under way. Every
    8 MiB the server is asked to sync (``fsync@openssh.com``), while writing goes on. What it has confirmed is believed
    to survive even the loss of its machine; what came since is held here. A connection that breaks is made anew, 20
    times at most, and the upload goes on in the same hidden file: the bytes before the confirmed offset are compared
    with what was written last, those after it are written again, synced and read back.

    Nothing is ever cut off the file: whatever a session that has not noticed its end yet may still write is the same
    bytes at the same place. A server that does not sync is believed nothing: there an upload can be sent again as long
    as all of it is held, which is up to 16 MiB.

    Where the connection breaks while the object gets its name, the server is asked whether it has it.

    Args:
        session: the server.
        tree: where on it.
        key: the object's.
        patience: seconds within which a server must be back.
        pause: waits so many seconds between two tries.
    """

    def __init__(
        self,
        session: Session,
        tree: Tree,
        key: str,
        *,
        patience: float,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session = session
        self._tree = tree
        self._key = key
        self._patience = patience
        self._pause = pause
        self._hidden = self._new_name()
        self._former: list[str] = []
        self._doing = f"writing {key}"
        self._link: Link | None = None
        self._file: asyncssh.SFTPClientFile | None = None
        self._writes: set[asyncio.Task[int]] = set()
        self._sync: asyncio.Task[int] | None = None
        self._window = Window()
        self._sent = 0
        self._sync_asked = 0
        self._ended = False
        self._resumptions = 0

    def run(self, body: Readable, commit: Commit) -> int:
        """Store ``body`` to its end, let ``commit`` give it its name, and return its size.

        Raises:
            TargetError: the server failed; nothing is visible.
            BaseException: what ``body.read`` raised, as it is.
        """
        try:
            self._lasting(lambda: self._session.on_link(self._begin), body)
            while piece := body.read(_PIECE):
                self._window.append(piece)
                self._lasting(self._write, body)
            self._ended = True
            self._lasting(self._finish, body)
            self._name(body, commit)
        except BaseException as error:
            self._undo(error)
            raise
        return self._window.end

    def _new_name(self) -> str:
        *folder, name = self._key.split("/")
        return self._tree.path("/".join([*folder, upload_name(name)]))

    # What is done over one connection

    async def _begin(self, link: Link) -> None:
        self._link = link
        await self._tree.insist_on_marker(link)
        await self._tree.insist_on_folders(link, self._key)
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

    async def _write(self) -> None:
        """Send what was not sent yet, and have it synced from time to time; waits only for room."""
        assert self._file is not None
        for offset, piece in self._window.between(self._sent, self._window.end):
            while len(self._writes) >= _PIECES_UNDER_WAY:
                await self._settle(asyncio.FIRST_COMPLETED)
            self._writes.add(under_way(self._file.write(piece, offset)))
            self._sent = offset + len(piece)
            if self._window.whole and self._sent - self._sync_asked >= _SYNC_EVERY:
                # Not more than two distances are ever unconfirmed: that is what is held.
                await self._synced()
                if not self._window.whole:
                    continue
                self._sync_asked = self._sent
                self._sync = under_way(self._synced_to(self._file, frozenset(self._writes), self._sent))

    async def _synced_to(self, file: asyncssh.SFTPClientFile, writes: frozenset[asyncio.Task[int]], end: int) -> int:
        # A sync covers what was written before it: the acknowledgements are waited for, other writes go on meanwhile.
        if writes:
            await asyncio.wait(writes)
        if any(write.cancelled() or write.exception() is not None for write in writes):
            return 0  # whoever waits for the writes raises it
        await file.fsync()
        return end

    async def _synced(self) -> None:
        """Wait for the sync under way."""
        sync, self._sync = self._sync, None
        if sync is None:
            return
        try:
            self._window.confirm(await self._explained(sync))
        except asyncssh.SFTPOpUnsupported:
            if self._window.end >= _MOST_HELD_UNSYNCED:
                self._window.give_up()

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

    async def _finish(self) -> None:
        assert self._file is not None
        assert self._link is not None
        await self._write()
        while self._writes:
            await self._settle(asyncio.ALL_COMPLETED)
        await self._synced()
        with suppress(asyncssh.SFTPOpUnsupported):
            await self._explained(self._file.fsync())
            self._window.confirm(self._window.end)
        await self._explained(self._file.close())
        stored = (await self._link.sftp.lstat(self._hidden)).size
        self._file = None
        if stored != self._window.end:
            raise TargetError(
                f"{self._tree.speaker.title}: {self._tree.speaker.server} took {self._window.end} bytes of "
                f"{self._key} and keeps {stored}.",
                "Look at the server's disk and log; then run it again.",
            )

    async def _take_up(self, link: Link) -> None:
        """Go on over another connection, in the file as the server has it now."""
        window = self._window
        self._link, self._sent, self._sync_asked = link, window.confirmed, window.confirmed
        if not window.confirmed and not link.openssh:
            # What such a server makes of a file whose connection broke is its own business.
            self._former.append(self._hidden)
            with suppress(*MISSING, asyncssh.SFTPFailure, asyncssh.SFTPPermissionDenied):
                await link.sftp.remove(self._hidden)
            self._hidden = self._new_name()
            await self._begin(link)
            return
        await self._tree.insist_on_marker(link)
        try:
            found = await link.sftp.lstat(self._hidden)
        except MISSING:
            if not window.confirmed:
                await self._begin(link)
                return
            await self._tree.insist_on_root(link)
            raise self._not_kept("the file is gone") from None
        if found.type != FILEXFER_TYPE_REGULAR or not window.confirmed <= (found.size or 0) <= window.end:
            raise self._not_kept(f"the file has {found.size} bytes")
        self._file = await link.sftp.open(self._hidden, "r+b", encoding=None, block_size=link.block)
        if not await holds(self._file, window, window.start, window.confirmed):
            raise self._not_kept("the file holds other bytes")
        await self._write_again(self._file)

    async def _write_again(self, file: asyncssh.SFTPClientFile) -> None:
        window, begin = self._window, self._window.confirmed
        for offset, piece in window.between(begin, window.end):
            await self._explained(file.write(piece, offset))
        with suppress(asyncssh.SFTPOpUnsupported):
            await self._explained(file.fsync())
            if not await holds(file, window, begin, window.end):
                raise self._not_kept("what was written again reads otherwise")
            window.confirm(window.end)
        self._sent = self._sync_asked = window.end

    def _not_kept(self, what: str) -> TargetError:
        return TargetError(
            f"{self._tree.speaker.title}: after the connection broke, {self._tree.speaker.server} has not kept "
            f"what it was given of {self._key} ({self._window.confirmed} bytes synced): {what}.",
            "Look at the server's disk and log, and who else writes there; then run it again.",
        )

    # What outlasts a connection

    def _lasting(self, step: Callable[[], Coroutine[Any, Any, None]], body: Readable) -> None:
        """Do a step of the upload, over as many connections as it takes."""
        while True:
            try:
                return self._session.wait(step(), self._doing)
            except TargetError as error:
                if self._link is None or not was_lost(error) or not self._window.whole:
                    raise
                self._come_back(error, body, self._take_up)

    def _name(self, body: Readable, commit: Commit) -> None:
        """Let the object get its name; where the connection breaks meanwhile, look whether it has it."""
        named = False

        async def look(link: Link) -> None:
            nonlocal named
            self._link = link
            await self._tree.insist_on_marker(link)
            named = await got_its_name(link, self._tree, self._key, self._hidden, self._window)

        while not named:
            assert self._link is not None
            try:
                self._session.wait(commit(self._link, self._hidden), self._doing)
            except TargetError as error:
                if not was_lost(error):
                    raise
                self._come_back(error, body, look)
            else:
                named = True
        if self._former:
            with suppress(TargetError):
                self._session.run(self._remove_former, self._doing, again=False)

    def _come_back(self, error: TargetError, body: Readable, work: Callable[[Link], Coroutine[Any, Any, None]]) -> None:
        """Do ``work`` over a new connection, as soon as there is one.

        Raises:
            TargetError: there is none in time, or too many broke already.
            BaseException: what ``body.read`` raised: nobody wants the object any more.
        """
        self._resumptions += 1
        if self._resumptions > _MOST_RESUMPTIONS:
            raise error
        until = time.monotonic() + self._patience
        pause = 0.1
        while True:
            self._forget()
            self._pause(pause)
            self._look_at(body)
            try:
                return self._session.run(work, self._doing, again=False)
            except TargetError as failed:
                if not may_come_back(failed) or time.monotonic() >= until:
                    raise
            pause = min(_LONGEST_PAUSE, 2 * pause)

    def _forget(self) -> None:
        """The connection broke: nothing that was under way on it counts."""
        if self._link is not None:
            self._link.broken = True
        self._file, self._sync = None, None
        self._writes = set()

    def _look_at(self, body: Readable) -> None:
        """Ask the body whether it still goes on: one that was given up raises."""
        piece = body.read(_LOOK)
        if piece and not self._ended:
            self._window.append(piece)

    # What is left when it fails

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
        works = [*self._writes, *([self._sync] if self._sync is not None else [])]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        if self._file is not None and self._link is not None and self._link.alive:
            await self._file.close()

    async def _remove(self, link: Link) -> None:
        await self._remove_former(link)
        with suppress(*MISSING):
            await link.sftp.remove(self._hidden)
        await self._tree.prune(link, self._key)

    async def _remove_former(self, link: Link) -> None:
        for name in self._former:
            with suppress(*MISSING):
                await link.sftp.remove(name)
