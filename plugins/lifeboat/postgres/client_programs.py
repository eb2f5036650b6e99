"""PostgreSQL's client programs (``pg_dump``, ``pg_restore``) as children: streamed, watched, and ended with us.

No secret reaches an argument, the environment or a disk: libpq reads the password from a password file and everything
else from a service file, both of which lie in memory of ours that only this child inherits.
Sources: https://www.postgresql.org/docs/current/libpq-pgpass.html,
https://www.postgresql.org/docs/current/libpq-pgservice.html, memfd_create(2)
"""

from __future__ import annotations

import fcntl
import os
import re
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psycopg.conninfo import make_conninfo

from lifeboat.errors import PostgresError
from lifeboat.postgres.connecting import TICK_SECONDS, no_tick
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.targets.target import Readable

PIECE_BYTES = 512 * 1024
KEPT_WORDS = 32 * 1024
"""How much of what a program says on standard error is kept: its beginning and its end."""
NEWER_MAJORS = 5
"""How many major versions ahead programs are looked for."""
PATIENCE_SECONDS = 1.5
"""How long a child may take to end after it was told; then it is killed. It tells the server to cancel meanwhile."""

Rest = Literal["read", "leave", "refuse"]

_PLACES = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/opt/homebrew/opt/postgresql@{major}/bin")
_SERVICE = "lifeboat"
_INHERITED = ("PATH", "HOME", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "KRB5_CONFIG", "KRB5CCNAME")
_PIPE_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Programs:
    """The client programs of one installation."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        """Their major version."""
        return int(self.version.split(".", maxsplit=1)[0])

    def path(self, name: str) -> str:
        """A program's path."""
        return str(self.directory / name)


def client_programs(directory: Path | None, *, at_least: int, why: str) -> Programs:
    """The client programs, of a major version that will do.

    Args:
        directory: where they are; by default where distributions put them, the oldest that will do, or in ``PATH``.
        at_least: the oldest major version that can do the work.
        why: what asks for that version.

    Raises:
        PostgresError: they are missing, can't be run, or are too old; the text says what to do.
    """
    remedy = (
        f"Install PostgreSQL's client programs of version {at_least} or later on this machine, and name their "
        "directory with `binaries` in the policy or with --binaries."
    )
    place = directory if directory is not None else _usual(at_least) or _on_path()
    if place is None:
        raise PostgresError(f"pg_dump and pg_restore, which {why}, were not found.", remedy)
    versions = {name: _version(place / name, remedy) for name in ("pg_dump", "pg_dumpall", "pg_restore")}
    programs = Programs(place, versions["pg_dump"])
    if programs.major < at_least:
        raise PostgresError(f"{place / 'pg_dump'} is of version {programs.version}, too old: {why}.", remedy)
    return programs


def _usual(at_least: int) -> Path | None:
    """The nearest version that will do: what it writes can be read by the server's own programs."""
    for major in range(at_least, at_least + NEWER_MAJORS + 1):
        for place in _PLACES:
            if os.access(found := Path(place.format(major=major)) / "pg_restore", os.X_OK):
                return found.parent
    return None


def _on_path() -> Path | None:
    for place in os.environ.get("PATH", "").split(os.pathsep):
        if place and os.access(Path(place) / "pg_restore", os.X_OK):
            return Path(place)
    return None


