"""The directory tree below which an SFTP target keeps its objects."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import asyncssh
from asyncssh.constants import FILEXFER_TYPE_DIRECTORY, FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_SYMLINK

from lifeboat.errors import TargetUnavailable
from lifeboat.targets.keys import RESERVED, fault_of_key
from lifeboat.targets.sftp_errors import MISSING, Speaker
from lifeboat.targets.sftp_session import Link, read_bytes
from lifeboat.targets.target import ObjectInfo

MARKER = f"{RESERVED}target"
_FOLDERS_AT_ONCE = 16
_LOOKS_AT_ONCE = 64

Entry = tuple[str, asyncssh.SFTPAttrs]


class Tree:
    """Paths of objects, and the ways to them. Below the root no symbolic link is followed; the root may be one.

    What lies behind a link no listing shows: an object stored there would never be found, counted or deleted again.
    Links are looked for before each use; SFTP has no way to rule out one that is made in between.

    Args:
        speaker: makes the messages.
        root: the directory as the server knows it, absolute; Lifeboat makes folders below it, never itself.
        marker: the id that the file ``.lifeboat-target`` in it must hold; ``None``: no such file is asked for.
    """

    def __init__(self, speaker: Speaker, root: str, marker: str | None = None) -> None:
        self.speaker = speaker
        self.root = root
        self._marker = marker

    def path(self, key: str) -> str:
        """Where an object is, or with ``""`` the root."""
        return f"{self.root.rstrip('/')}/{key}".rstrip("/") or "/"

    async def insist_on_root(self, link: Link) -> None:
        """Raise unless the root is there, and is the marked one where a marker is asked for.

        Raises:
            TargetUnavailable: it is not.
        """
        try:
            attributes = await link.sftp.stat(self.path(""))
        except MISSING:
            raise self.speaker.no_root() from None
        if attributes.type != FILEXFER_TYPE_DIRECTORY:
            raise self.speaker.no_root()
        if self._marker is not None:
            await self._insist_on_marker(link, self._marker)

    async def _insist_on_marker(self, link: Link, marker: str) -> None:
        try:
            async with await link.sftp.open(self.path(MARKER), "rb", encoding=None) as file:
                found = (await read_bytes(file, 4096)).decode(errors="replace").strip()
        except MISSING:
            raise TargetUnavailable(
                f"{self.speaker.title}: {self.root} on {self.speaker.server} has no marker file {MARKER}. "
                "Probably nothing is mounted there.",
                f"Have it mounted. If it is new, put a file {MARKER} with the line {marker} into it.",
            ) from None
        if found != marker:
            raise TargetUnavailable(
                f"{self.speaker.title}: {self.path(MARKER)} on {self.speaker.server} says {found[:80]!r}, but "
                f"the policy expects {marker!r}: another disk is mounted there.",
                "Have the right one mounted, or correct the policy.",
            )

    async def insist_on_marker(self, link: Link) -> None:
        """Look at the marker, if one is asked for: a disk may be unmounted while the connection stands."""
        if self._marker is not None:
            await self._insist_on_marker(link, self._marker)

    async def insist_on_folders(self, link: Link, key: str) -> None:
        """Raise where a folder on the way to an object is a symbolic link; those that do not exist are no error.

        Raises:
            TargetError: one is.
        """
        parts = key.split("/")[:-1]

        async def insist(folder: str) -> None:
            with suppress(*MISSING):
                if (await link.sftp.lstat(self.path(folder))).type == FILEXFER_TYPE_SYMLINK:
                    raise self.speaker.not_a_folder(folder)

        # All at once: a distant server takes its time for each.
        await asyncio.gather(*(insist("/".join(parts[:depth])) for depth in range(1, len(parts) + 1)))

    async def look(self, link: Link, key: str) -> asyncssh.SFTPAttrs | None:
        """What is stored under a key; ``None`` where nothing is, or a folder.

        Raises:
            TargetError: something that is no plain file has its name, or a folder above it is a link.
            TargetUnavailable: there is no root.
        """
        await self.insist_on_folders(link, key)
        try:
            found = await link.sftp.lstat(self.path(key))
        except MISSING:
            await self.insist_on_root(link)
            return None
        if found.type == FILEXFER_TYPE_DIRECTORY:
            return None
        if found.type != FILEXFER_TYPE_REGULAR:
            raise self.speaker.not_an_object(key)
        return found

    async def look_at_each(self, link: Link, keys: Sequence[str]) -> dict[str, asyncssh.SFTPAttrs]:
        """The plain files among them that no link leads to; each folder on the way is looked at once.

        Raises:
            TargetUnavailable: there is no root.
        """
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def kind_of(path: str) -> tuple[str, asyncssh.SFTPAttrs | None]:
            async with slots:
                try:
                    return path, await link.sftp.lstat(self.path(path))
                except MISSING:
                    return path, None

        await self.insist_on_root(link)
        above = {key: _folders_above(key) for key in keys}
        looked = await asyncio.gather(*map(kind_of, {folder for folders in above.values() for folder in folders}))
        real = {path for path, found in looked if found is not None and found.type == FILEXFER_TYPE_DIRECTORY}
        files = await asyncio.gather(*(kind_of(key) for key, folders in above.items() if real.issuperset(folders)))
        return {key: found for key, found in files if found is not None and found.type == FILEXFER_TYPE_REGULAR}

    async def make_folders(self, link: Link, key: str) -> None:
        """Make the folders of an object, of mode 0700; those that exist are no error."""
        await self.insist_on_root(link)
        parts = key.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            with suppress(asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
                await link.sftp.mkdir(self.path("/".join(parts[:depth])), asyncssh.SFTPAttrs(permissions=0o700))

    async def prune(self, link: Link, key: str) -> None:
        """Remove the folder of an object and its parents as long as they are empty, never the root."""
        parts = key.split("/")[:-1]
        while parts:
            try:
                await link.sftp.rmdir(self.path("/".join(parts)))
            except MISSING:
                pass
            except asyncssh.SFTPError:
                return  # not empty, or not allowed
            parts.pop()

    async def folders(self, link: Link, prefix: str) -> list[str]:
        """The names of all folders directly in a folder."""
        await self.insist_on_folders(link, prefix)
        return [name for name, found in await self.entries(link, prefix) if found.type == FILEXFER_TYPE_DIRECTORY]

    async def entries(self, link: Link, prefix: str) -> list[Entry]:
        """Names and attributes of all that is directly in a folder; nothing where there is none."""
        found: list[Entry] = []
        try:
            async for entry in link.sftp.scandir(self.path(prefix)):
                name = str(entry.filename)
                if name in (".", "..") or (not prefix and name == "lost+found"):
                    continue
                attributes = entry.attrs
                if attributes.type not in (FILEXFER_TYPE_DIRECTORY, FILEXFER_TYPE_REGULAR):
                    with suppress(*MISSING):  # some servers list names alone
                        attributes = await link.sftp.lstat(self.path(f"{prefix}{name}"))
                found.append((name, attributes))
        except MISSING:
            await self.insist_on_root(link)
            return []
        return found

    async def walk(self, link: Link, prefix: str) -> list[Entry]:
        """Keys and attributes of all plain files below a folder, uploads in progress too, by key.

        Several folders are listed at once: a distant server takes its time for each.
        """
        await self.insist_on_folders(link, prefix)
        slots = asyncio.Semaphore(_FOLDERS_AT_ONCE)

        async def below(folder: str) -> list[Entry]:
            async with slots:
                entries = await self.entries(link, folder)
            files = [(f"{folder}{name}", found) for name, found in entries if found.type == FILEXFER_TYPE_REGULAR]
            folders = [
                f"{folder}{name}/"
                for name, found in entries
                if found.type == FILEXFER_TYPE_DIRECTORY and fault_of_key(name) is None
            ]
            for inner in await asyncio.gather(*map(below, folders)):
                files += inner
            return files

        return sorted(await below(prefix), key=lambda entry: entry[0])


def _folders_above(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def info(key: str, found: asyncssh.SFTPAttrs) -> ObjectInfo:
    """An object's description; a server's clock knows whole seconds."""
    return ObjectInfo(key, found.size or 0, modified(found))


def modified(found: asyncssh.SFTPAttrs) -> datetime:
    return datetime.fromtimestamp(found.mtime or 0, UTC)
