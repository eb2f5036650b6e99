"""A system with recovery points of a real server, and what a kit of it is made of."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lifeboat.backup.steps import Point, verify
from lifeboat.connections import outside_from
from lifeboat.kit.papers import PROJECT
from lifeboat.outside import Outside
from lifeboat.policy.loading import load_policy
from lifeboat.policy.model import LoadedPolicy
from lifeboat.postgres.full import back_up_full
from lifeboat.postgres.incremental import back_up_incremental
from lifeboat.postgres.wal_collection import collect_wal
from lifeboat.repository.copying import copy as copy_point
from lifeboat.repository.manifest import Run
from lifeboat.repository.system import SystemRepository, Work
from sandbox.accounts import remove_server_directory, server_directory
from sandbox.demo_system import DemoSystem, make_demo_system
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role
from sandbox.postgres_template import Template
from sandbox.s3_servers import RcloneS3
from sandbox.sftp_servers import OpenSsh

ACCESS_KEY, SECRET_KEY = "kit-access-key", "kit-secret-key-5f1d"


@dataclass
class LostSystem:
    """A system whose server is gone.

    Attributes:
        system: its policy and keys.
        variables: ``AIRFLOW_CONN_…`` as the worker had them.
        times: the moment after each row's commit; row n was committed before ``times[n]`` and after ``times[n - 1]``.
        secrets: every secret that there is, as bytes.
    """

    system: DemoSystem
    variables: dict[str, str]
    binaries: Path
    times: list[datetime] = field(default_factory=list)
    secrets: dict[str, bytes] = field(default_factory=dict)

    @property
    def outside(self) -> Outside:
        return outside_from(self.variables)

    @property
    def loaded(self) -> LoadedPolicy:
        return load_policy(self.system.policy)

    @property
    def repository(self) -> SystemRepository:
        return SystemRepository(self.loaded, self.outside)


@pytest.fixture(scope="session")
def lost(
    tmp_path_factory: pytest.TempPathFactory, postgres_template: Callable[[int], Template]
) -> Iterator[LostSystem]:
    """The demo's system with a full (two tablespaces), WAL, an incremental and more WAL, on an S3 store, an SFTP server
    and in a directory; its server is gone."""
    room = tmp_path_factory.mktemp("lost")
    tablespace = server_directory(room / "space")
    with (
        RcloneS3(room / "buckets", room / "rclone.log", ACCESS_KEY, SECRET_KEY) as store,
        OpenSsh(room / "openssh", room / "sshd.log") as vault,
    ):
        server = PostgresServer(
            room / "server",
            template=postgres_template(18),
            settings={"fsync": "off", "allow_in_place_tablespaces": "on", "summarize_wal": "on"},
        )
        with server:
            found = _back_up(room, server, store, vault, tablespace)
        remove_server_directory(room / "space")
        yield found


def _back_up(room: Path, server: PostgresServer, store: RcloneS3, vault: OpenSsh, tablespace: Path) -> LostSystem:
    password = create_backup_role(server)
    system = make_demo_system(room / "system", binaries=server.binaries, offsite=vault.url("lifeboat"))
    vault.make_directory("lifeboat")
    vault_connection = vault.document("demo_offsite")
    # Its key lies in a file of the worker's: the kit must bring it along.
    (room / "vault.key").write_text(vault_connection["extra"].pop("private_key"))
    vault_connection["extra"]["key_file"] = str(room / "vault.key")
    variables = {
        "AIRFLOW_CONN_DEMO_DATABASE": server.airflow_connection("lifeboat"),
        "AIRFLOW_CONN_DEMO_PRIMARY": store.airflow_connection_uri(),
        "AIRFLOW_CONN_DEMO_OFFSITE": json.dumps(vault_connection),
    }
    lost = LostSystem(system, variables, server.binaries)
    repository = lost.repository
    store.make_bucket(repository.policy.primary.bucket)
    with server.connect() as session:
        session.execute(f"CREATE TABLESPACE outside LOCATION '{tablespace}'".encode())
        session.execute("CREATE TABLESPACE inside LOCATION ''")
        session.execute("CREATE TABLE ledger (n int)")
        session.execute("CREATE TABLE far TABLESPACE outside AS SELECT g FROM generate_series(1, 1000) g")
        session.execute("CREATE TABLE near TABLESPACE inside AS SELECT g FROM generate_series(1, 1000) g")
    source = repository.policy.sources["database"]
    journal = repository.journal("primary", run="test", actor="test")

    def work(kind: str) -> Work:
        return Work.new(kind, begun=lost.outside.clock(), tiers=("daily",), run=Run(command="test"), actor="test")

    nobody: dict[str, Any] = {"passed": lambda _: None, "tick": lambda: None}
    copies = [back_up_full(repository, "database", source, work("full"), journal)]
    for number in range(2):
        if number:
            verify(repository, "database", "primary", [Point.of(copies[0])], journal, deep=False, **nobody)
            taken = back_up_incremental(repository, "database", source, work("incremental"), journal)
            assert not taken.reason
            copies.append(taken.copy)
        with server.connect() as session:
            for _ in range(5):
                session.execute("INSERT INTO ledger VALUES (%s)", (len(lost.times),))
                row = session.execute("SELECT clock_timestamp()").fetchone()
                assert row is not None
                lost.times.append(row[0])
        copies += collect_wal(repository, "database", source, work("wal"), journal).copies
    for copy in copies:
        for target in ("local", "offsite"):
            copy_point(repository.target("primary"), repository.catalogue(target), copy)
    local = (system.keys / "local.key").read_bytes().strip()
    lost.secrets = {
        "the store's secret key": SECRET_KEY.encode(),
        "the store's access key": ACCESS_KEY.encode(),
        "the database's password": password.encode(),
        "the local key": local,
        "the local key, raw": base64.b64decode(local),
        # The private half: an OpenSSH key begins with what all of its kind have, and with the public half.
        "the off-site server's key": (room / "vault.key").read_bytes().splitlines()[4],
        "the signing key": _body(system.keys / "signing.pem"),
        "the break-glass key": _body(system.break_glass),
    }
    return lost


def _body(pem: Path) -> bytes:
    return pem.read_bytes().splitlines()[1]


@dataclass(frozen=True)
class Papers:
    """A project as ``export`` looks for one, and a directory of wheels that it pins."""

    project: Path
    wheels: Path


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """The reader's requirements as wheels, without a package index: made again from what is installed here, and pinned
    by their own digests in a copy of the project's papers."""
    room = tmp_path_factory.mktemp("papers")
    project, wheels = room / "project", room / "wheels"
    wheels.mkdir()
    pages = ("docs/restore-by-hand.md", "docs/restore-archive-by-hand.md")
    for name in (*pages, "include/reader/lifeboat_reader.py", "requirements.txt"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, project / name)
    (project / "include/runbooks").mkdir()
    (project / "include/runbooks/first-hour.md").write_text("Call everybody.\n")
    lines = []
    for name in pinned_names(PROJECT / "include/reader/requirements.txt"):
        wheel = _wheel_again(importlib.metadata.distribution(name), wheels)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name}=={importlib.metadata.version(name)} \\\n    --hash=sha256:{digest}\n")
    (project / "include/reader/requirements.txt").write_text("".join(lines))
    return Papers(project, wheels)


def pinned_names(requirements: Path) -> list[str]:
    return re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==", requirements.read_text(), re.MULTILINE)


def _wheel_again(distribution: importlib.metadata.Distribution, directory: Path) -> Path:
    """A distribution's installed files in a wheel: those that its own RECORD lists below site-packages."""
    about = distribution.read_text("WHEEL") or ""
    tags = re.findall(r"^Tag: (\S+)", about, re.MULTILINE)
    tag = "-".join(".".join(dict.fromkeys(part)) for part in zip(*(tag.split("-") for tag in tags), strict=True))
    name = re.sub(r"[-_.]+", "_", distribution.metadata["Name"])
    wheel = directory / f"{name}-{distribution.version}-{tag}.whl"
    kept = [
        file
        for file in distribution.files or ()
        if ".." not in file.parts and "__pycache__" not in file.parts and file.name not in ("INSTALLER", "REQUESTED")
    ]
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in kept:
            if file.name == "RECORD":
                rows = "".join(f"{each},,\n" for each in kept)
                archive.writestr(str(file), rows)
            else:
                archive.write(str(file.locate()), str(file))
    return wheel
