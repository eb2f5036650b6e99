"""All services of the sandbox together: the ERP database and its writer, the targets, Slack, Airflow.

Everything they keep lies below one directory, whose removal is the end of it. Each process is recorded there the moment
it starts, so that another command can end them all: also after a crash, and never another process that got the number.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sandbox import erp
from sandbox.accounts import CLONE, SandboxError, remove, remove_server_directory, sweep_outer_room
from sandbox.airflow import AirflowSandbox
from sandbox.demo_system import DemoSystem, make_demo_system
from sandbox.erp_writer import Writer
from sandbox.postgres import SUPERUSER, PostgresServer
from sandbox.postgres_role import create_backup_role, let_read_everything
from sandbox.processes import identity, kill_all, wait_until
from sandbox.s3_servers import RcloneS3
from sandbox.sftp_servers import RcloneSftp
from sandbox.slack import SlackReceiver

ROOM = CLONE / ".sandbox"
MARK = "LIFEBOAT_SANDBOX"
BUCKET = "backups"
PATIENCE = 25.0  # seconds that a service gets for its end, each time it is asked
# PostgreSQL ends its sessions on SIGINT; SIGTERM would wait for them.
_END = {"postgres": (signal.SIGINT, signal.SIGQUIT)}


class Services:
    """The services below ``directory``, which is made; they die with us unless ``detached``.

    Attributes:
        erp: the server whose database is backed up, and lost in the demo.
        metadata: the server with Airflow's own database.
        primary: an S3 server with a bucket ``backups``.
        offsite: an SFTP server with a directory ``backups``.
        system: the demo's policy, keys and local target; made by :meth:`start`.
        slack, airflow, writer: what their classes say.
    """

    def __init__(self, directory: Path, *, detached: bool = False, writer_rate: float = 50) -> None:
        directory.mkdir(mode=0o711, parents=True)
        self.directory = directory
        self._detached = detached
        fast = {"fsync": "off", "max_wal_size": "2GB"}
        self.erp = PostgresServer(directory / "erp", settings={**fast, "summarize_wal": "on"}, detached=detached)
        self.metadata = PostgresServer(directory / "metadata", settings=fast, detached=detached)
        self.primary = RcloneS3(
            directory / "primary",
            directory / "primary.log",
            "primary-key",
            os.urandom(20).hex(),
            buckets=(BUCKET,),
            name="primary S3 server",
        )
        self.offsite = RcloneSftp(
            directory / "offsite",
            directory / "offsite-keys",
            directory / "offsite.log",
            name="offsite SFTP server",
        )
        self.offsite.make_directory(BUCKET)
        self.system: DemoSystem
        self.incident: datetime | None = None
        self.slack = SlackReceiver(directory / "slack")
        self.writer = Writer(self.erp, directory / "writer", rate=writer_rate)
        self.airflow = AirflowSandbox(directory / "airflow", self.metadata)

    def connections(self) -> dict[str, str]:
        """Connection ids, and what their ``AIRFLOW_CONN_…`` variables hold."""
        return {
            "demo_database": self.erp.airflow_connection("lifeboat", erp.DATABASE),
            "demo_home": self.erp.airflow_connection(SUPERUSER),
            "demo_primary": self.primary.airflow_connection_uri(),
            "demo_offsite": self.offsite.airflow_connection_uri(),
            "demo_slack": self.slack.airflow_connection(),
        }

    def environment(self) -> dict[str, str]:
        """What Airflow's processes and the command line find in their environment, besides connections."""
        return {MARK: str(self.directory), "LIFEBOAT_POLICIES": str(self.system.policies)}

    def start(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Start all but the writer; Airflow goes on booting when this returns."""
        self.system = make_demo_system(
            self.directory / "system",
            binaries=self.erp.binaries,
            offsite=self.offsite.url(BUCKET),
            belongings=True,
        )
        progress("PostgreSQL for Airflow")
        self.metadata.create()
        self.metadata.start()
        self._record("metadata", "postgres", self.metadata.child)
        progress("PostgreSQL for the ERP")
        self.erp.create()
        self.erp.start()
        self._record("erp", "postgres", self.erp.child)
        erp.create_database(self.erp)
        create_backup_role(self.erp, databases=[erp.DATABASE])
        let_read_everything(self.erp)
        progress("S3 server, SFTP server and Slack receiver")
        self.primary.start(outlive_us=self._detached)
        self._record(self.primary.name, "other", self.primary)
        self.offsite.start(outlive_us=self._detached)
        self._record(self.offsite.name, "other", self.offsite)
        self.slack.start(outlive_us=self._detached)
        self._record("slack", "other", self.slack.child)
        progress("Airflow")
        self.airflow.configure(self.connections(), self.environment())
        self.airflow.start(outlive_us=self._detached)
        self._record("airflow", "other", self.airflow.child)

    def start_writer(self) -> None:
        """Start the writer; the database must be filled."""
        self.writer.start(outlive_us=self._detached)
        self._record("writer", "other", self.writer.child)

    def stop(self) -> None:
        """End everything that was started, and remove the directory."""
        end_recorded(self.directory)
        clear(self.directory)

    def _record(self, name: str, kind: str, process: object) -> None:
        pid = getattr(process, "pid")  # noqa: B009
        entry = {"name": name, "kind": kind, "pid": pid, "identity": identity(pid)}
        with (self.directory / "processes.jsonl").open("a", encoding="utf-8") as record:
            record.write(json.dumps(entry) + "\n")


def recorded(directory: Path) -> list[dict[str, object]]:
    """What was started below ``directory``: ``name``, ``kind``, ``pid``, ``identity``, and whether it is ``alive``."""
    try:
        lines = (directory / "processes.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries = [json.loads(line) for line in lines]
    return [entry | {"alive": entry["identity"] == identity(entry["pid"])} for entry in entries]


def end_recorded(directory: Path) -> list[str]:
    """End all that was started below ``directory``, last started first, and return the names of what was ended."""
    ended = []
    for entry in reversed(recorded(directory)):
        if entry["alive"]:
            _end(int(str(entry["pid"])), str(entry["identity"]), str(entry["kind"]))
            ended.append(str(entry["name"]))
    left = _marked(directory)
    kill_all(left)
    return ended + [f"process {process.pid}" for process in left]


def _end(pid: int, known: str, kind: str) -> None:
    try:
        family = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return
    for number in (*_END.get(kind, (signal.SIGTERM,)), signal.SIGKILL):
        if identity(pid) != known:
            break
        os.kill(pid, number)
        try:
            wait_until(lambda: identity(pid) != known, within=PATIENCE, what=f"process {pid} has ended")
        except SandboxError:
            if number == signal.SIGKILL:
                raise
    kill_all([process for process in family if process.is_running()])


def _marked(directory: Path) -> list[psutil.Process]:
    """Processes that still bear this sandbox's mark: tasks whose keeper was killed, for example."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARK) == str(directory)
        except (psutil.Error, OSError):
            continue
        if marked and process.pid != os.getpid():
            found.append(process)
    return found


def clear(directory: Path) -> None:
    """Remove a directory of services that have ended, and what lies outside for the servers' account."""
    if directory.exists():
        for entry in directory.iterdir():
            if entry.is_symlink():
                remove_server_directory(entry)
    remove(directory)


def sweep() -> None:
    """Remove what demos that were killed left behind."""
    for directory in ROOM.glob("demo-*"):
        pid = directory.name.removeprefix("demo-")
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            end_recorded(directory)
            clear(directory)
    sweep_outer_room()


def require_room(directory: Path, megabytes: int) -> None:
    """Check that the disk has room.

    Raises:
        SandboxError: it has less than ``megabytes`` (of 1,000,000 bytes).
    """
    free = shutil.disk_usage(directory).free // 1_000_000
    if free < megabytes:
        raise SandboxError(f"{directory} has room for {free} MB; the sandbox needs {megabytes} MB.", "Make room.")
