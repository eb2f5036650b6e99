"""Our side of a measurement, a process of its own: one verb, its job on standard input, its figures on standard output.

python -m benchmarks.ours full|verify|incremental|bare|restore|wal|follow|logical|logical_restore < job.json
"""

from __future__ import annotations

import time

BEGUN = time.monotonic()

import json  # noqa: E402  the clock runs before anything is imported
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from datetime import timedelta  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from lifeboat.outside import Connection, Outside, utc_now  # noqa: E402
from lifeboat.policy.loading import load_policy  # noqa: E402
from lifeboat.policy.postgres_source import PostgresSource  # noqa: E402
from lifeboat.postgres.base_backup import BaseBackupOptions, stream_base_backup  # noqa: E402
from lifeboat.postgres.full import back_up_full, source_parameters  # noqa: E402
from lifeboat.postgres.moments import AtRecoveryPoint, Latest  # noqa: E402
from lifeboat.postgres.replication import ReplicationConnection  # noqa: E402
from lifeboat.postgres.wal_collection import collect_wal  # noqa: E402
from lifeboat.repository.catalogue import Copy  # noqa: E402
from lifeboat.repository.manifest import Run  # noqa: E402
from lifeboat.repository.system import SystemRepository, Work  # noqa: E402

SOURCE = "database"
TARGET = "primary"

Job = dict[str, Any]
Figures = dict[str, Any]


def _opened(job: Job) -> SystemRepository:
    def connection(name: str) -> Connection:
        return Connection(name, "postgres", "127.0.0.1", job["port"], job["user"], job["password"], "postgres")

    def no_client(service: str, *_: object, **__: object) -> object:
        raise RuntimeError(f"no measurement asks for {service}")

    return SystemRepository(load_policy(Path(job["policy"])), Outside(connection, no_client))


def _source(repository: SystemRepository) -> PostgresSource:
    source = repository.policy.sources[SOURCE]
    assert isinstance(source, PostgresSource)
    return source


def _work(kind: str) -> Work:
    return Work.new(kind, begun=utc_now(), tiers=("daily",), run=Run(command="make bench"), actor="bench")


def full(repository: SystemRepository, _job: Job) -> Figures:
    """A full backup, from the first connection to the commit."""
    journal = repository.journal(TARGET, run="bench", actor="bench")
    copy = back_up_full(repository, SOURCE, _source(repository), _work("full"), journal)
    manifest = copy.manifest
    return {"plain": manifest.plain_size, "stored": manifest.stored_size, "point": manifest.recovery_point}


def verify(repository: SystemRepository, job: Job) -> Figures:
    """A verification of what was stored: an incremental builds upon nothing less."""
    from lifeboat.backup import steps

    journal = repository.journal(TARGET, run="bench", actor="bench")
    points = [steps.Point(job["point"])]
    steps.verify(repository, SOURCE, TARGET, points, journal, deep=False, passed=lambda _: None, tick=lambda: None)
    return {}


def incremental(repository: SystemRepository, _job: Job) -> Figures:
    """An incremental upon the newest verified link."""
    from lifeboat.postgres.incremental import back_up_incremental

    journal = repository.journal(TARGET, run="bench", actor="bench")
    taken = back_up_incremental(repository, SOURCE, _source(repository), _work("incremental"), journal)
    if taken.reason:
        raise RuntimeError(f"a full was taken instead of an incremental: {taken.reason}")
    manifest = taken.copy.manifest
    return {"plain": manifest.plain_size, "stored": manifest.stored_size, "point": manifest.recovery_point}


def wal(repository: SystemRepository, _job: Job) -> Figures:
    """A WAL run."""
    journal = repository.journal(TARGET, run="bench", actor="bench")
    collected = collect_wal(repository, SOURCE, _source(repository), _work("wal"), journal)
    return {"plain": collected.received, "stored": sum(copy.manifest.stored_size for copy in collected.copies)}


