"""A restore: from a plan to a data directory that is proven open.

    plan ─▶ room and destination ─▶ fetch, open, check and unpack ─▶ stage WAL ─▶ recover ─▶ prove ─▶ hand over

Everything is built beside the destination, and gets its name only when the recovered database has answered. What was
interrupted leaves nothing that looks whole, and is removed by the next try.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from lifeboat.errors import DestinationInUse, NotEnoughDisk, RestoreError
from lifeboat.postgres.base_backup import MANIFEST_STREAM
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.details import Tablespace
from lifeboat.postgres.recovery_server import EndedBeforeTarget, Recovered, RecoveryServer, check_ready, run_as
from lifeboat.postgres.restore_planning import RestorePlan, Stage
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.postgres.tar_check import check_archives
from lifeboat.postgres.unpacking import Owner, Unpacker
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened
from lifeboat.targets.target import Readable

STAGED_SIDE_BY_SIDE = 4
RECOVERY_SECONDS = 24 * 3600.0
UNFINISHED = ".lifeboat-unfinished"
TABLESPACES = ".tablespaces"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """Where a restore goes.

    Attributes:
        target: the target to fetch from.
        into: the data directory to be made; it must not exist, or be empty.
        binaries: the directory with PostgreSQL's server programs, of the backup's major version.
        tablespaces: where the tablespaces go, by their location on the lost server. Those not named go below
            ``<into>.tablespaces/``.
        user: the user to run the server as and to give the files to, when we are root.
        limit_seconds: how long recovery may take.
    """

    target: str
    into: Path
    binaries: Path
    tablespaces: Mapping[str, Path] = field(default_factory=dict)
    user: str | None = None
    limit_seconds: float = RECOVERY_SECONDS


@dataclass
class Restored:
    """What a restore brought back, and how long each part took.

    Attributes:
        into: the data directory, stopped cleanly, ready to be started.
        recovered: how recovery ended.
        to_the_end: whether recovery went to the end of the proven WAL because nothing was committed after it and
            before the moment asked for.
        databases: which of them answered.
        phases: seconds by phase: ``fetch``, ``stage``, ``replay``, ``check``.
    """

    into: Path
    recovered: Recovered
    to_the_end: bool
    databases: tuple[str, ...]
    phases: dict[str, float]

    @property
    def seconds(self) -> float:
        """All phases together: the measured recovery time."""
        return sum(self.phases.values())


def restore(
    repository: SystemRepository,
    plan: RestorePlan,
    request: Request,
    *,
    progress: Progress = lambda _phase, _done, _total: None,
    tick: Callable[[], None] = no_tick,
) -> Restored:
    """Carry out a plan.

    Args:
        progress: told the phase, what is done of it and how much there is.
        tick: called often; may raise to stop.

    Raises:
        DestinationInUse: the destination is not empty; nothing was touched.
        NotEnoughDisk: before anything is fetched, or when the disk fills meanwhile.
        ObjectDamaged, VerificationFailed, KeyUnavailable: the copy is not good or can't be opened.
        RestoreError: the server could not recover the data, or did not get as far as it should.
    """
    _check_destination(request, plan)
    owner = run_as(request.user, request.into.parent)
    check_ready(request.binaries, plan.base.details.server.major, request.into.parent, owner)
    clock = _Phases(repository.outside.clock)
    with _unfinished(request, owner) as place:
        with clock.phase("fetch"):
            _unpack(repository, plan, request, place, progress, tick)
        with clock.phase("stage"):
            _stage(repository, plan, request, place, progress, tick)
        with _room(owner) as room, clock.phase("replay"):
            progress("replay", 0, 1)
            server = RecoveryServer(request.binaries, place.data, room, plan.base.details.server, place.owner)
            with server:
                try:
                    recovered, to_the_end = _recover(server, plan, place, tick, request.limit_seconds)
                except RestoreError:
                    _keep_log(room, request)
                    raise
                clock.turn("check")
                progress("check", 0, 1)
                databases = _prove(server, plan)
        _hand_over(place, request)
    return Restored(request.into, recovered, to_the_end, databases, clock.seconds)


class _Phases:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._present = ""
        self._since = clock()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.turn(name)
        yield
        self.turn("")

    def turn(self, name: str) -> None:
        now = self._clock()
        if self._present:
            passed: timedelta = now - self._since
            self.seconds[self._present] = self.seconds.get(self._present, 0.0) + passed.total_seconds()
        self._present, self._since = name, now


@dataclass(frozen=True)
class _Place:
    """A restore in the making."""

    root: Path
    tablespaces: Path
    owner: Owner | None

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def staging(self) -> Path:
        return self.root / "wal"


def _check_destination(request: Request, plan: RestorePlan) -> None:
    into = request.into
    if not into.is_absolute():
        raise RestoreError(f"The destination {into} is not an absolute path.", "Give the whole path.")
    if into.is_symlink() or (into.exists() and not into.is_dir()):
        raise DestinationInUse(f"{into} is there and is no directory.", "Name another destination.")
    if into.is_dir() and any(into.iterdir()):
        raise DestinationInUse(
            f"The destination {into} is not empty.",
            "Nothing was touched. Name a directory that is empty or does not exist; move old data aside yourself, so "
            "that nobody can say it was lost here.",
        )
    for tablespace in _moved(plan):
        place = _tablespace_place(tablespace, request)
        if place.is_dir() and any(place.iterdir()):
            raise DestinationInUse(
                f"{place}, where the tablespace {tablespace.location} is to go, is not empty.",
                "Name another place for it with --tablespace OLD=NEW.",
            )
    parent = into.parent
    if not parent.is_dir():
        raise RestoreError(f"{parent} is no directory.", "Make it, or mount it, first.")
    free = shutil.disk_usage(parent).free
    if free < plan.room_bytes:
        raise NotEnoughDisk(
            f"The restore needs {plan.room_bytes:,} bytes in {parent}; {free:,} are free.",
            "Make room, or name another destination. Nothing was fetched.",
        )


def _moved(plan: RestorePlan) -> list[Tablespace]:
    return [
        tablespace
        for tablespace in plan.base.details.tablespaces
        if tablespace.oid is not None and not tablespace.in_place
    ]


def _tablespace_place(tablespace: Tablespace, request: Request) -> Path:
    named = request.tablespaces.get(tablespace.location or "")
    return named if named is not None else Path(f"{request.into}{TABLESPACES}") / str(tablespace.oid)


@contextmanager
def _unfinished(request: Request, owner: Owner | None) -> Iterator[_Place]:
    root = Path(f"{request.into}{UNFINISHED}")
    place = _Place(root, Path(f"{request.into}{TABLESPACES}"), owner)
    _remove(root)
    root.mkdir(mode=0o700)
    for folder in (place.data, place.staging):
        folder.mkdir(mode=0o700)
    if owner is not None:
        for folder in (root, place.data, place.staging):
            os.chown(folder, owner.uid, owner.gid)
    try:
        yield place
    except BaseException:
        _remove(root)
        _remove(place.tablespaces)
        raise
    _remove(root)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


@contextmanager
def _room(owner: Owner | None) -> Iterator[Path]:
    """A private directory for the server's socket and settings: short, since a socket's path has at most 107 bytes."""
    room = Path(tempfile.mkdtemp(prefix="lifeboat-"))
    if owner is not None:
        os.chown(room, owner.uid, owner.gid)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _keep_log(room: Path, request: Request) -> None:
    log = room / "server.log"
    if log.exists():
        shutil.copyfile(log, f"{request.into}.recovery.log")


def _unpack(
    repository: SystemRepository,
    plan: RestorePlan,
    request: Request,
    place: _Place,
    progress: Progress,
    tick: Callable[[], None],
) -> None:
    manifest = plan.base.manifest
    origin = origin_of(repository, request.target, plan.base.copy)
    moved = {tablespace.oid: _tablespace_place(tablespace, request) for tablespace in _moved(plan) if tablespace.oid}
    for folder in moved.values():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if place.owner is not None:
            for made in (folder, folder.parent):
                os.chown(made, place.owner.uid, place.owner.gid)
    unpacker = Unpacker(place.data, moved, place.owner)
    total = plan.base.details.plain_total

    def archives() -> Iterator[tuple[str, Readable]]:
        for tablespace in plan.base.details.tablespaces:
            with opened(manifest.stream(tablespace.archive), origin) as stream:
                yield tablespace.archive, stream

    def watch() -> None:
        tick()
        progress("fetch", unpacker.written, total)

    with opened(manifest.stream(MANIFEST_STREAM), origin) as listing:
        check_archives(archives(), listing, unpacker=unpacker, tick=watch)
    _map_tablespaces(place, moved)


def _map_tablespaces(place: _Place, moved: Mapping[int, Path]) -> None:
    """Rewrite PostgreSQL's own map, from which the starting server makes the links to the tablespaces.

    Source: https://www.postgresql.org/docs/current/storage-file-layout.html
    """
    path = place.data / "tablespace_map"
    if not moved:
        return
    lines = [f"{oid} {_escaped(str(folder))}\n" for oid, folder in sorted(moved.items())]
    path.write_text("".join(lines), encoding="utf-8")
    if place.owner is not None:
        os.chown(path, place.owner.uid, place.owner.gid)


def _escaped(path: str) -> str:
    return "".join(f"\\{character}" if character in "\n\r\\" else character for character in path)


def _stage(
    repository: SystemRepository,
    plan: RestorePlan,
    request: Request,
    place: _Place,
    progress: Progress,
    tick: Callable[[], None],
) -> None:
    stages = [*plan.histories, *plan.stages]
    size = plan.base.details.server.wal_segment_size

    def fetch(stage: Stage) -> None:
        copy = stage.run.copy
        path = place.staging / stage.name
        stream = copy.manifest.stream(stage.stream)
        with opened(stream, origin_of(repository, request.target, copy)) as plain, path.open("xb") as file:
            while piece := plain.read(1024 * 1024):
                file.write(piece)
            if stage.stream.endswith(".partial"):
                # Recovery wants whole segments; what was never written there is zero.
                file.truncate(size)
        if place.owner is not None:
            os.chown(path, place.owner.uid, place.owner.gid)

    with ThreadPoolExecutor(STAGED_SIDE_BY_SIDE, thread_name_prefix="stage") as pool:
        jobs = [pool.submit(fetch, stage) for stage in stages]
        try:
            for done, job in enumerate(jobs, 1):
                job.result()
                tick()
                progress("stage", done, len(jobs))
        except OSError as error:
            raise NotEnoughDisk(f"WAL can't be staged in {place.staging}: {error.strerror}.", "Make room.") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _recover(
    server: RecoveryServer, plan: RestorePlan, place: _Place, tick: Callable[[], None], limit_seconds: float
) -> tuple[Recovered, bool]:
    superuser = plan.base.details.superuser
    to_the_end = False
    try:
        recovered = server.recover(
            staging=place.staging,
            timeline=plan.timeline,
            target=plan.target,
            superuser=superuser,
            tick=tick,
            limit_seconds=limit_seconds,
        )
    except EndedBeforeTarget:
        if "recovery_target_name" in plan.target:
            raise
        # Nothing was committed between the last record and the moment, and the WAL is proven to cover that moment:
        # the end of it is the moment asked for.
        to_the_end = True
        recovered = server.recover(
            staging=place.staging,
            timeline=plan.timeline,
            target={},
            superuser=superuser,
            tick=tick,
            limit_seconds=limit_seconds,
        )
    if to_the_end or not plan.target:
        _insist_on_the_end(recovered, plan)
    return recovered, to_the_end


def _insist_on_the_end(recovered: Recovered, plan: RestorePlan) -> None:
    """PostgreSQL takes WAL that it can't read for the end of WAL, and opens. We know where the end is: each run of WAL
    ends behind a record that closes its segment, unless its timeline ended there."""
    piece = any(stage.stream.endswith(".partial") for stage in plan.stages)
    size = plan.base.details.server.wal_segment_size
    wanted = plan.end_lsn - plan.end_lsn % size if piece else plan.end_lsn
    if recovered.stopped_at < wanted:
        raise RestoreError(
            f"Recovery stopped at {recovered.stopped_at}, though there is WAL up to {plan.end_lsn}.",
            "A WAL segment is damaged or does not fit. `lifeboat verify --deep` names it; restore from another target.",
        )


def _prove(server: RecoveryServer, plan: RestorePlan) -> tuple[str, ...]:
    """Insist on every database's answering, and leave everything on the disk."""
    superuser = plan.base.details.superuser
    answered: list[str] = []
    try:
        with server.session(superuser) as session:
            names = session.execute(
                "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn ORDER BY 1"
            ).fetchall()
        for (name,) in names:
            with server.session(superuser, str(name)) as session:
                session.execute("SELECT count(*) FROM pg_catalog.pg_class").fetchone()
            answered.append(str(name))
        with server.session(superuser) as session:
            session.execute("CHECKPOINT")
    except psycopg.Error as error:
        raise RestoreError(
            f"The recovered server does not answer for every database: {error.diag.message_primary or error}.",
            "Restore from another recovery point or another target.",
        ) from error
    return tuple(answered)


def _hand_over(place: _Place, request: Request) -> None:
    if request.into.is_dir():
        request.into.rmdir()
    place.data.rename(request.into)
