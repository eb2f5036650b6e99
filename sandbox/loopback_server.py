"""A server on a port of 127.0.0.1, as the demo and the tests start, freeze and kill one."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.accounts import Account, SandboxError
from sandbox.processes import Child, free_port, port_answers, release_port, start, wait_until


def installed_program(name: str) -> Path:
    """A program that a development requirement has put beside the interpreter.

    Raises:
        SandboxError: it is not there.
    """
    program = Path(sys.executable).parent / name
    if not program.exists():
        raise SandboxError(f"{program} is missing.", "Install the development requirements: make test does it.")
    return program


class LoopbackServer:
    """A server on a port of 127.0.0.1; a context manager that starts and stops it.

    Args:
        name: how messages call it.
        log: its log file.
        port: where it listens; a free one when ``None``. The same after every start.
    """

    def __init__(self, name: str, log: Path, port: int | None = None) -> None:
        self.name = name
        self.log = log
        self._chosen = port is None
        self.port = free_port() if port is None else port
        self._child: Child | None = None

    def arguments(self) -> list[str | Path]:
        """Program and arguments that start the server."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What the server's environment holds besides ours."""
        return {}

    def account(self) -> Account | None:
        """Who the server runs as; ``None``: as we do."""
        return None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._child is None:
            raise SandboxError(f"{self.name} was not started.")
        return self._child.pid

    def start(self, *, outlive_us: bool = False) -> None:
        """Start the server and wait until it answers, 60 seconds at most.

        Args:
            outlive_us: whether it goes on when this process ends; otherwise it dies with us.

        Raises:
            SandboxError: it can't be started, or does not answer.
        """
        self._child = start(
            self.name,
            self.arguments(),
            log=self.log,
            environment={**os.environ, **self.environment()},
            account=self.account(),
            death_signal=None if outlive_us else signal.SIGKILL,
        )
        try:
            wait_until(
                lambda: port_answers(self.port),
                within=60,
                what=f"127.0.0.1:{self.port} answers",
                child=self._child,
                every=0.05,
            )
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server in order; one that was not started is no error."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._chosen:
            release_port(self.port)

    def kill(self) -> None:
        """End the server as a crash would; it can be started again on the same port."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def freeze(self) -> None:
        """Stop the server in its tracks: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
