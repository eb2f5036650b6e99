"""Recovery where Airflow is lost: by a child that knows a recovery kit, a break-glass key, and nothing else.

The child's environment is empty but for a ``PATH``, its home and working directory are a new one, its Python finds no
Airflow, and the files that the living policy names are shut to it. What a drill itself brings (what is lost, when, what
is asked of what came back) is told to it on its standard input. It ends with us, also where we are killed.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

import lifeboat
from lifeboat.errors import Cancelled, ConnectionUnknown, RestoreError
from lifeboat.outside import Outside, as_airflow
from lifeboat.policy.drills import HeartbeatPolicy
from lifeboat.policy.encryption import LocalKey
from lifeboat.policy.hooks import CommandHook, HookPolicy, HttpHook
from lifeboat.policy.model import LoadedPolicy
from lifeboat.postgres.server_programs import dies_with_us
from lifeboat.recovery.bringing_back import Means, scratch_directory
from lifeboat.recovery.drill.scenarios import Moments
from lifeboat.recovery.evidence import Proof
from lifeboat.recovery.sql_checks import SqlCheck
from lifeboat.repository.building import building_place
from lifeboat.repository.child_programs import Lines, converse

PROGRAM = Path(lifeboat.__file__).with_name("cli") / "clean_room.py"
PATIENCE_SECONDS = 5.0
"""How long the child may clear away once it was told to stop; then it is killed, and the next drill does."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Request(BaseModel):
    """What a child is told.

    Attributes:
        kit, break_glass: the recovery kit, and files with RSA private keys: all that it recovers by.
        system, source: what comes back.
        since: when the recovery of the source began: to open the kit is a part of it.
        before: milliseconds of the phases that lie behind it.
        targets, incident, known_until, back_to, late: what the scenario leaves, as ``SourceRecovery`` takes it.
        name: what the scratch places are called by.
        scratch, binaries, user, checks, application, verify, heartbeat, variables: as ``Means`` has them.
        environment, connections: what those hooks are called with; the recovery itself has neither.
        shut: files of the lost machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kit: Path
    break_glass: tuple[Path, ...]
    system: str
    source: str
    since: AwareDatetime
    before: dict[str, int]
    targets: tuple[str, ...]
    incident: AwareDatetime
    known_until: AwareDatetime
    back_to: AwareDatetime | None
    late: tuple[tuple[str, str], ...]
    name: str
    scratch: Path
    binaries: Path | None
    user: str | None
    checks: tuple[SqlCheck, ...]
    application: dict[str, HookPolicy]
    verify: HookPolicy | None
    heartbeat: HeartbeatPolicy | None
    variables: dict[str, str]
    environment: dict[str, str] = Field(repr=False)
    connections: dict[str, dict[str, Any]] = Field(repr=False)
    shut: tuple[Path, ...]


class Answer(BaseModel):
    """What a child answers: what the recovery showed, or why there was none; neither where there is nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    proof: Proof | None = None
    error: str = ""
    remedy: str = ""


