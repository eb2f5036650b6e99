"""A history of days of WAL that follows, read from S3 and over SFTP with and without day bundles."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from benchmarks.history_reading import SOURCE
from benchmarks.measuring import MIB, BenchmarkFailed, measure, middle_ratio
from benchmarks.report import table_of
from benchmarks.rounds import Say
from lifeboat.connections import outside_from
from lifeboat.policy.loading import load_policy
from lifeboat.repository.bundling import Bundler
from lifeboat.repository.commit import wrapped_keys
from lifeboat.repository.journal import Journal
from lifeboat.repository.manifest import Manifest, Previous, Run, digest_of
from lifeboat.repository.system import PRIMARY, SystemRepository, Work, tool_versions
from lifeboat.streams.stored import StoredStream, StoredVolume
from sandbox.accounts import CLONE
from sandbox.demo_system import make_demo_system
from sandbox.s3_servers import MotoServer
from sandbox.sftp_servers import OpenSsh

A_DAY = 1440
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
READINGS = {"wal": "WAL points", "events": "events"}
Plant = Callable[[Mapping[str, bytes]], None]


@dataclass(frozen=True)
class Read:
    """One reading: seconds, and the most memory of its process in bytes."""

    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Store:
    """A server with an empty target on it.

    Attributes:
        repository: a system whose primary target it is.
        policy, environment: the same, for another process.
        plant: puts objects there faster than Lifeboat would.
    """

    repository: SystemRepository
    policy: Path
    environment: Mapping[str, str]
    plant: Plant


class _Kept:
    """A target that keeps what it is given in memory, to be planted."""

    name = "kept"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_new(self, key: str, data: bytes) -> None:
        self.objects[key] = data


def measure_history(days: int, rounds: int, say: Say) -> dict[str, dict[str, list[Read]]]:
    """Readings by server, and by what was read and how: ``wal singly``, ``wal bundled``, ``events …``; beside them,
    as ``written``, how long it took to write all the bundles."""
    taken: dict[str, dict[str, list[Read]]] = {}
    (CLONE / ".sandbox").mkdir(exist_ok=True)
    for name, opened in (("moto's S3", _moto), ("OpenSSH's SFTP", _openssh)):
        room = Path(tempfile.mkdtemp(prefix="bench-", dir=CLONE / ".sandbox"))
        try:
            with opened(room) as store:
                say(f"{name}: making {days} days of {A_DAY} WAL points and as many events")
                _make_history(store, days)
                taken[name] = _measure_on(store, days * A_DAY, rounds, partial(_say_of, name, say))
        finally:
            shutil.rmtree(room, ignore_errors=True)
    return taken


def _say_of(name: str, say: Say, what: str) -> None:
    say(f"{name}: {what}")


def _measure_on(store: Store, expected: int, rounds: int, say: Say) -> dict[str, list[Read]]:
    taken: dict[str, list[Read]] = {}
    for number in range(1, rounds + 1):
        for what in READINGS:
            say(f"{what} singly, round {number} of {rounds}")
            taken.setdefault(f"{what} singly", []).append(_read(store, what, expected))
        say("writing the bundles")
        began = time.monotonic()
        bundler = Bundler(store.repository, PRIMARY)
        written = [one.key for some in (bundler.journal(), bundler.wal(SOURCE)) for one in some]
        taken.setdefault("written", []).append(Read(time.monotonic() - began, 0))
        for what in READINGS:
            say(f"{what} through bundles, round {number} of {rounds}")
            taken.setdefault(f"{what} bundled", []).append(_read(store, what, expected))
        for key in written:
            store.repository.target(PRIMARY).delete(key)
    return taken


def _read(store: Store, what: str, expected: int) -> Read:
    measured = measure(
        [sys.executable, "-m", "benchmarks.history_reading"],
        environment=dict(os.environ) | {"PYTHONPATH": f"{CLONE / 'plugins'}:{CLONE}"},
        directory=CLONE,
        standard_input=json.dumps({"policy": str(store.policy), "environment": dict(store.environment), "what": what}),
    )
    figures = json.loads(measured.output)
    if figures["found"] != expected:
        raise BenchmarkFailed(f"{figures['found']} {what} were read, of {expected}.")
    return Read(figures["seconds"], measured.peak_memory)


def _make_history(store: Store, days: int) -> None:
    repository = store.repository
    kept: Any = _Kept()
    now = FIRST
    journal = Journal(
        [kept], repository.system, signer=repository.signer, run="bench", actor="bench", clock=lambda: now
    )
    previous: Previous | None = None
    for number in range(1, days * A_DAY + 1):
        now = FIRST + timedelta(minutes=number - 1)
        manifest = _manifest(repository, now, number, previous)
        document = manifest.to_json()
        folder = manifest.folder
        kept.put_new(folder.signature(manifest.attempt), repository.signer.signature_file(document))
        kept.put_new(folder.manifest, document)
        previous = Previous(recovery_point=manifest.recovery_point, sha256=digest_of(document))
        journal.write(
            "backup_committed", source=SOURCE, recovery_point=manifest.recovery_point, target=PRIMARY,
            manifest=previous.sha256, sequence=number, segments=1,
        )  # fmt: skip
    store.plant(kept.objects)


def _manifest(repository: SystemRepository, now: datetime, number: int, previous: Previous | None) -> Manifest:
    work = Work.new("wal", begun=now, tiers=("wal",), run=Run(command="make bench"), actor="bench")
    name = f"{1:08X}{0:08X}{number % 256:08X}"
    volume = StoredVolume(number=1, file=f"{name}.1.zst.enc", stored_size=1, sha256="0" * 64, crc32=1, plain_size=1)
    return Manifest(
        system=repository.system,
        source=SOURCE,
        recovery_point=str(work.recovery_point),
        attempt=work.attempt,
        timeline=1,
        kind="wal",
        tiers=work.tiers,
        sequence=number,
        previous=previous,
        chain=str(work.recovery_point),
        begun=now,
        committed=now,
        moment=now,
        details={"system_identifier": 1, "timeline": 1, "start_lsn": "0/3000000", "end_lsn": "0/4000000"},
        streams=(StoredStream(name=name, plain_sha256="0" * 64, volumes=(volume,)),),
        wrapped_keys=wrapped_keys(repository.sealing.wrapping_keys),
        tool_versions=tool_versions(),
        policy_digest=repository.loaded.digest,
        run=work.run,
    )


def _store(room: Path, url: str, connection: str, plant: Plant) -> Store:
    primary = "url: s3://backups/lifeboat\n    connection: demo_primary"
    system = make_demo_system(
        room / "system", binaries=Path("/nowhere"), replacing={primary: f"url: {url}\n    connection: demo_primary"}
    )
    environment = {"AIRFLOW_CONN_DEMO_PRIMARY": connection}
    return Store(
        SystemRepository(load_policy(system.policy), outside_from(environment)), system.policy, environment, plant
    )


@contextmanager
def _moto(room: Path) -> Iterator[Store]:
    with MotoServer(room / "moto.log") as server:
        connection = server.airflow_connection_uri()
        client = outside_from({"AIRFLOW_CONN_BENCH": connection}).aws_client("s3", "bench")
        client.create_bucket(Bucket="bench")

        def plant(objects: Mapping[str, bytes]) -> None:
            with ThreadPoolExecutor(8) as pool:
                for done in [pool.submit(client.put_object, Bucket="bench", Key=key, Body=data)
                             for key, data in objects.items()]:  # fmt: skip
                    done.result()

        yield _store(room, "s3://bench", connection, plant)


@contextmanager
def _openssh(room: Path) -> Iterator[Store]:
    with OpenSsh(room / "room", room / "sshd.log") as server:
        server.make_directory("target")
        root = server.root / "target"
        account = server.account()

        def plant(objects: Mapping[str, bytes]) -> None:
            for key, data in objects.items():
                path = root / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            for path in (root, *root.rglob("*")):
                if account is not None:
                    os.chown(path, account.uid, account.gid)

        yield _store(room, server.url("target"), server.airflow_connection_uri(), plant)


def show(console: Console, days: int, taken: Mapping[str, Mapping[str, list[Read]]]) -> None:
    """All of it as a table."""
    number = days * A_DAY
    table = table_of(
        f"{number:,} WAL points and {number:,} events of {days} days read", "", "singly", "through bundles", "ratio",
        "memory", "with bundles",
    )  # fmt: skip
    for server, readings in taken.items():
        for what, title in READINGS.items():
            singly, bundled = readings[f"{what} singly"], readings[f"{what} bundled"]
            table.add_row(
                f"{title} from {server}",
                *(f"{median(one.seconds for one in runs):.1f} s" for runs in (singly, bundled)),
                f"{middle_ratio([one.seconds for one in singly], [one.seconds for one in bundled]):.1f}x",
                *(f"{median(one.peak_memory for one in runs) / MIB:,.0f} MiB" for runs in (singly, bundled)),
            )
        written = median(one.seconds for one in readings["written"])
        table.add_row(f"{days * 2} bundles written to {server}", "", f"{written:.1f} s", "", "", "")
    console.print(table)
