"""The restore test of a logical archive on a staging server: brought back into new databases of a server that others
use, looked at as on a scratch server, and dropped in every case.

Nothing else is made there: no role, no tablespace. So everything belongs to the connection's role, and nobody else may
enter. What a killed test has left is found by its mark, and dropped by the next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.errors import Cancelled, ConnectionUnknown, LifeboatError, PostgresError, RestoreError
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.client_programs import ProgramFailed, Programs, access_for, run_program
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.living_server import Living, living_identifier
from lifeboat.postgres.logical_databases import is_superuser
from lifeboat.postgres.logical_details import logical_details
from lifeboat.postgres.logical_marks import TEST, hold, mark_of, marked_name
from lifeboat.postgres.logical_planning import DatabasePlan, LogicalPlan
from lifeboat.postgres.logical_preparing import prepare
from lifeboat.postgres.logical_proof import RestoredArchive
from lifeboat.postgres.logical_restore import explained, restore_logical
from lifeboat.postgres.parameters import ConnectionParameters, Tls, connection_parameters
from lifeboat.postgres.unpacking import Owner
from lifeboat.recovery.database_checks import LAST_WORDS, DatabaseChecks, silence_event_triggers
from lifeboat.recovery.evidence import Check
from lifeboat.recovery.restored import CameBack
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository

Session = psycopg.Connection[TupleRow]
REMOVED = "removed"
_LIBRARIES = ("local_preload_libraries", "session_preload_libraries")


@dataclass(frozen=True)
class Staging:
    """A staging server, and the source whose archives come back to it.

    Attributes:
        source, policy: which source.
        connection: the id of the connection to the server.
        run: who tests, in words: they stand in the comment of what is made there.
    """

    repository: SystemRepository
    source: str
    policy: PostgresSource
    connection: str
    run: str

    def parameters(self, database: str = "", options: str = "") -> ConnectionParameters:
        """libpq's parameters for a database of it; for ``""`` the connection's own."""
        made = self._to(self.connection, database or None)
        return replace(made, keywords={**made.keywords, "options": options}) if options else made

    def living(self, copy: Copy, tick: Callable[[], None]) -> Living:
        """What is known of the server that must not be restored to: the source's own."""
        known = logical_details(copy.manifest).server.system_identifier
        try:
            source = self._to(self.policy.connection, None)
        except (ConnectionUnknown, PostgresError):
            return Living({known})
        now = living_identifier(source, tick)
        return Living({known, *([now] if now is not None else [])}, source.address)

    def _to(self, connection: str, database: str | None) -> ConnectionParameters:
        return connection_parameters(
            self.repository.outside.connection(connection),
            Tls(self.policy.tls, self.policy.tls_minimum),
            application_name="lifeboat test",
            database=database,
        )