def follow(repository: SystemRepository, job: Job) -> Figures:
    """A run that follows; each recovery point with what it covers and the moment from which it could be restored."""
    from lifeboat.postgres.wal_following import follow_wal
    from lifeboat.source import Stay

    points: list[tuple[str, str]] = []

    def committed(copy: Copy) -> None:
        points.append((copy.manifest.moment.isoformat(), utc_now().isoformat()))

    journal = repository.journal(TARGET, run="bench", actor="bench")
    stay, flush = Stay(timedelta(seconds=job["lasting"]), committed=committed), timedelta(seconds=job["flush"])
    collected = follow_wal(repository, SOURCE, _source(repository), _work("wal"), journal, stay=stay, flush_every=flush)
    stored = sum(copy.manifest.stored_size for copy in collected.copies)
    return {"plain": collected.received, "stored": stored, "points": points}


def restore(repository: SystemRepository, job: Job) -> Figures:
    """A whole restore of one recovery point, or of all there is; the phases say what of it was fetching and
    unpacking."""
    from lifeboat.postgres.restore import Request, restore
    from lifeboat.postgres.restore_sources import read_offer

    moment = AtRecoveryPoint(job["point"]) if "point" in job else Latest()
    began = time.monotonic()
    plan = read_offer(repository, SOURCE, TARGET).plan(moment)
    planned = time.monotonic() - began
    restored = restore(repository, plan, Request(TARGET, Path(job["into"]), Path(job["binaries"])))
    return {"phases": {"plan": planned} | restored.phases}


class _Nothing:
    """Throws a base backup away."""

    def __init__(self) -> None:
        self.size = 0

    def begin(self, name: str) -> None:
        """Nothing to open."""

    def write(self, data: memoryview) -> None:
        """Count."""
        self.size += len(data)

    def progress(self, done: int, total: int) -> None:
        """Nobody looks."""


def bare(repository: SystemRepository, _job: Job) -> Figures:
    """``BASE_BACKUP``, read and thrown away."""
    parameters = source_parameters(repository, _source(repository), what="bench")
    nothing = _Nothing()
    with ReplicationConnection(parameters) as connection:
        stream_base_backup(connection, BaseBackupOptions(label="bench"), nothing, tick=lambda: None)
    return {"plain": nothing.size}


def logical(repository: SystemRepository, _job: Job) -> Figures:
    """A logical archive, from the first connection to the commit."""
    from lifeboat.postgres.logical_backup import back_up_logical

    journal = repository.journal(TARGET, run="bench", actor="bench")
    copy, _ = back_up_logical(repository, SOURCE, _source(repository), _work("logical"), journal)
    manifest = copy.manifest
    return {"plain": manifest.plain_size, "stored": manifest.stored_size, "point": manifest.recovery_point}


def logical_restore(repository: SystemRepository, job: Job) -> Figures:
    """A restore of the ERP database from a logical archive, with the comparison of every row."""
    from lifeboat.postgres.logical_preparing import prepare
    from lifeboat.postgres.logical_restore import restore_logical
    from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters

    def home(database: str) -> ConnectionParameters:
        return connection_parameters(repository.outside.connection("home"), Tls("off"), database=database or None)

    copy = repository.catalogue(TARGET).find(SOURCE, job["point"])
    binaries = _source(repository).binaries
    plan = prepare(repository, copy, home(""), binaries=binaries, databases=["erp"], name=job["name"])
    return {"phases": restore_logical(repository, plan, home).phases, "plain": copy.manifest.plain_size}


VERBS: dict[str, Callable[[SystemRepository, Job], Figures]] = {
    "full": full,
    "verify": verify,
    "incremental": incremental,
    "wal": wal,
    "follow": follow,
    "restore": restore,
    "bare": bare,
    "logical": logical,
    "logical_restore": logical_restore,
}


def peak_memory() -> int:
    """The most resident memory this process ever had, in bytes, as the kernel counted it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not say how much memory this process had")


def main() -> None:
    """Do one job."""
    job: Job = json.load(sys.stdin)
    if sys.argv[1] != "bare":
        # Lifeboat imports the encryption libraries late, when bytes are about to move; here they count as imports.
        import aws_cryptographic_material_providers.mpl  # noqa: F401
        import aws_encryption_sdk  # noqa: F401
    repository = _opened(job)
    started = time.monotonic()
    figures = VERBS[sys.argv[1]](repository, job)
    ended = time.monotonic()
    figures |= {"start_up": started - BEGUN, "seconds": ended - started, "peak_memory": peak_memory()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
