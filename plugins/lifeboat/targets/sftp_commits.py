"""How a hidden file on an SFTP server gets its name, and how to tell whether it got it."""

from __future__ import annotations

from contextlib import suppress

import asyncssh

from lifeboat.errors import ObjectExists, TargetError
from lifeboat.targets.sftp_errors import MISSING, is_lost
from lifeboat.targets.sftp_session import Link, read_bytes
from lifeboat.targets.sftp_tree import Tree
from lifeboat.targets.sftp_window import Window


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


async def holds(file: asyncssh.SFTPClientFile, window: Window, start: int, end: int) -> bool:
    """Whether a file has the bytes that the window holds of a range."""
    for offset, piece in window.between(start, end):
        if await read_bytes(file, len(piece), offset) != piece:
            return False
    return True


async def got_its_name(link: Link, tree: Tree, key: str, hidden: str, window: Window) -> bool:
    """Whether an object has its name, after the connection broke while it was to get it.

    The hidden file gone and an object of its size and end there: it has. Both there, and the same: it has, too, for
    OpenSSH's plain ``rename`` makes a hard link and removes the old name afterwards. The end of an encrypted stream is
    no other stream's, unless all of it is the same.

    Raises:
        TargetError: neither is there as it was written.
    """
    object_there = await tree.look(link, key)
    named = object_there is not None and await _same(link, tree.path(key), object_there, window)
    try:
        left = await link.sftp.lstat(hidden)
    except MISSING:
        if named:
            return True
        raise TargetError(
            f"Target {tree.speaker.target}: {tree.speaker.server} lost {key} while the object was to get its name.",
            "Look at the server's disk and log, and who cleans up there; then run it again.",
        ) from None
    if named:
        with suppress(asyncssh.SFTPError):
            await link.sftp.remove(hidden)
        return True
    if not await _same(link, hidden, left, window):
        raise TargetError(
            f"Target {tree.speaker.target}: {tree.speaker.server} keeps other bytes of {key} than it was given.",
            "Look at the server's disk and log; then run it again.",
        )
    return False


async def _same(link: Link, path: str, found: asyncssh.SFTPAttrs, window: Window) -> bool:
    if found.size != window.end:
        return False
    file = await link.sftp.open(path, "rb", encoding=None, block_size=link.block)
    try:
        return await holds(file, window, window.start, window.end)
    finally:
        await file.close()