class StagingTest:
    """Brings an archive back, looks at it, and drops it.

    Args:
        place: an empty directory of its own, for a command to begin in.
        binaries: the directory with PostgreSQL's programs; ``None``: where they usually are.
        owner: the user that the policy's command runs as, where we are root.
        checks: what is looked at besides the rows.
        tick: called often; may raise to stop.
    """

    def __init__(
        self,
        staging: Staging,
        place: Path,
        binaries: Path | None,
        owner: Owner | None,
        checks: DatabaseChecks,
        tick: Callable[[], None],
    ) -> None:
        self._staging = staging
        self._place = place
        self._binaries = binaries
        self._owner = owner
        self._checks = checks
        self._tick = tick

    def run(self, copy: Copy, came: CameBack) -> None:
        """Bring it back, and write what was seen into ``came``.

        Raises:
            RestoreError, ObjectDamaged, KeyUnavailable, PostgresError: it does not come back; or the server is the
                source's own, and nothing was made there.
        """
        came.moment = came.data_until = copy.manifest.moment
        came.size = copy.manifest.plain_size
        living = self._staging.living(copy, self._tick)
        with explained(), connect_sql(self._staging.parameters(), tick=self._tick) as session:
            living.refuse(session, self._staging.parameters())
            superuser = is_superuser(session)
            plan = self._plan(copy, session)
            names = [one.name for one in plan.databases]
            came.place = f"{self._staging.connection} at {self._staging.parameters().address}, as {', '.join(names)}"
            for obstacle in plan.obstacles:
                raise obstacle
            for name in names:
                hold(session, name)
            try:
                restored = self._restore(plan, living, came, superuser=superuser)
                self._look(plan, restored, came, superuser=superuser)
            except BaseException as failure:
                self._drop_after(failure, plan)
                raise
            came.checks.append(self._removed(plan, restored))

    def _plan(self, copy: Copy, session: Session) -> LogicalPlan:
        staging = self._staging

        def called(database: str, _moment: datetime) -> str:
            return marked_name(TEST, database)

        plan = prepare(
            staging.repository,
            copy,
            staging.parameters(),
            binaries=self._binaries,
            owners=False,
            called=called,
            tick=self._tick,
        )
        names = sorted({setting.partition("=")[0] for one in plan.databases for setting in one.archive.settings})
        rows = session.execute(
            "SELECT name FROM pg_catalog.pg_settings WHERE name = ANY (%s) AND context <> 'user'", [names]
        ).fetchall()
        # What may load the lost system's libraries, or takes a right that this role need not have, stays out.
        left_out = {*plan.home.unknown_settings, *_LIBRARIES, *(str(name) for (name,) in rows)}
        return replace(
            plan,
            databases=tuple(self._marked(one) for one in plan.databases),
            home=replace(plan.home, unknown_settings=frozenset(left_out)),
            tablespaces=False,
        )

    def _marked(self, one: DatabasePlan) -> DatabasePlan:
        """A plan whose database keeps saying what it is, once it is proven."""
        alone = {"comment": self._mark(one.name), "role_settings": (), "privileges": None, "connection_limit": -1}
        return replace(one, archive=one.archive.model_copy(update=alone))

    def _mark(self, name: str) -> str:
        return mark_of(name, self._staging.repository.system, self._staging.run)

    def _restore(self, plan: LogicalPlan, living: Living, came: CameBack, *, superuser: bool) -> RestoredArchive:
        staging, options = self._staging, _options(plan, superuser=superuser)
        restored = restore_logical(
            staging.repository,
            plan,
            lambda name: staging.parameters(name, options),
            side_by_side=staging.policy.logical.side_by_side,
            tick=self._tick,
            insist=lambda admin: living.refuse(admin, staging.parameters()),
            private=True,
        )
        came.phases = dict(restored.phases)
        rows, tables = (sum(getattr(one, name) for one in restored.databases) for name in ("rows", "tables"))
        what = f"{rows:,} rows of {tables:,} tables, counted and fingerprinted as when the archive was made"
        came.checks.append(Check(name="every row", passed=True, what=what))
        return restored

    def _look(self, plan: LogicalPlan, restored: RestoredArchive, came: CameBack, *, superuser: bool) -> None:
        staging, options = self._staging, _options(plan, superuser=superuser)
        names = {one.database: one.name for one in restored.databases}

        def session(database: str) -> Session:
            # Settings of the database hold, as an application has them.
            conninfo = staging.parameters(names.get(database, database), options).conninfo()
            return psycopg.connect(conninfo, autocommit=True)

        if superuser:
            # amcheck's extension, and its functions, are a superuser's.
            silence_event_triggers(list(names.values()), session)
            came.checks += [self._amcheck(plan.programs, name, options) for name in names.values()]
        first, *_ = names.values()
        where = staging.parameters(options=options).environment(first) | {
            "LIFEBOAT_DATABASES": " ".join(names.values()),
            "LIFEBOAT_BINARIES": str(plan.programs.directory),
        }
        came.checks += self._checks.ask(session, where, self._owner)
        came.beat = self._checks.beat

    def _amcheck(self, programs: Programs, name: str, options: str) -> Check:
        told = bytearray()
        with access_for(self._staging.parameters(options=options)) as access:
            arguments = [
                programs.path("pg_amcheck"),
                *("--no-password", "--install-missing", "--parent-check", access.database(name)),
            ]
            try:
                run_program(arguments, access=access, take=told.extend, tick=self._tick)
            except PostgresError as error:
                words = error.words if isinstance(error, ProgramFailed) else error.what
                lines = [*told.decode("utf-8", "replace").splitlines(), *words.splitlines()]
                return Check(name="pg_amcheck", passed=False, what=" | ".join(lines[-LAST_WORDS:]))
        return Check(name="pg_amcheck", passed=True, what="tables and indexes are whole")

    def _removed(self, plan: LogicalPlan, restored: RestoredArchive) -> Check:
        said = [f"{name}, which killed work had left, was dropped before" for name in restored.gone]
        try:
            self._drop(plan)
        except (LifeboatError, psycopg.Error) as error:
            return Check(name=REMOVED, passed=False, what=_still_there(plan, error))
        what = "; ".join(["what was restored is dropped again", *said, *restored.left])
        return Check(name=REMOVED, passed=not restored.left, what=what)

    def _drop_after(self, failure: BaseException, plan: LogicalPlan) -> None:
        """Drop it although something failed; raises ``RestoreError``, or ``Cancelled``, when that fails as well."""
        try:
            self._drop(plan)
        except (LifeboatError, psycopg.Error) as error:
            left = _still_there(plan, error)
            if isinstance(failure, Cancelled):
                raise Cancelled(f"{failure} {left}") from failure
            why = failure.what if isinstance(failure, LifeboatError) else type(failure).__name__
            raise RestoreError(f"{why} {left}", getattr(failure, "remedy", "")) from failure

    def _drop(self, plan: LogicalPlan) -> None:
        """Drop what bears our names and our mark. Nothing stops this."""
        with connect_sql(self._staging.parameters()) as session:
            for one in plan.databases:
                row = session.execute(
                    "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [one.name]
                ).fetchone()
                if row is not None and row[0] == self._mark(one.name):
                    session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(one.name)))


def _options(plan: LogicalPlan, *, superuser: bool) -> str:
    """libpq's ``options`` for all sessions of ours: no event trigger of the lost system's fires at a login. Only a
    superuser may ask for that, and only a superuser can have brought such a trigger back."""
    return "-c event_triggers=off" if superuser and plan.home.major >= 17 else ""


def _still_there(plan: LogicalPlan, error: Exception) -> str:
    names = ", ".join(one.name for one in plan.databases)
    return f"On the staging server may still be: {names}; the next restore test drops what is. ({error})"
