"""A restore on another host, over SSH: started there, listened to, and ended there whatever becomes of us.

There `lifeboat attended` runs the command and watches its own input, to which we write a sign of life every few
seconds: when that ends, or nothing comes for a while, it stops the command and ends what is left of it. So a worker
that is killed, and a connection that breaks without a word, leave nothing running there.

No secret goes there: the host has policies, connections and keys of its own.
"""

from __future__ import annotations

import asyncio
import json
import queue
import shlex
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import asyncssh

from lifeboat import __version__
from lifeboat.errors import Cancelled, LifeboatError, RestoreError
from lifeboat.outside import Connection
from lifeboat.policy.model import LoadedPolicy
from lifeboat.targets.sftp_access import Access, access_from
from lifeboat.targets.sftp_errors import Speaker
from lifeboat.targets.sftp_session import under_way
from lifeboat.targets.ssh_connecting import connected, ssh_loop

Stream = Literal["out", "err"]
Heard = Callable[[Stream, str], None]
Tick = Callable[[], None]

SILENCE_SECONDS = 60.0
"""After so long without a sign of life each side takes the other for lost."""
BEATS = 6
"""Signs of life in that time."""
LEAVING_SECONDS = 25.0
"""How long a command that was told to stop may take; the far end is less patient."""
TICK_SECONDS = 0.2
_NOT_FOUND = 127
_STOPPED = frozenset({130, 143})
_MOST_KEPT = 20


@dataclass(frozen=True)
class RemoteHost:
    """A host that has Lifeboat, and how we get there.

    Attributes:
        access: where it is, who we are there, and its host key.
        speaker: makes the messages.
        program: ``lifeboat`` there.
        options: what stands before the verb: ``--policies DIR``, ``--connections FILE``.
    """

    access: Access
    speaker: Speaker
    program: str
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.access.host


class RemoteFailed(RestoreError):
    """The command ended there with an error; ``code`` is its exit code."""

    def __init__(self, what: str, remedy: str, code: int) -> None:
        super().__init__(what, remedy)
        self.code = code


def remote_host(connection: Connection) -> RemoteHost:
    """The host that a connection leads to.

    Its fields are those of Airflow's SSH hook; ``host_key`` or ``known_hosts`` is needed. In *extra* besides:
    ``lifeboat_program``, the program's path where it is not in the account's ``PATH``; ``lifeboat_options``, a list of
    words that stand before each verb, such as ``["--policies", "/etc/lifeboat/policies"]``.

    Raises:
        TargetUnavailable: something in it is missing, or can't be read.
        RestoreError: those of ours are not of that form.
    """
    host = connection.host or ""
    if not host:
        raise RestoreError(f"The connection {connection.id} has no host.", "Write there the database host's name.")
    access = access_from(connection, target=host, host=host, port=None, role="Host")
    program = connection.extra.get("lifeboat_program", "lifeboat")
    options = connection.extra.get("lifeboat_options", [])
    if (
        not isinstance(program, str)
        or not isinstance(options, list)
        or not all(isinstance(one, str) for one in options)
    ):
        raise RestoreError(
            f"The connection {connection.id} has a lifeboat_program that is no text, or lifeboat_options that are no "
            "list of words.",
            'Write "lifeboat_options": ["--policies", "/etc/lifeboat/policies"] into its extra.',
        )
    speaker = Speaker(host, f"{host}:{access.port}", access.login, "", connection.id, role="Host")
    return RemoteHost(access, speaker, program, tuple(options))


