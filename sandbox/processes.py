"""Child processes that never outlive their purpose, and loopback ports that nobody else takes.

A child dies with the thread that started it (``PR_SET_PDEATHSIG``), so start children from a thread that lives as long
as they should: usually the main one. Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sandbox.accounts import Account, SandboxError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def wait_until(
    ready: Callable[[], bool], *, within: float, what: str, child: Child | None = None, every: float = 0.02
) -> None:
    """Look again and again until ``ready()`` is true.

    Args:
        ready: the condition; must not block for long.
        within: seconds after which waiting ends.
        what: what is waited for, for the message: "the API server answers".
        child: the process that is to bring it about; its end ends the wait.
        every: seconds between two looks.

    Raises:
        SandboxError: not ready in time, or the child ended; the text holds the end of the child's log.
    """
    end = time.monotonic() + within
    while not ready():
        if child is not None and not child.alive:
            raise SandboxError(f"{child.name} ended with code {child.returncode} before {what}.\n{child.log_end()}")
        if time.monotonic() > end:
            log = f"\n{child.log_end()}" if child is not None else ""
            raise SandboxError(f"Waited {within:g} s, but not yet: {what}.{log}")
        time.sleep(every)


# A reserved port is held by a socket in the abstract namespace that bears its number: the name is free again the moment
# this process ends, whichever way it ends, and other accounts respect it as well.
_reserved: dict[int, socket.socket] = {}


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no other process of a sandbox gets while this process lives.

    It lies below the range from which the kernel gives ports to outgoing connections, so that none of these takes it
    between this call and the server's start.
    """
    for port in random.sample(range(15_000, 32_000), 2_000):
        if port in _reserved:
            continue
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            holder.bind(f"\0lifeboat-sandbox-port-{port}")
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(("127.0.0.1", port))
        except OSError as error:
            holder.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        _reserved[port] = holder
        return port
    raise SandboxError("Of 2,000 ports of 127.0.0.1 between 15000 and 32000 none is free.")


def release_port(port: int) -> None:
    """Give back what :func:`free_port` gave; a port that was not reserved here is no error."""
    holder = _reserved.pop(port, None)
    if holder is not None:
        holder.close()


def port_answers(port: int) -> bool:
    """Whether something listens on the port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.settimeout(1)
        return trial.connect_ex(("127.0.0.1", port)) == 0


def kill_all(processes: Sequence[psutil.Process], *, within: float = 15) -> None:
    """End processes with SIGKILL and wait until they hold nothing any more.

    Raises:
        SandboxError: one is still there after ``within`` seconds.
    """
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(
        lambda: not any(is_alive(process) for process in processes),
        within=within,
        what=f"processes {', '.join(str(process.pid) for process in processes)} are gone after SIGKILL",
    )


def is_alive(process: psutil.Process) -> bool:
    """Whether the process still runs: one that only waits for its parent to take notice does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def identity(pid: int) -> str | None:
    """What tells a process from a later one with the same number: the boot, and its start in clock ticks since then.

    ``None`` when there is no such process, or when it has ended and only waits for its parent to take notice.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


class Child:
    """A process that we started, with its log file."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process
        self.identity = identity(process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """The exit code once it has ended; negative: the signal that ended it."""
        return self._process.poll()

    def log_end(self, lines: int = 20) -> str:
        """The last lines of the log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def signal(self, number: int) -> None:
        """Send a signal; a process that has ended is no error."""
        self._process.send_signal(number)

    def wait(self, within: float) -> int:
        """Wait for the end and return the exit code.

        Raises:
            SandboxError: still running after ``within`` seconds.
        """
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"{self.name} (process {self.pid}) still runs after {within:g} s.") from error

    def stop(self, *signals: int, patience: float = 15) -> int:
        """Send each signal in turn (SIGTERM unless told), waiting ``patience`` seconds after each; SIGKILL at last."""
        for number in (*(signals or (signal.SIGTERM,)), signal.SIGKILL):
            self.signal(number)
            try:
                return self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        raise SandboxError(f"{self.name} (process {self.pid}) survives SIGKILL: the kernel holds it in a system call.")

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self.stop(signal.SIGKILL)


def start(
    name: str,
    arguments: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    account: Account | None = None,
    death_signal: int | None = signal.SIGKILL,
) -> Child:
    """Start a child process; what it prints goes to the end of ``log``.

    Args:
        name: how messages call it.
        arguments: program and arguments; secrets belong in the environment.
        log: file for standard output and standard error; made if missing, readable by its owner alone.
        environment: the whole environment; ours when ``None``.
        directory: working directory; ``/`` when ``None``.
        account: who it runs as, when we are root.
        death_signal: what the kernel sends it when we die; ``None``: it has a session of its own and outlives us.

    Raises:
        SandboxError: the program can't be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=None if environment is None else dict(environment),
            cwd=directory or "/",
            start_new_session=death_signal is None,
            preexec_fn=None if death_signal is None else _die_with(os.getpid(), death_signal),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxError(f"{name} can't be started: {error}.") from error
    finally:
        os.close(descriptor)
    return Child(name, process, log)


def run(
    program: str | Path,
    *arguments: str | Path,
    environment: Mapping[str, str],
    account: Account | None = None,
    within: float = 600,
) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        SandboxError: it ended with another code than 0, or not within ``within`` seconds.
    """
    name = Path(program).name
    try:
        ended = subprocess.run(
            [str(word) for word in (program, *arguments)],
            cwd="/",
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=within,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except subprocess.TimeoutExpired as error:
        raise SandboxError(f"{name} did not end within {within:g} s.") from error
    if ended.returncode != 0:
        raise SandboxError(f"{name} ended with code {ended.returncode}: {ended.stderr.strip()[-1000:]}")
    return str(ended.stdout)


def _die_with(parent: int, number: int) -> Callable[[], None]:
    def ask_the_kernel() -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
            os._exit(126)
        if os.getppid() != parent:  # it died before we asked
            os._exit(126)

    return ask_the_kernel
