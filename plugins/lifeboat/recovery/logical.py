"""The restore test of a logical archive: brought back into an empty scratch server, where every row is compared with
what was counted, and fingerprinted, when the archive was made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from lifeboat.postgres.client_programs import client_programs
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.finding_programs import server_programs
from lifeboat.postgres.logical_details import logical_details
from lifeboat.postgres.logical_planning import LogicalPlan
from lifeboat.postgres.logical_preparing import prepare
from lifeboat.postgres.logical_proof import RestoredArchive
from lifeboat.postgres.logical_restore import explained, make_globals, restore_logical
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.scratch_server import SUPERUSER, parameters_of, scratch_server
from lifeboat.postgres.server_process import PORT, ServerProcess, server_room
from lifeboat.postgres.server_programs import run_as
from lifeboat.recovery.database_checks import DatabaseChecks
from lifeboat.recovery.evidence import Check
from lifeboat.recovery.restored import CameBack
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository


class LogicalTest:
    """Brings an archive back, and looks at it.

    Args:
        place: an empty directory of its own, which the server's user may enter; whoever made it removes it.
        binaries: the directory with PostgreSQL's programs; ``None``: where they usually are.
        user: to run the server as, where we are root.
        checks: what is looked at besides.
        tick: called often; may raise to stop.
    """

    def __init__(
        self,
        repository: SystemRepository,
        place: Path,
        binaries: Path | None,
        user: str | None,
        checks: DatabaseChecks,
        tick: Callable[[], None],
    ) -> None:
        self._repository = repository
        self._place = place
        self._binaries = binaries
        self._user = user
        self._checks = checks
        self._tick = tick

    def run(self, copy: Copy, came: CameBack) -> None:
        """Bring it back, and write what was seen into ``came``.

        Raises:
            RestoreError, ObjectDamaged, KeyUnavailable, PostgresError: it does not come back.
        """
        came.moment = came.data_until = copy.manifest.moment
        came.size = copy.manifest.plain_size
        at_least = logical_details(copy.manifest).dump_major
        binaries = server_programs(self._binaries, None, at_least)
        major = client_programs(binaries, at_least=at_least, why="read the archive").major
        owner = run_as(self._user, self._place)
        with (
            server_room(owner) as room,
            scratch_server(binaries, self._place, room, major, owner, self._tick) as server,
        ):
            restored = self._restore(copy, binaries, server)
            came.phases = dict(restored.phases)
            rows, tables = (sum(getattr(one, name) for one in restored.databases) for name in ("rows", "tables"))
            what = f"{rows:,} rows of {tables:,} tables, counted and fingerprinted as when the archive was made"
            came.checks.append(Check(name="every row", passed=True, what=what))
            names = {one.database: one.name for one in restored.databases}

            def session(database: str) -> psycopg.Connection[TupleRow]:
                return server.connect(SUPERUSER, names.get(database, database))

            databases = tuple(names.values()) or ("postgres",)
            opened = OpenServer(binaries, room, PORT, SUPERUSER, databases, owner, server.session_options, session)
            came.checks += self._checks.look(opened)
            came.beat = self._checks.beat

    def _restore(self, copy: Copy, binaries: Path, server: ServerProcess) -> RestoredArchive:
        plan = self._plan(copy, binaries, server)
        with explained(), connect_sql(parameters_of(server), tick=self._tick) as admin:
            # Tablespaces lie where they lay on the lost server, which may be a living one's directory.
            make_globals(self._repository, plan, admin, tablespaces=False)
        plan = self._plan(copy, binaries, server)
        for obstacle in plan.obstacles:
            raise obstacle
        return restore_logical(
            self._repository, plan, lambda name: parameters_of(server, name or None), tick=self._tick
        )

    def _plan(self, copy: Copy, binaries: Path, server: ServerProcess) -> LogicalPlan:
        return prepare(self._repository, copy, parameters_of(server), binaries=binaries, tick=self._tick)