def check_remote(
    host: RemoteHost, loaded: LoadedPolicy, *, needs: Collection[str] = (), tick: Tick = lambda: None
) -> None:
    """Insist on the host's having our version, the very policy, and the connections that a restore there needs.

    Args:
        needs: ids of connections; that of the target which is read, for instance.

    Raises:
        RestoreError: it has not; the text says what to do.
        TargetUnavailable: it can't be reached.
    """
    told = _answer(host, ["--version"], tick).strip()
    if told != f"lifeboat {__version__}":
        raise RestoreError(
            f"Host {host.name} has {told or 'no version'}, and we are lifeboat {__version__}.",
            f"Install Lifeboat {__version__} there, as the runbook says.",
        )
    system = loaded.policy.system
    try:
        policy: dict[str, Any] = json.loads(_answer(host, ["policy", "show", system, "--json"], tick))
    except ValueError as error:
        raise RestoreError(
            f"Host {host.name} does not show its policy of {system} as JSON.", "Run it there."
        ) from error
    if policy.get("digest") != loaded.digest:
        raise RestoreError(
            f"Host {host.name} has another policy of {system} than we: {policy.get('digest')} in {policy.get('file')}, "
            f"and not {loaded.digest}.",
            "Bring it there byte by byte, as the runbook says; what was approved is ours.",
        )
    known = policy.get("connections") or {}
    if lacking := sorted(name for name in needs if not known.get(name)):
        raise RestoreError(
            f"Host {host.name} lacks the connections {', '.join(lacking)}.",
            "Put them into its file of connections (--connections in the connection's lifeboat_options).",
        )


def run_remote(
    host: RemoteHost,
    words: Sequence[str],
    *,
    heard: Heard,
    tick: Tick = lambda: None,
    silence: float = SILENCE_SECONDS,
) -> None:
    """Run ``lifeboat`` with these words there, to its end.

    Args:
        words: the verb and what follows it, such as ``["restore", "erp", "database", "--into", …, "--yes"]``; all can
            see them there: no secret is among them.
        heard: told each line as it comes, and whether it was on standard output or standard error.
        tick: called often; when it raises, the command is ended there, and only then it is raised on.
        silence: seconds without a sign of life after which either side takes the other for lost.

    Raises:
        RemoteFailed: it ended with an error; what it said last is the error's text.
        Cancelled: somebody stopped it there.
        RestoreError: the connection was lost; what ran there is ended by now, or soon.
        TargetUnavailable: the host can't be reached, or is not the right one.
    """
    last: list[str] = []

    def listen(stream: Stream, line: str) -> None:
        if stream == "err":
            last.append(line)
            del last[:-_MOST_KEPT]
        heard(stream, line)

    attended = ["attended", "--silence", f"{silence:g}", "--", *host.options, *words]
    code = _Call(host, attended, silence, listen, tick, beating=True).run()
    if code == 0:
        return
    what, remedy = _last_error(last)
    if code in _STOPPED:
        raise Cancelled(f"Host {host.name}: {what or 'the command was stopped there.'}", remedy)
    if code == _NOT_FOUND:
        raise _no_program(host)
    raise RemoteFailed(
        f"Host {host.name}: {what or f'lifeboat ended with code {code} and said nothing.'}",
        remedy or "Run the same command there by hand.",
        code,
    )


def _answer(host: RemoteHost, words: Sequence[str], tick: Tick) -> str:
    """What a command that ends soon says on standard output."""
    lines: dict[Stream, list[str]] = {"out": [], "err": []}
    code = _Call(
        host, [*host.options, *words], SILENCE_SECONDS, lambda stream, line: lines[stream].append(line), tick
    ).run()
    if code == _NOT_FOUND:
        raise _no_program(host)
    if code != 0:
        what, remedy = _last_error(lines["err"])
        raise RemoteFailed(
            f"Host {host.name}: lifeboat {' '.join(words)} failed there: {what or f'code {code}'}",
            remedy or "Run the same command there by hand.",
            code,
        )
    return "\n".join(lines["out"])


def _no_program(host: RemoteHost) -> RestoreError:
    return RestoreError(
        f"Host {host.name} has no program {host.program}.",
        f"Install Lifeboat {__version__} there, as the runbook says, and name its path as lifeboat_program in the "
        f"extra of the connection {host.access.connection}.",
    )


def _last_error(lines: Sequence[str]) -> tuple[str, str]:
    """The last error that the command line told, and its remedy; else its last words."""
    telling = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    telling = telling or [number for number, line in enumerate(lines) if line.strip() and not line.startswith("  ")]
    if not telling:
        return "", ""
    remedy = [line.strip().removeprefix("→").strip() for line in lines[telling[-1] + 1 :] if line.startswith("  ")]
    return lines[telling[-1]].removeprefix("error: "), " ".join(remedy)


