"""One SFTP connection to a server, shared by everything that a target does, and made anew when it breaks."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import asyncssh

from lifeboat.targets.sftp_access import Access
from lifeboat.targets.sftp_errors import Speaker, is_lost
from lifeboat.targets.ssh_connecting import PAUSE, TRIES, connected, running_loop, ssh_loop

T = TypeVar("T")

# One answer may take as long as a slow disk syncs a whole volume.
_LONGEST_ANSWER = 900.0
# What every server takes in one request, where it doesn't tell (draft-ietf-secsh-filexfer-02, section 3).
_COMMON_BLOCK = 32 * 1024
_SAFE_BLOCK = 16 * 1024  # what asyncssh takes for granted until a server says otherwise
_LARGEST_BLOCK = 255 * 1024


@dataclass
class Link:
    """A connection that stands.

    Attributes:
        connection: SSH's.
        sftp: the SFTP client on it.
        block: bytes of one request to read or write.
        openssh: whether it is OpenSSH's own server, whose ``rename`` never replaces a file.
        broken: somebody found that nothing comes back over it, though it may still look open.
    """

    connection: asyncssh.SSHClientConnection
    sftp: asyncssh.SFTPClient
    block: int
    openssh: bool
    broken: bool = False

    @property
    def alive(self) -> bool:
        return not self.broken and not self.connection.is_closed()


@dataclass
class _State:
    link: Link | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Session:
    """Work on a server.

    Args:
        access: where it is and who we are there.
        speaker: makes the messages.
        silence: seconds without an answer to a sign of life after which the connection counts as broken.
    """

    def __init__(self, access: Access, speaker: Speaker, *, silence: float = 60.0) -> None:
        self._access = access
        self.speaker = speaker
        self._silence = silence
        self._state = _State()
        weakref.finalize(self, _leave, self._state)

    def close(self) -> None:
        """End the connection; what comes later makes a new one."""
        _leave(self._state)

    def run(
        self, work: Callable[[Link], Coroutine[Any, Any, T]], doing: str, *, key: str | None = None, again: bool = True
    ) -> T:
        """Do some work on the server.

        Args:
            work: gets the connection.
            doing: for messages: "listing erp/".
            key: the object that it is about, for messages.
            again: whether the work may be done anew over another connection when one breaks.

        Raises:
            TargetError: the server failed or refused it.
        """

        return self.wait(self.on_link(work, tries=TRIES if again else 1), doing, key=key)

    async def on_link(self, work: Callable[[Link], Coroutine[Any, Any, T]], *, tries: int = 1) -> T:
        """The work over a connection that stands, made anew while there are tries; raises what asyncssh raises."""
        while True:
            tries -= 1
            link = await self._standing()
            try:
                return await work(link)
            except Exception as error:
                if not is_lost(error) or tries <= 0:
                    raise
                await _drop(link)
                await asyncio.sleep(PAUSE)

    def wait(
        self,
        work: Coroutine[Any, Any, T],
        doing: str,
        *,
        key: str | None = None,
        within: float = _LONGEST_ANSWER,
    ) -> T:
        """Run a coroutine on the loop and wait for it; see :meth:`run`."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(_limited(work, within), ssh_loop())
        try:
            return future.result()
        except (asyncssh.Error, OSError) as error:  # a TimeoutError is an OSError
            raise self.speaker.explain(error, doing, key) from error
        except BaseException:
            future.cancel()
            raise

    async def _standing(self) -> Link:
        async with self._state.lock:
            link = self._state.link
            if link is None or not link.alive:
                if link is not None:
                    link.connection.abort()
                link = self._state.link = await self._connect()
            return link

    async def _connect(self) -> Link:
        return await connected(self._access, self.speaker, self._silence, _link)


async def _link(connection: asyncssh.SSHClientConnection) -> Link:
    sftp = await connection.start_sftp_client(path_errors="surrogateescape")
    server = str(connection.get_extra_info("server_version", ""))
    told = sftp.limits.max_write_len > _SAFE_BLOCK
    block = min(sftp.limits.max_write_len, sftp.limits.max_read_len, _LARGEST_BLOCK) if told else _COMMON_BLOCK
    return Link(connection, sftp, block, "OpenSSH" in server)


def under_way(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start work that is waited for later, or given up: then nobody asks for its error, and no log tells it."""

    def taken_note(task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()

    task = asyncio.ensure_future(work)
    task.add_done_callback(taken_note)
    return task


async def read_bytes(file: asyncssh.SFTPClientFile, count: int, offset: int | None = None) -> bytes:
    """At most so many bytes of a file that was opened without an encoding."""
    return cast(bytes, await file.read(count, offset))


async def _limited(work: Coroutine[Any, Any, T], within: float) -> T:
    async with asyncio.timeout(within):
        return await work


async def _drop(link: Link) -> None:
    link.connection.abort()
    with suppress(asyncssh.Error, OSError, TimeoutError):
        async with asyncio.timeout(1):
            await link.connection.wait_closed()


def _leave(state: _State) -> None:
    link, state.link = state.link, None
    loop = running_loop()
    if link is not None and loop is not None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(link.connection.close)