def _version(program: Path, remedy: str) -> str:
    try:
        told = subprocess.run(
            [str(program), "--version"], check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PostgresError(f"{program} can't be run: {error}.", remedy) from error
    found = re.search(rb"\(PostgreSQL\) (\d+(?:\.\d+)*)", told.stdout)
    if told.returncode != 0 or found is None:
        raise PostgresError(f"{program} does not say its version.", remedy)
    return found[1].decode()


@dataclass(frozen=True)
class Access:
    """What lets a child in: variables of its environment, and descriptors that it inherits."""

    environment: Mapping[str, str]
    descriptors: tuple[int, ...]

    def database(self, name: str) -> str:
        """The connection string for a database: it holds no secret."""
        return make_conninfo("", service=_SERVICE, dbname=name)


@contextmanager
def access_for(parameters: ConnectionParameters) -> Iterator[Access]:
    """Let children connect as ``parameters`` say.

    Raises:
        PostgresError: a value can't be written into libpq's files.
    """
    keywords = {name: value for name, value in parameters.keywords.items() if name not in ("dbname", "client_encoding")}
    secrets = dict(parameters.secrets)
    password = secrets.pop("password", None)
    service = f"[{_SERVICE}]\n" + "".join(f"{name}={value}\n" for name, value in {**keywords, **secrets}.items())
    for name, value in {**keywords, **secrets, "password": password or ""}.items():
        if "\n" in value or (name != "password" and value != value.strip()):
            raise PostgresError(
                f"Connection {parameters.connection_id!r}: {name} has a line end or blanks at its ends, which libpq's "
                "files can't hold.",
                "Change it in the connection.",
            )
    environment = {"PGSERVICEFILE": service}
    if password is not None:
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        environment["PGPASSFILE"] = f"*:*:*:*:{escaped}\n"
    with in_memory(environment) as (paths, descriptors):
        yield Access(paths, descriptors)


@contextmanager
def in_memory(files: Mapping[str, str | bytes]) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Files that lie in memory, for children that inherit their descriptors; their paths as a child opens them."""
    paths: dict[str, str] = {}
    descriptors: list[int] = []
    try:
        for name, content in files.items():
            descriptor = os.memfd_create(f"lifeboat {name}")
            descriptors.append(descriptor)
            os.fchmod(descriptor, 0o600)  # libpq refuses a password file that others might read
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            paths[name] = f"/proc/self/fd/{descriptor}"
        yield paths, tuple(descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class ProgramFailed(PostgresError):
    """A client program ended with an error; ``words`` is what it said."""

    def __init__(self, what: str, remedy: str, words: str) -> None:
        super().__init__(what, remedy)
        self.words = words


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


def run_program(
    arguments: Sequence[str],
    *,
    access: Access | None = None,
    descriptors: tuple[int, ...] = (),
    feed: Readable | None = None,
    take: Callable[[bytes], None] = lambda _: None,
    tick: Callable[[], None] = no_tick,
    rest: Rest = "refuse",
) -> str:
    """Run a program to its end, without ever waiting inside C.

    Args:
        arguments: the program and its arguments: no secret is among them.
        access: what lets it into a server.
        descriptors: further descriptors that it inherits.
        feed: its standard input; read as the program takes it.
        take: given its standard output, piece by piece.
        tick: called at every turn, at least four times a second; may raise to end the program.
        rest: what becomes of input that the program does not read: ``read`` to its end nevertheless, so that what
            ``feed`` has to say of it is said; ``leave`` it; or ``refuse``: its exit code says why it stopped.

    Returns:
        What it said on standard error although it succeeded.

    Raises:
        ProgramFailed: it ended with another code than 0; the text holds its own words.
    """
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment |= {"LC_ALL": "C", "TZ": "UTC", **(access.environment if access is not None else {})}
    name = Path(arguments[0]).name
    try:
        child = subprocess.Popen(
            list(arguments),
            stdin=subprocess.PIPE if feed is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=(*descriptors, *(access.descriptors if access is not None else ())),
            bufsize=0,
        )
    except OSError as error:
        raise PostgresError(f"{arguments[0]} can't be run: {error.strerror}.", "Look at `binaries`.") from error
    try:
        words = _Conversation(child, feed, take, tick, rest).hold()
    finally:
        _end(child)
    if child.returncode != 0:
        how = f"code {child.returncode}" if child.returncode > 0 else signal.Signals(-child.returncode).name
        raise ProgramFailed(f"{name} ended with {how}: {_one_line(words) or 'it said nothing'}.", "", words)
    if re.search(r"^\S*: (error|fatal):", words, re.MULTILINE):
        raise ProgramFailed(f"{name} ended well, and yet said: {_one_line(words)}.", "", words)
    return words


def _one_line(words: str) -> str:
    return "; ".join(line.strip() for line in words.splitlines() if line.strip())[:2000].rstrip(".")


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with suppress(ProcessLookupError):
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


class _Conversation:
    """All three pipes of a child, looked after side by side."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        feed: Readable | None,
        take: Callable[[bytes], None],
        tick: Callable[[], None],
        rest: Rest,
    ) -> None:
        self._child = child
        self._feed = feed
        self._take = take
        self._tick = tick
        self._rest = rest
        self._words = _Words()
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
            for pipe, receive in ((child.stdout, self._take), (child.stderr, self._words.take)):
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
                        selector.unregister(key.fileobj)
                        key.fileobj.close()  # type: ignore[union-attr]
        while child.poll() is None:
            self._tick()
            with suppress(subprocess.TimeoutExpired):
                child.wait(TICK_SECONDS)
        return str(self._words)

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
