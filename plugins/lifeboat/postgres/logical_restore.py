"""A logical archive brought back into a server: into new databases, proven before they get their names.

Each database is made under a name that nobody uses, filled by ``pg_restore`` straight from the streams, and compared
table by table with what was counted when it was read. Only then is it renamed; whatever fails before drops it. What has
the name already gives way in the same transaction, where the plan says so.
Source: https://www.postgresql.org/docs/current/app-pgrestore.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.rows import TupleRow

from lifeboat.errors import RestoreError
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.logical_contents import UNBOUNDED_SECONDS, reading_session
from lifeboat.postgres.logical_details import GLOBALS
from lifeboat.postgres.logical_filling import Filler, Progress
from lifeboat.postgres.logical_globals import missing_statements
from lifeboat.postgres.logical_marks import UNPROVEN, drop_remains, hold, mark_of, marked_name
from lifeboat.postgres.logical_new_database import Settling, create, rehearse
from lifeboat.postgres.logical_planning import DatabasePlan, LogicalPlan
from lifeboat.postgres.logical_proof import LOCK_SECONDS, RestoredArchive, RestoredDatabase, passed, prove
from lifeboat.postgres.logical_replacing import maintenance_database
from lifeboat.postgres.logical_swap import Built, give_names, look, oid_of, take_back
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.refusals import clean_message
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened

Session = psycopg.Connection[TupleRow]
Open = Callable[[str], ConnectionParameters]


def restore_logical(
    repository: SystemRepository,
    plan: LogicalPlan,
    open_database: Open,
    *,
    side_by_side: int = 2,
    progress: Progress = lambda _phase, _done, _total: None,
    tick: Callable[[], None] = no_tick,
    examine: Callable[[str], None] = lambda _name: None,
    insist: Callable[[Session], None] = lambda _admin: None,
    private: bool = False,
) -> RestoredArchive:
    """Bring databases back, prove them, and give them their names; what has a name already gives way where the plan
    says so, and has it back when the last look fails.

    Args:
        open_database: libpq's parameters for a database of the server; for ``""`` the connection's own.
        examine: called with each database's name once it has it; when it raises, all of it is taken back.
        insist: called with the session that makes the databases, before it makes any; may raise to refuse the server.
        private: whether nobody but the connection's role may enter what is made.

    Raises:
        RestoreError: it did not work; no new database is left, and the old ones have their names.
        LifeboatError: the archive can't be read; likewise.
    """
    maintenance = open_database(maintenance_database(plan.databases, open_database("").keywords["dbname"]))
    names: list[str] = []
    built: list[Built] = []
    with explained(), connect_sql(maintenance, statement_seconds=UNBOUNDED_SECONDS, tick=tick) as admin:
        insist(admin)
        gone, left = drop_remains(admin, plan.home.remains, repository.system, open_database)
        made = make_globals(repository, plan, admin) if plan.globals_wanted else 0
        roles = {str(name) for (name,) in admin.execute("SELECT rolname FROM pg_roles").fetchall()}
        settling = Settling(plan.owners, roles, plan.home.unknown_settings)
        work = _Building(repository, plan, open_database, side_by_side, progress, tick, private=private)
        try:
            restored = [work.build(admin, database, settling, names, built) for database in plan.databases]
            begun = repository.outside.clock()
            if plan.replaces:
                progress("swap", 0, 1)
            ended = give_names(admin, maintenance, built, settling, tick)
            for one in built:
                if one.plan.replaces is not None:
                    look(open_database(one.plan.name), one, tick)
                examine(one.plan.name)
            if plan.replaces:
                progress("swap", 1, 1)
                passed(work.phases, "swap", begun, repository.outside.clock())
        except BaseException as failure:
            take_back(maintenance, built if len(built) == len(plan.databases) else (), names, failure)
            raise
    return RestoredArchive(tuple(restored), made, work.phases, ended, tuple(gone), tuple(left))


class _Building:
    """Builds and proves one database after the other, each under a name that nobody uses."""

    def __init__(
        self,
        repository: SystemRepository,
        plan: LogicalPlan,
        open_database: Open,
        side_by_side: int,
        progress: Progress,
        tick: Callable[[], None],
        *,
        private: bool,
    ) -> None:
        self._repository = repository
        self._plan = plan
        self._open = open_database
        self._side_by_side = side_by_side
        self._progress = progress
        self._tick = tick
        self._private = private
        self.phases: dict[str, float] = {}

    def build(
        self, admin: Session, database: DatabasePlan, settling: Settling, names: list[str], built: list[Built]
    ) -> RestoredDatabase:
        """Bring one back and prove it; ``names`` and ``built`` learn of it as it comes to be."""
        clock, plan, open_database, tick = self._repository.outside.clock, self._plan, self._open, self._tick
        name = marked_name(UNPROVEN, database.archive.name)
        hold(admin, name)
        names.append(name)
        begun = clock()
        mark = mark_of(name, self._repository.system, plan.copy.manifest.recovery_point)
        create(admin, name, database.archive, tablespace=plan.tablespaces, mark=mark, private=self._private)
        rehearse(admin, database, name, settling)
        filler = Filler(self._repository, plan, open_database(name), self._side_by_side, self._progress, tick)
        filler.fill(database, name)
        begun = passed(self.phases, "restore", begun, clock())
        self._progress("check", 0, 1)
        with reading_session(open_database(name), lock_seconds=LOCK_SECONDS, tick=tick) as session:
            proven = prove(session, database, "It is dropped again.")
            session.execute("COMMIT")
            # The planner shall know of the rows.
            session.execute("ANALYZE")
        built.append(Built(database, name, oid_of(admin, name)))
        self._progress("check", 1, 1)
        passed(self.phases, "check", begun, clock())
        return proven


@contextmanager
def explained() -> Iterator[None]:
    """The server's refusals as errors of ours."""
    try:
        yield
    except psycopg.Error as error:
        raise RestoreError(
            f"The server refused: {clean_message(error.diag.message_primary or str(error))}.",
            "Nothing was left there. Look at the server's log and at the connection's role.",
        ) from error


def make_globals(repository: SystemRepository, plan: LogicalPlan, admin: Session, *, tablespaces: bool = True) -> int:
    """Make the roles, and tablespaces, that the server lacks; returns how many statements that took.

    Raises:
        RestoreError: the server refused one.
    """
    script = globals_script(repository, plan.copy)
    roles = {str(name) for (name,) in admin.execute("SELECT rolname FROM pg_roles").fetchall()}
    spaces = {str(name) for (name,) in admin.execute("SELECT spcname FROM pg_tablespace").fetchall()}
    count = 0
    for statement in missing_statements(script, roles, spaces):
        if not tablespaces and " TABLESPACE " in statement[:24]:
            continue
        try:
            admin.execute(statement.encode())
        except psycopg.Error as error:
            # The statement may hold a password's hash: only its beginning is shown.
            begin = " ".join(statement.split(" ")[:3])
            raise RestoreError(
                f"{begin} … failed: {clean_message(error.diag.message_primary or str(error))}.",
                "Make it by hand (--show-globals prints all of them), or restore without it: --no-owner.",
            ) from error
        count += 1
    return count


def globals_script(repository: SystemRepository, copy: Copy) -> str:
    """Roles and tablespaces as ``pg_dumpall`` wrote them; with the roles' passwords as hashes."""
    with opened(copy.manifest.stream(GLOBALS), origin_of(repository, copy.target, copy)) as plain:
        return plain.read().decode("utf-8", "replace")