class _Call:
    """One command over one connection: it lives on the loop of SSH, and we wait for it outside."""

    def __init__(
        self,
        host: RemoteHost,
        words: Sequence[str],
        silence: float,
        listen: Heard,
        tick: Tick,
        *,
        beating: bool = False,
    ) -> None:
        self._host = host
        self._command = shlex.join([host.program, *words])
        self._silence = silence
        self._listen = listen
        self._tick = tick
        self._beating = beating
        self._lines: queue.SimpleQueue[tuple[Stream, str]] = queue.SimpleQueue()
        self._leave = asyncio.Event()
        self._begun = False

    def run(self) -> int:
        """The exit code; raises what ``tick`` and ``listen`` raise, once nothing of it is left there."""
        future = asyncio.run_coroutine_threadsafe(self._conduct(), ssh_loop())
        try:
            while not future.done():
                self._hear(TICK_SECONDS)
                self._tick()
            self._hear(0)
        except BaseException:
            if self._begun:
                ssh_loop().call_soon_threadsafe(self._leave.set)
                with suppress(Exception):
                    future.result(2 * LEAVING_SECONDS)
            future.cancel()
            raise
        return self._outcome(future)

    def _hear(self, patience: float) -> None:
        while True:
            try:
                stream, line = self._lines.get(timeout=patience) if patience else self._lines.get_nowait()
            except queue.Empty:
                return
            self._listen(stream, line)
            patience = 0

    def _outcome(self, future: Future[int | None]) -> int:
        try:
            code = future.result()
        except LifeboatError:
            raise
        except asyncssh.ChannelOpenError as error:
            raise RestoreError(
                f"Host {self._host.name} runs no command for {self._host.access.login}.",
                "Let the account run commands there: no ForceCommand, and a shell.",
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise self._host.speaker.explain(error, "running lifeboat") from error
        if code is None:
            raise RestoreError(
                f"The connection to host {self._host.name} was lost in the middle of the restore.",
                f"What ran there is ended within {self._silence:.0f} seconds, and nothing half-restored is in use. "
                "Look whether the host and the network are well, then run it again.",
            )
        return code

    async def _conduct(self) -> int | None:
        return await connected(self._host.access, self._host.speaker, self._silence, self._converse)

    async def _converse(self, connection: asyncssh.SSHClientConnection) -> int | None:
        self._begun = True
        process = await connection.create_process(self._command, encoding="utf-8", errors="replace")
        pumps = [under_way(self._pump(process.stdout, "out")), under_way(self._pump(process.stderr, "err"))]
        beats = under_way(self._beat(process))
        leaving = under_way(self._leave.wait())
        ended = under_way(process.wait_closed())
        try:
            await asyncio.wait([ended, leaving], return_when=asyncio.FIRST_COMPLETED)
            beats.cancel()
            if not ended.done():
                with suppress(OSError):
                    process.stdin.write_eof()
                await asyncio.wait([ended], timeout=LEAVING_SECONDS)
            await asyncio.wait(pumps, timeout=TICK_SECONDS if ended.done() else 0)
        finally:
            for task in (*pumps, beats, leaving, ended):
                task.cancel()
            # Whatever would still run there sees that nobody attends to it.
            connection.abort()
        return self._code(process)

    @staticmethod
    def _code(process: asyncssh.SSHClientProcess[str]) -> int | None:
        if process.exit_status is not None and process.exit_status >= 0:
            return process.exit_status
        # Ended there by a signal, which a shell tells as 128 and more; otherwise nobody told us anything.
        return 128 if process.exit_signal is not None else None

    async def _pump(self, reader: asyncssh.SSHReader[str], stream: Stream) -> None:
        async for line in reader:
            if line:  # at its end it may be none
                self._lines.put((stream, line.rstrip("\r\n")))

    async def _beat(self, process: asyncssh.SSHClientProcess[str]) -> None:
        while self._beating:
            process.stdin.write("\n")
            await asyncio.sleep(self._silence / BEATS)