class CleanRoom:
    """Recovers sources from a kit alone.

    Args:
        kit: the recovery kit.
        break_glass: files with RSA private keys.
        living: the system's policy as it is now: its steps are practised, and its files are lost.
        means: what recoveries are done with, and what is asked of what came back.
        name: what the scratch places are called by.
        tell: told what is being done, in a sentence.
        tick: called often; may raise to stop.
        program: the child's, for tests.
    """

    def __init__(
        self,
        kit: Path,
        break_glass: tuple[Path, ...],
        living: LoadedPolicy,
        means: Means,
        name: str,
        *,
        tell: Callable[[str], None],
        tick: Callable[[], None],
        program: Path = PROGRAM,
    ) -> None:
        self._kit = kit
        self._break_glass = break_glass
        self._living = living
        self._means = means
        self._name = name
        self._tell = tell
        self._tick = tick
        self._program = program

    def recover(
        self,
        source: str,
        targets: Iterable[str],
        moments: Moments,
        late: Iterable[tuple[str, str]],
        outside: Outside,
        before: Mapping[str, int] | None = None,
    ) -> Proof | None:
        """Bring a source back; ``None`` where every target answered and there is nothing of it.

        Args:
            outside: where the hooks that ask what came back get what they are called with; and the clock.
            before: milliseconds of the phases that lie behind it.

        Raises:
            RestoreError: the kit is not whole, or lacks something, or no key opens it: the text says what.
            Cancelled: it was stopped; nothing is left.
        """
        scratch = scratch_directory(self._means)
        hooks = list(self._means.hooks(source).values())
        request = Request(
            kit=self._kit.absolute(),
            break_glass=tuple(path.absolute() for path in self._break_glass),
            system=self._living.policy.system,
            source=source,
            since=outside.clock(),
            before=dict(before or {}),
            targets=tuple(targets),
            incident=moments.incident,
            known_until=moments.known_until,
            back_to=moments.back_to,
            late=tuple(sorted(late)),
            name=self._name,
            scratch=scratch.absolute(),
            binaries=self._means.binaries,
            user=self._means.user,
            checks=self._means.checks,
            application=dict(self._means.application),
            verify=self._means.verify,
            heartbeat=self._means.heartbeat,
            variables=dict(self._means.variables),
            environment=_environment(hooks, outside.environment),
            connections=_connections(hooks, outside),
            shut=_files_of(self._living),
        )
        with building_place(scratch, self._name) as home:
            answer = self._answer(request, home)
        if answer.error:
            raise RestoreError(answer.error, answer.remedy)
        return answer.proof

    def _answer(self, request: Request, home: Path) -> Answer:
        child = subprocess.Popen(
            # Neither variables, nor the user's own packages, nor the working directory have a say in what is imported.
            [sys.executable, "-I", str(self._program)],
            env={"PATH": _PATH, "LANG": "C.UTF-8", "TZ": "UTC", "HOME": str(home)},
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=dies_with_us(os.getpid(), signal.SIGTERM),
        )
        printed, told = bytearray(), Lines(self._tell)
        try:
            converse(
                child, feed=io.BytesIO(request.model_dump_json().encode()), take=printed.extend, tick=self._tick,
                rest="leave", hear=told.take,
            )  # fmt: skip
        finally:
            told.end()
            _end(child)
        if child.returncode in (130, 143):
            raise Cancelled("The recovery from the kit was stopped.", "")
        try:
            return Answer.model_validate_json(bytes(printed).strip().rpartition(b"\n")[2])
        except ValidationError:
            raise RestoreError(
                f"The recovery of {request.source} from the kit ended with {child.returncode} and left no answer.",
                f"Try it by hand, where there is no Airflow: `lifeboat --kit {self._kit} restore {request.system} "
                f"{request.source} --plan`.",
            ) from None


def _files_of(living: LoadedPolicy) -> tuple[Path, ...]:
    """What is lost with the machine: the policies, and the keys that lie beside the workers."""
    keys = [key.file for key in living.policy.encryption.keys if isinstance(key, LocalKey) and key.file is not None]
    return (*sorted(living.path.absolute().parent.glob("*.y*ml")), *(Path(key).absolute() for key in keys))


def _environment(hooks: Iterable[HookPolicy], variables: Mapping[str, str]) -> dict[str, str]:
    wanted = {name for hook in hooks if isinstance(hook, CommandHook) for name in hook.environment}
    return {name: variables[name] for name in sorted(wanted) if name in variables}


def _connections(hooks: Iterable[HookPolicy], outside: Outside) -> dict[str, dict[str, Any]]:
    found = {}
    for name in sorted({hook.connection for hook in hooks if isinstance(hook, HttpHook) and hook.connection}):
        # One that is missing is missed where it is needed.
        with suppress(ConnectionUnknown):
            found[name] = as_airflow(outside.connection(name))
    return found


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
