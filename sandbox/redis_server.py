"""A Redis for Celery's queues, on a free loopback port, with a password; in memory alone."""

from __future__ import annotations

import secrets
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.debian_packages import program
from sandbox.processes import Child, free_port, port_answers, release_port, start, wait_until


class RedisServer:
    """A context manager that starts and stops it.

    Args:
        directory: where it works; made if missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.password = secrets.token_hex(16)
        self.port = free_port()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The broker's address for Celery. It holds the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            SandboxError: there is none here, or it does not start.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found, settings = program("redis-server"), self.directory / "redis.conf"
        settings.touch(mode=0o600)
        settings.write_text(
            f"requirepass {self.password}\nport {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
            'save ""\nappendonly no\nmaxmemory-policy noeviction\n'
        )
        environment = {"PATH": "/usr/bin:/bin", **found.environment}
        self._child = start("Redis", [found.path, settings], log=self.directory / "redis.log", environment=environment)
        wait_until(lambda: port_answers(self.port), within=30, what="Redis answers", child=self._child)

    def stop(self) -> None:
        """End it; one that was not started is no error."""
        if self._child is not None:
            self._child.stop(signal.SIGTERM)
            self._child = None
        release_port(self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
