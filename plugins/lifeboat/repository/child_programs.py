"""A child process spoken with through its pipes, without ever waiting inside C, and ended with all its own children.

What a child must read and nobody else may lies in memory that it inherits. Sources: memfd_create(2), proc(5)
"""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from lifeboat.targets.target import Readable

TICK_SECONDS = 0.25
PIECE_BYTES = 512 * 1024
KEPT_WORDS = 32 * 1024
"""How much of what a program says on standard error is kept: its beginning and its end."""
PATIENCE_SECONDS = 1.5
"""How long a child may take to end after it was told; then it is killed. It tells its server to cancel meanwhile."""

Rest = Literal["read", "leave", "refuse"]

_PIPE_BYTES = 1024 * 1024


@contextmanager
def in_memory(files: Mapping[str, str | bytes]) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Files that lie in memory, for children that inherit their descriptors; their paths as a child opens them."""
    paths: dict[str, str] = {}
    descriptors: list[int] = []
    try:
        for name, content in files.items():
            descriptor = os.memfd_create(f"lifeboat {name}")
            descriptors.append(descriptor)
            os.fchmod(descriptor, 0o600)  # libpq and ssh refuse a file that others might read
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            paths[name] = f"/proc/self/fd/{descriptor}"
        yield paths, tuple(descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class Lines:
    """Bytes that come as they come, told as lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._rest = b""

    def take(self, data: bytes) -> None:
        """More bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._say(line)

    def end(self) -> None:
        """Nothing more comes: the rest is a line, too."""
        self._say(self._rest)
        self._rest = b""

    def _say(self, line: bytes) -> None:
        if text := line.decode("utf-8", "replace").rstrip():
            self._tell(text)


class _Words:
    """The beginning and the end of what a program says."""

    def __init__(self) -> None:
        self._text = b""

    def take(self, data: bytes) -> None:
        text = self._text + data
        if len(text) > KEPT_WORDS:
            text = text[: KEPT_WORDS // 2] + b"\n...\n" + text[-KEPT_WORDS // 2 :]
        self._text = text

    def __str__(self) -> str:
        return self._text.decode("utf-8", "replace").strip()


def converse(
    child: subprocess.Popen[bytes],
    *,
    feed: Readable | None,
    take: Callable[[bytes], None],
    tick: Callable[[], None],
    rest: Rest,
    hear: Callable[[bytes], None] = lambda _said: None,
) -> str:
    """Look after the pipes of a child until it has ended; returns what it said on standard error.

    Args:
        feed: its standard input; read as the program takes it.
        take: given its standard output, piece by piece.
        tick: called at every turn, at least four times a second; may raise: then the child is still to be ended.
        rest: what becomes of input that the program does not read: ``read`` to its end nevertheless, so that what
            ``feed`` has to say of it is said; ``leave`` it; or ``refuse``: its exit code says why it stopped.
        hear: given what it says on standard error as it says it.
    """
    return _Conversation(child, feed, take, tick, rest, hear).hold()


def end(child: subprocess.Popen[bytes]) -> None:
    """End a child that may still run, with the programs that it has started, and close its pipes."""
    if child.poll() is None:
        family = descendants(child.pid)
        with suppress(ProcessLookupError):
            child.terminate()
        signal_all(family, signal.SIGTERM)
        try:
            child.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            family |= descendants(child.pid)
            child.kill()
            child.wait()
        # Whose parent is gone, the system's first process reaps.
        signal_all(family, signal.SIGKILL)
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def descendants(ancestor: int) -> dict[int, str]:
    """The processes below one, by their ids, with the moments at which they began; nothing where /proc is not."""
    parents: dict[int, tuple[int, str]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may hold anything.
            fields = place.read_text(errors="replace").rpartition(")")[2].split()
            parents[int(place.parent.name)] = (int(fields[1]), fields[19])
    found: dict[int, str] = {}
    above = {ancestor}
    while above:
        above = {process for process, (parent, _) in parents.items() if parent in above and process not in found}
        found |= {process: parents[process][1] for process in above}
    return found


def signal_all(processes: Mapping[int, str], number: signal.Signals) -> None:
    """Send a signal to those that are still the same, as :func:`descendants` has them."""
    for process, begun in processes.items():
        with suppress(OSError, IndexError):
            fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[19] == begun:
                os.kill(process, number)


class _Conversation:
    """All three pipes of a child, looked after side by side."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        feed: Readable | None,
        take: Callable[[bytes], None],
        tick: Callable[[], None],
        rest: Rest,
        hear: Callable[[bytes], None],
    ) -> None:
        self._child = child
        self._feed = feed
        self._take = take
        self._tick = tick
        self._rest = rest
        self._words = _Words()
        self._hear = hear
        self._waiting = memoryview(b"")
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                with suppress(OSError):
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def hold(self) -> str:
        child = self._child
        with selectors.DefaultSelector() as selector:
            if child.stdin is not None:
                selector.register(child.stdin, selectors.EVENT_WRITE, self._give)
            pipes = {pipe.fileno(): pipe for pipe in (child.stdin, child.stdout, child.stderr) if pipe is not None}
            for pipe, receive in ((child.stdout, self._take), (child.stderr, self._told)):
                assert pipe is not None
                selector.register(pipe, selectors.EVENT_READ, receive)
            while selector.get_map():
                self._tick()
                for key, _ in selector.select(TICK_SECONDS):
                    descriptor = key.fd
                    ended = (
                        self._give(descriptor) if key.events & selectors.EVENT_WRITE else _read(descriptor, key.data)
                    )
                    if ended:
                        selector.unregister(descriptor)
                        pipes[descriptor].close()
        while child.poll() is None:
            self._tick()
            with suppress(subprocess.TimeoutExpired):
                child.wait(TICK_SECONDS)
        return str(self._words)

    def _told(self, said: bytes) -> None:
        self._words.take(said)
        self._hear(said)

    def _give(self, descriptor: int) -> bool:
        """Hand over more input; whether there is none left."""
        assert self._feed is not None
        if not self._waiting:
            self._waiting = memoryview(self._feed.read(PIECE_BYTES))
            if not self._waiting:
                return True
        try:
            written = os.write(descriptor, self._waiting)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            while self._rest == "read" and self._feed.read(PIECE_BYTES):
                self._tick()
            return True
        self._waiting = self._waiting[written:]
        return False


def _read(descriptor: int, take: Callable[[bytes], None]) -> bool:
    try:
        data = os.read(descriptor, PIECE_BYTES)
    except BlockingIOError:
        return False
    if data:
        take(data)
    return not data
