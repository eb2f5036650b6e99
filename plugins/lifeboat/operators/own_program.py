"""Lifeboat's own command line, as a child of a task: what a restore does is the same wherever it is asked for.

The child's connections come by its environment, its policy from a folder of its own: the last valid copy where the file
is broken. Told to stop, it unwinds as it does for Ctrl-C; it ends with the task, also where that is killed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lifeboat
from lifeboat.errors import Cancelled, ConnectionUnknown, RestoreError
from lifeboat.outside import Outside, as_airflow
from lifeboat.policy.model import LoadedPolicy
from lifeboat.postgres.server_programs import dies_with_us
from lifeboat.repository.child_programs import Lines, converse

_PATIENCE_SECONDS = 4.0
"""Airflow kills a task some seconds after it told it to stop: by then the child has unwound."""


class OwnProgram:
    """Runs ``lifeboat`` for one system.

    Args:
        tell: told each line that it says.
        tick: called often; may raise to stop.
        more: connections besides those that the policy names.
    """

    def __init__(
        self,
        loaded: LoadedPolicy,
        outside: Outside,
        *,
        tell: Callable[[str], None],
        tick: Callable[[], None],
        more: Sequence[str] = (),
    ) -> None:
        self._loaded = loaded
        self._outside = outside
        self._tell = tell
        self._tick = tick
        self._more = more

    def run(self, words: Sequence[str]) -> tuple[int, str]:
        """Run it; returns its exit code and what it printed. What it says besides is told line by line.

        Raises:
            Cancelled: we were told to stop; it has ended.
        """
        with tempfile.TemporaryDirectory(prefix="lifeboat-policy-") as folder:
            (Path(folder) / f"{self._loaded.policy.system}.yaml").write_text(self._loaded.text, encoding="utf-8")
            program = [sys.executable, "-m", "lifeboat.cli", "--policies", folder, *words]
            child = subprocess.Popen(
                program,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                preexec_fn=dies_with_us(os.getpid(), signal.SIGTERM),
            )
            try:
                return self._attend(child)
            finally:
                _end(child)

    def _attend(self, child: subprocess.Popen[bytes]) -> tuple[int, str]:
        printed = bytearray()
        said = Lines(self._tell)
        converse(child, feed=None, take=printed.extend, tick=self._tick, rest="leave", hear=said.take)
        said.end()
        return child.returncode, printed.decode("utf-8", "replace")

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        found = {}
        for name in sorted({*self._loaded.connections(), *self._more}):
            # One that is missing is missed where it is needed.
            with suppress(ConnectionUnknown):
                found[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(as_airflow(self._outside.connection(name)))
        path = os.pathsep.join((str(Path(lifeboat.__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
        plain = {"PYTHONPATH": path.rstrip(os.pathsep), "NO_COLOR": "1"}
        return inherited | dict(self._loaded.environment) | found | plain


def printed_json(code: int, printed: str, said: Sequence[str]) -> dict[str, Any]:
    """The document that it printed, whatever its exit code.

    Raises:
        RestoreError: it printed none; the text is what it said.
        Cancelled: it was stopped.
    """
    if code in (130, 143):
        raise Cancelled("The command was stopped.", "")
    try:
        found = json.loads(printed)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RestoreError("\n".join(said).strip() or f"`lifeboat` ended with {code} and said nothing.")
    return found


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            logging.getLogger(__name__).warning("The restore did not end in time, and is killed.")
            child.kill()
            child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
