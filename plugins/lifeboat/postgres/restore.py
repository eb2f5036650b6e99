"""A restore: from a plan to a data directory that is proven open.

    plan ─▶ room and destination ─▶ fetch, open, check and unpack ─┬─▶ ( combine ) ─▶ recover ─┬─▶ prove
                                                                   └─▶ stage WAL ──────────────┘
         ( ─▶ examine ) ─▶ sync ─▶ hand over

Everything is built beside the destination, and gets its name only when the recovered database has answered. What was
interrupted leaves nothing that looks whole, and is removed by the next try.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg

from lifeboat.errors import RestoreError
from lifeboat.postgres.base_backup import MANIFEST_STREAM
from lifeboat.postgres.combining import check_combined, combine
from lifeboat.postgres.connecting import TICK_SECONDS, no_tick
from lifeboat.postgres.destination import (
    Place,
    Request,
    check_destination,
    moved_tablespaces,
    tablespace_place,
    unfinished,
)
from lifeboat.postgres.fetching import Progress, fetch
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.recovery_server import EndedBeforeTarget, Recovered, RecoveryServer
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.room import whole_size
from lifeboat.postgres.server_process import PORT, server_room
from lifeboat.postgres.server_programs import check_combiner, check_ready, run_as
from lifeboat.postgres.staging import staging
from lifeboat.postgres.syncing import synced_at_the_end
from lifeboat.postgres.under_way import NO_LIMIT, UnderWay
from lifeboat.postgres.unpacking import Owner
from lifeboat.repository.system import SystemRepository

__all__ = ["Progress", "Request", "Restored", "check_destination", "moved_tablespaces", "restore", "tablespace_place"]


@dataclass
class Restored:
    """What a restore brought back, and how long each part took.

    Attributes:
        into: the data directory, stopped cleanly, ready to be started.
        recovered: how recovery ended.
        to_the_end: whether recovery went to the end of the proven WAL because nothing was committed after it and
            before the moment asked for.
        databases: which of them answered.
        phases: seconds by phase: ``fetch``, ``combine`` for a chain, ``stage``, ``replay``, ``check``, ``examine``
            where somebody looked closer, and ``swap`` where a data directory that was there gave way. WAL is staged
            while a chain is combined and while it is replayed; ``stage`` is what recovery had to wait for before it
            could begin.
        aside: where that one lies now; ``None``: none was there.
    """

    into: Path
    recovered: Recovered
    to_the_end: bool
    databases: tuple[str, ...]
    phases: dict[str, float]
    aside: Path | None = None

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
    compare: Callable[[Path], None] | None = None,
    examine: Callable[[OpenServer], None] | None = None,
    confirm: Callable[[Path], None] = lambda _into: None,
) -> Restored:
    """Carry out a plan.

    Args:
        progress: told the phase, what is done of it and how much there is.
        tick: called often; may raise to stop.
        compare: called with the data directory, PostgreSQL's manifest in it, before any server has begun in it.
        examine: called with the recovered server while it is open, once all of its databases have answered; what it
            changes there stays.
        confirm: called with the data directory once it has its name, stopped; when it raises, what was there before is
            there again.

    Raises:
        DestinationInUse: the destination is not empty, or a server runs in it; nothing was touched.
        NotEnoughDisk: before anything is fetched, or when the disk fills meanwhile.
        ObjectDamaged, VerificationFailed, KeyUnavailable: the copy is not good or can't be opened.
        RestoreError: the server could not recover the data, or did not get as far as it should.
    """
    check_destination(request, plan)
    owner = run_as(request.user, request.into.parent)
    facts = plan.base.details.server
    major = facts.major
    check_ready(request.binaries, major, request.into.parent, owner)
    if plan.base.below:
        check_combiner(request.binaries, major, owner)
    clock = _Phases(repository.outside.clock)
    with unfinished(request, plan, owner) as place, synced_at_the_end(place.roots) as sync:
        with clock.phase("fetch"):
            whole = compare is not None
            links = fetch(repository, plan, request.target, place, progress, tick, as_a_backup=whole)
        # Beside PostgreSQL's own programs, which need none of ours: beside the links it would slow both down.
        with staging(repository, plan, request.target, place) as wal:

            def look() -> None:
                tick()
                wal.advance()

            if links:
                with clock.phase("combine"):
                    _combine(links, plan, request, place, progress, look)
            if compare is not None:
                with clock.phase("examine"):
                    compare(place.data)
            # It speaks of what was backed up: of what is recovered it would be wrong.
            (place.data / MANIFEST_STREAM).unlink(missing_ok=True)
            _map_tablespaces(place)
            with clock.phase("stage"):
                wal.begin(progress, tick)
            # On a busy disk this takes as long as combining, and nobody needs to wait for it.
            with UnderWay("links", [place.remove_links], 1, patience=NO_LIMIT) as removing:
                with (
                    clock.phase("replay"),
                    server_room(owner) as room,
                    RecoveryServer(
                        request.binaries, place.data, room, facts, place.owner, synced_later=sync is not None
                    ) as server,
                ):
                    progress("replay", 0, 1)
                    try:
                        recovered, to_the_end = _recover(server, plan, wal.command, look, request.limit_seconds)
                    except RestoreError:
                        _keep_log(room, request)
                        raise
                    clock.turn("check")
                    progress("check", 0, 1)
                    databases = _prove(server, plan)
                    if examine is not None:
                        clock.turn("examine")
                        examine(_opened(server, request, plan, room, databases, owner, recovered.stopped_at))
                        clock.turn("check")
                    server.stop_cleanly()
                while not removing.wait(TICK_SECONDS):
                    tick()
        if sync is not None:
            with clock.phase("check"):
                # What nobody needs any more need not reach the disk.
                place.remove_staging()
                sync()
        if request.aside is None:
            replaced = place.hand_over(request, confirm)
        else:
            with clock.phase("swap"):
                progress("swap", 0, 1)
                replaced = place.hand_over(request, confirm)
    aside = request.aside if replaced else None
    return Restored(request.into, recovered, to_the_end, databases, clock.seconds, aside)


def _opened(
    server: RecoveryServer,
    request: Request,
    plan: RestorePlan,
    room: Path,
    databases: tuple[str, ...],
    owner: Owner | None,
    stopped_at: Lsn,
) -> OpenServer:
    superuser = plan.base.details.superuser
    session = partial(server.session, superuser)
    return OpenServer(
        request.binaries, room, PORT, superuser, databases, owner, server.session_options, session, stopped_at
    )


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


def _keep_log(room: Path, request: Request) -> None:
    log = room / "server.log"
    # The disk may be what failed; the error has the server's last words in any case.
    with suppress(OSError):
        shutil.copyfile(log, f"{request.into}.recovery.log")


def _combine(
    links: list[Path],
    plan: RestorePlan,
    request: Request,
    place: Place,
    progress: Progress,
    tick: Callable[[], None],
) -> None:
    base = plan.base
    total = sum(whole_size(base, tablespace.archive) for tablespace in base.details.tablespaces)
    done = 0

    def passed(size: int) -> None:
        nonlocal done
        done += size
        tick()
        progress("combine", min(done, total), total)

    progress("combine", 0, total)
    combine(links, place, request.binaries, base.details.server.major, place.root / "combine.log", tick=tick)
    check_combined(place.data, links, passed=passed)


def _map_tablespaces(place: Place) -> None:
    """Rewrite PostgreSQL's own map, from which the starting server makes the links to the tablespaces.

    Source: https://www.postgresql.org/docs/current/storage-file-layout.html
    """
    path = place.data / "tablespace_map"
    if not place.tablespaces:
        return
    places = sorted((tablespace.oid, tablespace.building) for tablespace in place.tablespaces)
    path.write_text("".join(f"{oid} {_escaped(str(folder))}\n" for oid, folder in places), encoding="utf-8")
    if place.owner is not None:
        os.chown(path, place.owner.uid, place.owner.gid)


def _escaped(path: str) -> str:
    return "".join(f"\\{character}" if character in "\n\r\\" else character for character in path)


def _recover(
    server: RecoveryServer, plan: RestorePlan, command: str, tick: Callable[[], None], limit_seconds: float
) -> tuple[Recovered, bool]:
    superuser = plan.base.details.superuser
    to_the_end = False
    try:
        recovered = server.recover(
            restore_command=command,
            timeline=plan.timeline,
            target=plan.target,
            superuser=superuser,
            tick=tick,
            limit_seconds=limit_seconds,
        )
    except EndedBeforeTarget:
        # Nothing was committed between the last record and the moment, and the WAL is proven to cover that moment:
        # the end of it is the moment asked for.
        to_the_end = True
        recovered = server.recover(
            restore_command=command,
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
    ends behind a record that closes its segment, and a timeline that was left ends behind a record as well."""
    if recovered.stopped_at < plan.end_lsn:
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
                # -2 marks a database whose DROP was cut short on the lost server: nobody can connect to it.
                "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY 1"
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
