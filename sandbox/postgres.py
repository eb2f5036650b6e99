"""A real PostgreSQL server on a free loopback port: made in a second, killed like a crash, restarted, thrown away."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg.conninfo import make_conninfo

from sandbox.accounts import SandboxError, hand_over, remove_server_directory, server_account, server_directory
from sandbox.certificates import Certificates, make_certificates
from sandbox.postgres_builds import WHEEL_MAJOR, binaries, has_tls
from sandbox.processes import Child, free_port, kill_all, release_port, run, start, wait_until

if TYPE_CHECKING:
    from sandbox.postgres_template import Template

SUPERUSER = "postgres"

# All that server programs see of the environment.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent"}

_SETTINGS = {
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "shared_buffers": "128MB",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class PostgresServer:
    """One PostgreSQL server below ``directory``, which must not exist before :meth:`create`.

    Args:
        directory: holds ``data``, ``server.log`` and, with TLS, ``tls``. Where the servers' account can't reach it, it
            becomes a symbolic link; ``data_directory`` is always the real place.
        major: PostgreSQL's major version.
        settings: settings besides, or instead of, the sandbox's own.
        template: copied instead of running ``initdb``: quick, but with the template's system identifier.
        tls: take connections over TLS alone, with certificates made on the spot (``certificates``).
        port: a port to use; a free one unless told.
        initdb_arguments: more arguments for ``initdb``, such as ``--wal-segsize=1``.
        detached: the server outlives us (``make up``); otherwise it dies with the thread that started it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        major: int = WHEEL_MAJOR,
        settings: Mapping[str, str] | None = None,
        template: Template | None = None,
        tls: bool = False,
        port: int | None = None,
        initdb_arguments: Sequence[str] = (),
        detached: bool = False,
    ) -> None:
        if template is not None and (template.major != major or initdb_arguments):
            raise ValueError("a template fits servers of its own major version that want no initdb arguments")
        self.directory = directory
        self.major = major
        self.settings = _SETTINGS | dict(settings or {})
        self.passwords = {SUPERUSER: template.password if template else secrets.token_urlsafe(16)}
        self.certificates: Certificates | None = None
        self.child: Child | None = None
        self._template = template
        self._tls = tls
        self._port = port
        self._port_is_ours = port is None
        self._initdb_arguments = list(initdb_arguments)
        self._detached = detached
        self._adopted: Path | None = None

    @classmethod
    def on_data(
        cls,
        directory: Path,
        data: Path,
        *,
        passwords: Mapping[str, str] | None = None,
        major: int = WHEEL_MAJOR,
        settings: Mapping[str, str] | None = None,
    ) -> PostgresServer:
        """A server for a data directory that exists, such as a restored one; ``directory`` is for its log.

        The data directory goes to the servers' account. ``settings`` are given on the command line: its files stay
        as they are.
        """
        server = cls(directory, major=major)
        server.settings = dict(settings or {})
        server.passwords = dict(passwords or {})
        server._adopted = data.resolve()
        server_directory(directory)
        hand_over(server._adopted)
        return server

    def __enter__(self) -> PostgresServer:
        if self._adopted is None:
            self.create()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()

    @property
    def data_directory(self) -> Path:
        return self._adopted or self.directory.resolve() / "data"

    @property
    def log(self) -> Path:
        return self.directory.resolve() / "server.log"

    @property
    def binaries(self) -> Path:
        return binaries(self.major)

    @property
    def port(self) -> int:
        if self._port is None:
            self._port = free_port()
        return self._port

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.alive

    def create(self) -> None:
        """Make the cluster: ``initdb`` or a copy of the template, then settings, ``pg_hba.conf`` and certificates."""
        if self._tls and not has_tls(self.major):
            raise SandboxError(
                f"The programs of PostgreSQL {self.major} here are built without TLS.",
                "Use another major version: those from npm and from distributions have it.",
            )
        real = server_directory(self.directory)
        if self._template is not None:
            run("cp", "-a", "--reflink=auto", self._template.data, real / "data", environment=ENVIRONMENT)
        else:
            self._initdb(real)
        if self._tls:
            self.certificates = make_certificates(real / "tls")
            self.settings |= {
                "ssl": "on",
                "ssl_min_protocol_version": "TLSv1.3",
                "ssl_cert_file": str(self.certificates.server),
                "ssl_key_file": str(self.certificates.server_key),
            }
        self.write_settings()
        self.write_hba([("all", "all"), ("replication", SUPERUSER)])
        if self._tls:
            hand_over(real / "tls")

    def _initdb(self, real: Path) -> None:
        secret = real / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.passwords[SUPERUSER], encoding="utf-8")
        hand_over(secret)
        try:
            run(
                self.binaries / "initdb",
                *("--pgdata", real / "data", "--username", SUPERUSER, "--pwfile", secret),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--data-checksums"),
                *("--no-sync", "--no-instructions", *self._initdb_arguments),
                environment=ENVIRONMENT,
                account=server_account(),
            )
        finally:
            secret.unlink()

    def write_settings(self, **changed: str) -> None:
        """Change settings and write them to the file; :meth:`reload` or :meth:`restart` makes them effective."""
        self.settings |= changed
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in self.settings.items()]
        self._write("sandbox.conf", "".join(lines))
        main = self.data_directory / "postgresql.conf"
        text = main.read_text(encoding="utf-8")
        include = "include 'sandbox.conf'\n"
        if include not in text:
            self._write("postgresql.conf", text + include)

    def write_hba(self, rules: Sequence[tuple[str, str]]) -> None:
        """Write ``pg_hba.conf``: pairs of database and user that may come in with a password, from 127.0.0.1."""
        kind = "hostssl" if self._tls else "host"
        self._hba = list(rules)
        lines = [f"{kind} {database} {user} 127.0.0.1/32 scram-sha-256\n" for database, user in rules]
        self._write("pg_hba.conf", "".join(lines))

    def allow(self, database: str, user: str) -> None:
        """Add a rule to ``pg_hba.conf`` and make it effective."""
        if (database, user) not in self._hba:
            self.write_hba([*self._hba, (database, user)])
            if self.running:
                self.reload()

    def _write(self, name: str, text: str) -> None:
        file = self.data_directory / name
        file.write_text(text, encoding="utf-8")
        hand_over(file)

    def start(self, *, within: float = 60) -> None:
        """Start the server and wait until it takes connections.

        Raises:
            SandboxError: it ended or was not ready in time; the text holds the end of its log.
        """
        if self.running:
            return
        for attempt in (1, 2, 3):
            try:
                self._start_once(within)
            except SandboxError as error:
                taken = "Address already in use" in str(error)
                if not (taken and self._port_is_ours and attempt < 3):
                    raise
                self._port = None
            else:
                return

    def _start_once(self, within: float) -> None:
        more = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        if self._adopted is not None:
            more |= self.settings
        arguments = [word for name, value in more.items() for word in ("-c", f"{name}={value}")]
        status = self.data_directory / "postmaster.pid"
        self.child = start(
            f"PostgreSQL {self.major} on port {self.port}",
            [self.binaries / "postgres", "-D", self.data_directory, *arguments],
            log=self.log,
            environment=ENVIRONMENT,
            account=server_account(),
            death_signal=None if self._detached else signal.SIGQUIT,
        )
        pid = str(self.child.pid)

        def ready() -> bool:
            # The file that pg_ctl looks at: the first line is the process, the eighth what it can do by now.
            try:
                lines = status.read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                return False
            return len(lines) >= 8 and lines[0] == pid and lines[7].strip() in ("ready", "standby")

        try:
            wait_until(ready, within=within, what="it takes connections", child=self.child)
        except SandboxError:
            self.child.stop(signal.SIGQUIT)
            raise

    def stop(self, mode: str = "fast") -> None:
        """Shut down: ``smart`` waits for sessions, ``fast`` ends them, ``immediate`` leaves recovery to the start."""
        number = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self.child is not None:
            self.child.stop(number, *(() if mode == "immediate" else (signal.SIGQUIT,)), patience=30)

    def kill(self) -> None:
        """End the server and all its processes with SIGKILL, as when the machine loses power: nobody has a last word.

        The first process stands still meanwhile: it would tell of its children's deaths, and they of its own.
        """
        if self.child is None or not self.child.alive:
            return
        self.child.signal(signal.SIGSTOP)
        kill_all(psutil.Process(self.child.pid).children(recursive=True))
        self.child.kill()

    def restart(self, mode: str = "fast") -> None:
        """Shut down and start again, on the same port."""
        self.stop(mode)
        self.start()

    def destroy(self) -> None:
        """End the server and remove everything it had; a data directory that was adopted stays."""
        self.stop("immediate")
        remove_server_directory(self.directory)
        if self._port is not None and self._port_is_ours:
            release_port(self._port)

    def dsn(self, user: str = SUPERUSER, database: str = "postgres", **options: str) -> str:
        """A libpq connection string, password included; ``options`` are further libpq keywords."""
        words: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "user": user, "dbname": database}
        words["password"] = self.passwords.get(user)
        if self.certificates is not None:
            words |= {"sslmode": "verify-full", "sslrootcert": str(self.certificates.authority)}
        return make_conninfo("", **(words | options))

    def airflow_connection(self, user: str, database: str = "postgres") -> str:
        """The same as JSON for an ``AIRFLOW_CONN_…`` variable."""
        extra = {"sslmode": "disable"}
        if self.certificates is not None:
            extra = {"sslmode": "verify-full", "sslrootcert": str(self.certificates.authority)}
        return json.dumps(
            {
                "conn_type": "postgres",
                "host": "127.0.0.1",
                "port": self.port,
                "login": user,
                "password": self.passwords[user],
                "schema": database,
                "extra": extra,
            }
        )

    def connect(self, user: str = SUPERUSER, database: str = "postgres", **options: str) -> psycopg.Connection[Any]:
        """A session in autocommit mode; the caller closes it."""
        return psycopg.connect(self.dsn(user, database, **options), autocommit=True)

    def run_sql(
        self, statement: str, parameters: Sequence[Any] | None = None, *, database: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run a statement as superuser and return its rows."""
        with self.connect(database=database) as session:
            cursor = session.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description is not None else []

    def reload(self) -> None:
        """Read the configuration files again, and wait until new sessions see it."""
        before = self.run_sql("SELECT pg_conf_load_time(), pg_reload_conf()")[0][0]
        wait_until(
            lambda: bool(self.run_sql("SELECT pg_conf_load_time() > %s", [before])[0][0]),
            within=15,
            what="the configuration is read again",
            child=self.child,
        )

    def run_program(self, name: str, *arguments: str | Path, user: str = SUPERUSER, database: str = "postgres") -> str:
        """Run a client program of PostgreSQL 18 (``pgbench``, ``pg_dump``, ``psql``…) on this server; its output.

        Raises:
            SandboxError: it ended with another code than 0.
        """
        environment = ENVIRONMENT | {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": user,
            "PGPASSWORD": self.passwords[user],
            "PGDATABASE": database,
        }
        return run(binaries(WHEEL_MAJOR) / name, *arguments, environment=environment)
