"""One SSH connection, to a server that shows the host key which is pinned: made in a loop and a thread of its own.

asyncssh lives on one event loop. Whoever calls waits for it outside: an exception that a signal handler raises ends the
waiting at once, and never gets into the library.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncssh

from lifeboat.targets.sftp_access import Access
from lifeboat.targets.sftp_errors import Speaker, is_lost

T = TypeVar("T")

asyncssh.set_log_level("WARNING")  # it tells every request otherwise, into the task's log
# For each request that was on its way when a connection broke, asyncio says so once more; the error says it already.
logging.getLogger("asyncio").addFilter(lambda record: record.msg != "socket.send() raised exception.")

TRIES = 3
PAUSE = 0.5
_CONNECT_TIMEOUT = 10.0

_loops: dict[int, asyncio.AbstractEventLoop] = {}
_loops_lock = threading.Lock()


def ssh_loop() -> asyncio.AbstractEventLoop:
    """This process's event loop: one that was forked must not use its parent's."""
    with _loops_lock:
        found = _loops.get(os.getpid())
        if found is None:
            found = _loops[os.getpid()] = asyncio.new_event_loop()
            found.set_exception_handler(_unheard)
            threading.Thread(target=found.run_forever, name="lifeboat-sftp", daemon=True).start()
        return found


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The same, if there is one already."""
    return _loops.get(os.getpid())


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # When a connection breaks, asyncssh raises the first of its requests' errors and leaves the others to the log.
    error = context.get("exception")
    if error is None or not is_lost(error):
        loop.default_exception_handler(context)


class _Client(asyncssh.SSHClient):
    """Believes no key that the connection does not pin, and remembers which one the server showed."""

    def __init__(self) -> None:
        self.shown: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = key
        return False


async def connected(
    access: Access,
    speaker: Speaker,
    silence: float,
    begin: Callable[[asyncssh.SSHClientConnection], Coroutine[Any, Any, T]],
) -> T:
    """Connect, and begin something on the connection; what ``begin`` returns is to hold it.

    Args:
        silence: seconds without an answer to a sign of life after which the connection counts as broken.

    Raises:
        TargetUnavailable: the server shows another host key than the pinned one.
        asyncssh.Error, OSError: it can't be reached, or does not let us in.
    """
    for attempt in range(1, TRIES + 1):
        client = _Client()
        try:
            return await _connected_once(access, client, silence, begin)
        except asyncssh.HostKeyNotVerifiable as error:
            raise speaker.wrong_host_key(client.shown, pinned=access.pinned) from error
        except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError):
            # A busy sshd turns away some of those who come at once (MaxStartups).
            if attempt == TRIES:
                raise
        await asyncio.sleep(PAUSE * attempt)
    raise AssertionError


async def _connected_once(
    access: Access,
    client: _Client,
    silence: float,
    begin: Callable[[asyncssh.SSHClientConnection], Coroutine[Any, Any, T]],
) -> T:
    connection = await asyncssh.connect(
        access.host,
        access.port,
        **access.options,
        client_factory=lambda: client,
        config=None,
        agent_path=None,
        gss_auth=False,
        gss_kex=False,
        compression_algs=["none"],
        connect_timeout=min(_CONNECT_TIMEOUT, silence),
        login_timeout=min(30.0, silence),
        keepalive_interval=silence / 3,
        keepalive_count_max=2,
    )
    try:
        return await begin(connection)
    except BaseException:
        connection.abort()
        raise
