"""PostgreSQL's client programs (``pg_dump``, ``pg_restore``) as children: streamed, watched, and ended with us.

No secret reaches an argument, the environment or a disk: libpq reads the password from a password file and everything
else from a service file, both of which lie in memory of ours that only this child inherits.
Sources: https://www.postgresql.org/docs/current/libpq-pgpass.html,
https://www.postgresql.org/docs/current/libpq-pgservice.html, memfd_create(2)
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import make_conninfo

from lifeboat.errors import PostgresError
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.server_programs import dies_with_us
from lifeboat.repository.child_programs import Rest, converse, end, in_memory
from lifeboat.targets.target import Readable

NEWER_MAJORS = 5
"""How many major versions ahead programs are looked for."""

_PLACES = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin", "/opt/homebrew/opt/postgresql@{major}/bin")
_SERVICE = "lifeboat"
_INHERITED = ("PATH", "HOME", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "KRB5_CONFIG", "KRB5CCNAME")


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


class ProgramFailed(PostgresError):
    """A client program ended with an error; ``words`` is what it said."""

    def __init__(self, what: str, remedy: str, words: str) -> None:
        super().__init__(what, remedy)
        self.words = words


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
            # One that builds indexes would not notice for hours that nobody wants them any more.
            preexec_fn=dies_with_us(os.getpid(), signal.SIGTERM),
        )
    except OSError as error:
        raise PostgresError(f"{arguments[0]} can't be run: {error.strerror}.", "Look at `binaries`.") from error
    try:
        words = converse(child, feed=feed, take=take, tick=tick, rest=rest)
    finally:
        end(child)
    if child.returncode != 0:
        how = f"code {child.returncode}" if child.returncode > 0 else signal.Signals(-child.returncode).name
        raise ProgramFailed(f"{name} ended with {how}: {_one_line(words) or 'it said nothing'}.", "", words)
    if re.search(r"^\S*: (error|fatal):", words, re.MULTILINE):
        raise ProgramFailed(f"{name} ended well, and yet said: {_one_line(words)}.", "", words)
    return words


def _one_line(words: str) -> str:
    return "; ".join(line.strip() for line in words.splitlines() if line.strip())[:2000].rstrip(".")
