"""Reading an object from an SFTP server to its end although connections break."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import asyncssh

from lifeboat.errors import TargetError, TargetUnavailable
from lifeboat.targets.sftp_errors import may_come_back, was_lost
from lifeboat.targets.sftp_session import Link, Session, read_bytes, under_way
from lifeboat.targets.sftp_tree import Tree

_PIECE = 1024 * 1024
_PIECES_AHEAD = 4
_MOST_RESUMPTIONS = 8
_LONGEST_PAUSE = 8.0


class ResumedReading:
    """The bytes of one object. A connection that breaks is taken up again there, 8 times at most.

    SFTP knows no versions: another object in its place shows by its size or the moment of its last change, and whoever
    reads compares the SHA-256. While the connection stands, the open file is the same whatever happens to its name.

    Args:
        session: the server.
        tree: where on it.
        key: the object's.
        pause: waits so many seconds between two tries.
    """

    def __init__(self, session: Session, tree: Tree, key: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._session = session
        self._tree = tree
        self._key = key
        self._pause = pause
        self._resumptions = 0
        self._position = 0
        self._link: Link | None = None
        self._file: asyncssh.SFTPClientFile | None = None
        self._ahead: deque[asyncio.Task[bytes]] = deque()
        self._asked = 0
        self._rest = memoryview(b"")
        self._identity: tuple[int | None, int | None] | None = None
        self.size = 0
        self.mtime = 0
        self._session.run(self._open, f"reading {key}", key=key)

    async def _open(self, link: Link) -> None:
        found = await self._tree.look(link, self._key)
        if found is None:
            raise self._tree.speaker.no_object(self._key)
        identity = (found.size, found.mtime)
        if self._identity is not None and identity != self._identity:
            raise TargetError(
                f"{self._tree.speaker.title}: {self._key} was replaced while it was being read.",
                "Nothing in Lifeboat does that: find out who writes to this target.",
            )
        self._identity, self.size, self.mtime = identity, found.size or 0, found.mtime or 0
        self._link = link
        self._file = await link.sftp.open(self._tree.path(self._key), "rb", encoding=None, block_size=link.block)

    def read(self, size: int = -1, /) -> bytes:
        """As the protocol of readable streams says.

        Raises:
            TargetError: it could not be read to its end, or another object took its place.
        """
        left = self.size - self._position
        left = left if size < 0 else min(left, size)
        pieces = []
        while left > 0:
            if not self._rest:
                self._rest = memoryview(self._next())
            piece = self._rest[:left]
            self._rest = self._rest[len(piece) :]
            self._position += len(piece)
            left -= len(piece)
            pieces.append(piece)
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def _next(self) -> bytes:
        """The piece at the position, read ahead or again."""
        doing = f"reading {self._key} at byte {self._position} of {self.size}"
        while True:
            try:
                if self._file is None:
                    self._session.run(self._open, doing, again=False)
                    self._asked = self._position
                return self._session.wait(self._piece(), doing)
            except TargetUnavailable as error:
                if not may_come_back(error):
                    raise
                if self._link is not None and was_lost(error):
                    self._link.broken = True
                self.close()
                self._resumptions += 1
                if self._resumptions > _MOST_RESUMPTIONS:
                    raise
            self._pause(min(_LONGEST_PAUSE, 0.1 * 2 ** (self._resumptions - 1)))

    async def _piece(self) -> bytes:
        assert self._file is not None
        while len(self._ahead) < _PIECES_AHEAD and self._asked < self.size:
            count = min(_PIECE, self.size - self._asked)
            self._ahead.append(under_way(self._whole(self._file, self._asked, count)))
            self._asked += count
        return await self._ahead.popleft()

    async def _whole(self, file: asyncssh.SFTPClientFile, offset: int, count: int) -> bytes:
        data = await read_bytes(file, count, offset)
        if len(data) != count:
            raise TargetError(
                f"{self._tree.speaker.title}: {self._key} ended at byte {offset + len(data)}, though it has "
                f"{self.size}.",
                "Somebody shortened it while it was being read: take another copy, and look at that server.",
            )
        return data

    def close(self) -> None:
        """Let the file go; the next read opens it again."""
        file, self._file = self._file, None
        ahead, self._ahead = self._ahead, deque()
        self._rest = memoryview(b"")
        if file is not None and self._link is not None and self._link.alive:
            with suppress(TargetError):
                self._session.wait(_let_go(file, ahead), "closing", within=1.0)


async def _let_go(file: asyncssh.SFTPClientFile, ahead: deque[asyncio.Task[bytes]]) -> None:
    for task in ahead:
        task.cancel()
    await asyncio.gather(*ahead, return_exceptions=True)
    await file.close()
