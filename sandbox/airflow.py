"""A whole Airflow on this machine: API server with its page, scheduler with LocalExecutor, DAG processor.

Its metadata database is a PostgreSQL of the sandbox. Everything is set by environment variables, all below one
directory; nothing of the user's own Airflow is read or touched.
Source: https://airflow.apache.org/docs/apache-airflow/3.3.2/configurations-ref.html
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil  # type: ignore[import-untyped]
from psycopg import sql

from sandbox.accounts import CLONE, SandboxError
from sandbox.airflow_client import AirflowClient
from sandbox.postgres import PostgresServer
from sandbox.processes import Child, free_port, is_alive, release_port, start, wait_until

USER = "admin"
_KEEPER = Path(__file__).with_name("keeper.py")
_GRACE = 8.0
_TITLES = {"api-server": "API server", "scheduler": "scheduler", "dag-processor": "DAG processor"}


class AirflowSandbox:
    """Airflow with its processes; a context manager that starts and stops it.

    Args:
        directory: its ``AIRFLOW_HOME``, logs and passwords.
        metadata: a running server; a database ``airflow`` and a role of that name are made in it.
        connections: connection ids and what stands in their ``AIRFLOW_CONN_…`` variables, as URI or JSON.
        environment: further variables for all its processes, such as other ``AIRFLOW__…`` settings.
        dags: the folder with the DAG files.
        port: of the API server and its page; a free one when ``None``.
        users: users besides ``admin``, with their roles.
    """

    def __init__(
        self,
        directory: Path,
        metadata: PostgresServer,
        *,
        connections: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        dags: Path = CLONE / "dags",
        port: int | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self._users = {USER: "admin"} | dict(users or {})
        self.directory = directory
        self.metadata = metadata
        self.dags = dags
        self.port = free_port() if port is None else port
        self.child: Child | None = None
        self._connections = dict(connections or {})
        self._more = dict(environment or {})
        self._chosen = port is None
        self._extra: dict[str, Child] = {}
        self._outlive_us = False

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def password_file(self) -> Path:
        """A JSON file, readable by its owner alone, with the password of the user ``admin``."""
        return self.directory / "passwords.json"

    @property
    def password(self) -> str:
        return self.password_of(USER)

    def password_of(self, user: str) -> str:
        """A user's password."""
        return str(json.loads(self.password_file.read_text(encoding="utf-8"))[user])

    def configure(self, connections: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """Give connections and variables that were not known before; effective at the next start."""
        self._connections |= connections
        self._more |= environment

    def start(self, *, outlive_us: bool = False) -> None:
        """Start everything and return at once; :meth:`wait_until_ready` waits."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / "components.json").unlink(missing_ok=True)
        self._outlive_us = outlive_us
        environment = self._environment()
        program = [sys.executable, "-m", "sandbox.airflow_launcher", self.directory, str(self.port)]
        self.child = self._start("Airflow", program, self.directory / "launcher.log", environment)

    def _start(self, name: str, program: list[Any], log: Path, environment: Mapping[str, str]) -> Child:
        return start(
            name,
            [sys.executable, "-I", "-S", _KEEPER, str(_GRACE), *program],
            log=log,
            environment=environment,
            directory=self.directory,
            death_signal=None if self._outlive_us else signal.SIGTERM,
        )

    def wait_until_ready(
        self,
        *,
        dags: Iterable[str] = (),
        within: float = 180,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Wait until the API server answers, scheduler and DAG processor live, and the named DAGs are known.

        Raises:
            SandboxError: a component ended, a DAG file can't be imported, or time is over.
        """
        wanted, end, said = set(dags), time.monotonic() + within, ""
        while True:
            self._check_components()
            missing = self._missing(wanted)
            if not missing:
                return
            if missing != said:
                said = missing
                progress(missing)
            if time.monotonic() > end:
                raise SandboxError(
                    f"Waited {within:g} s for Airflow, but not yet: {missing}.", f"Read {self.directory}."
                )
            time.sleep(0.25)

    def _missing(self, wanted: set[str]) -> str:
        """What is still missing, in words; empty when nothing is."""
        if "migration" not in self.components()["ended"]:
            return "the metadata database is made"
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).raise_for_status().json()
        except httpx.HTTPError:
            return "the API server answers"
        for component in ("scheduler", "dag_processor"):
            if health[component]["status"] != "healthy":
                return f"the {component.replace('_', ' ')} reports itself healthy"
        if wanted:
            with self.client() as client:
                known = {dag["dag_id"] for dag in client.dags()}
                errors = client.import_errors()
            if errors and not wanted <= known:
                raise SandboxError(f"Airflow can't import {errors[0]['filename']}: {errors[0]['stack_trace']}")
            if not wanted <= known:
                return f"DAGs are known: {', '.join(sorted(wanted - known))}"
        return ""

    def components(self) -> dict[str, dict[str, int]]:
        """Process ids of the components under ``processes``, and exit codes of those that ended under ``ended``."""
        try:
            found: dict[str, dict[str, int]] = json.loads((self.directory / "components.json").read_text("utf-8"))
        except FileNotFoundError:
            return {"processes": {}, "ended": {}}
        return found

    def _check_components(self) -> None:
        if self.child is not None and not self.child.alive:
            raise SandboxError(f"Airflow ended before it was ready.\n{self._log_ends()}")
        for name, code in self.components()["ended"].items():
            if not (name == "migration" and code == 0) and name not in self._extra:
                raise SandboxError(f"Airflow's {_TITLES.get(name, name)} ended with code {code}.\n{self._log_ends()}")

    def _log_ends(self) -> str:
        ends = []
        for log in sorted(self.directory.glob("*.log")):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
            ends.append("\n".join([f"== {log}", *lines]))
        return "\n".join(ends)

    def stop_component(self, name: str, number: int = signal.SIGTERM) -> None:
        """End ``api-server``, ``scheduler`` or ``dag-processor`` as a failure would; the others go on."""
        if name in self._extra:
            self._extra[name].stop(number)
            return
        process = psutil.Process(self.components()["processes"][name])
        process.send_signal(number)
        wait_until(lambda: not is_alive(process), within=60, what=f"Airflow's {_TITLES[name]} has ended")

    def start_component(self, name: str) -> None:
        """Start a component again that :meth:`stop_component` ended."""
        options = ["--host", "127.0.0.1", "--port", str(self.port)] if name == "api-server" else []
        program = [Path(sys.executable).with_name("airflow"), name, *options]
        self._extra[name] = self._start(
            f"Airflow's {_TITLES[name]}", program, self.directory / f"{name}-again.log", self._environment()
        )

    def stop(self) -> None:
        """End it with all its tasks; one that was not started is no error."""
        for child in (*self._extra.values(), self.child):
            if child is not None:
                child.stop(patience=_GRACE + 15)
        self._extra.clear()
        self.child = None
        if self._chosen:
            release_port(self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def client(self) -> AirflowClient:
        """A session of the user ``admin`` with the REST API; a context manager."""
        return AirflowClient(self.url, USER, self.password)

    def _secret(self, name: str, make: Callable[[], str]) -> str:
        file = self.directory / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(make(), encoding="utf-8")
        return file.read_text(encoding="utf-8")

    def _metadata_url(self) -> str:
        password = self._secret("metadata-password", lambda: secrets.token_urlsafe(24))
        with self.metadata.connect() as session:
            role = sql.Identifier("airflow")
            if session.execute("SELECT 1 FROM pg_roles WHERE rolname = 'airflow'").fetchone() is None:
                session.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
                session.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
        return f"postgresql+psycopg2://airflow:{password}@127.0.0.1:{self.metadata.port}/airflow"

    def _environment(self) -> dict[str, str]:
        self._secret("passwords.json", lambda: json.dumps({user: secrets.token_urlsafe(12) for user in self._users}))
        # The user's own settings and connections for Airflow have no say here.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        settings = {
            "core": {
                "executor": "LocalExecutor",
                "parallelism": "4",
                "load_examples": "False",
                "dags_folder": str(self.dags),
                "plugins_folder": str(CLONE / "plugins"),
                "fernet_key": self._secret("fernet-key", lambda: base64.urlsafe_b64encode(os.urandom(32)).decode()),
                "simple_auth_manager_users": ",".join(f"{user}:{role}" for user, role in self._users.items()),
                "simple_auth_manager_passwords_file": str(self.password_file),
                "execution_api_server_url": f"{self.url}/execution/",
                "hostname_callable": "socket.gethostname",
                # How long on_kill may take to end a stream in order before SIGKILL.
                "killed_task_cleanup_time": "15",
            },
            "database": {"sql_alchemy_conn": self._metadata_url(), "sql_alchemy_pool_size": "5"},
            "api": {"host": "127.0.0.1", "port": str(self.port), "workers": "1", "base_url": self.url}
            | {"secret_key": self._secret("api-secret", lambda: secrets.token_hex(32)), "expose_config": "False"},
            "api_auth": {"jwt_secret": self._secret("jwt-secret", lambda: secrets.token_hex(32))},
            # A task that streams for hours survives half an hour without the API server: these go together.
            # The API server answers nobody for some seconds when its first task asks it something, on few cores longer.
            "workers": {
                "max_failed_heartbeats": "360",
                "execution_api_retries": "120",
                "execution_api_retry_wait_max": "30",
                "execution_api_timeout": "120",
            },
            "execution_api": {"jwt_expiration_time": "7200"},
            # The scheduler looks often, so that the demo never waits for a clock.
            "scheduler": {
                "task_instance_heartbeat_timeout": "2400",
                "scheduler_heartbeat_sec": "2",
                "scheduler_idle_sleep_time": "0.5",
            },
            "dag_processor": {
                "refresh_interval": "10",
                "min_file_process_interval": "10",
                "bundle_refresh_check_interval": "2",
                "parsing_processes": "1",
            },
            "logging": {"base_log_folder": str(self.directory / "logs"), "worker_log_server_port": str(free_port())},
            "metrics": {"statsd_on": "False"},
        }
        variables = {
            f"AIRFLOW__{section.upper()}__{name.upper()}": value
            for section, names in settings.items()
            for name, value in names.items()
        }
        named = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in self._connections.items()}
        return (
            inherited
            | variables
            | named
            | {
                "AIRFLOW_HOME": str(self.directory),
                "PYTHONPATH": os.pathsep.join((str(CLONE), str(CLONE / "plugins"))),
                "SCARF_ANALYTICS": "false",
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "/usr/bin:/bin"))),
            }
            | self._more
        )
