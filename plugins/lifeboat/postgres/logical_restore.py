"""A logical archive brought back into a server: into new databases, proven before they get their names.

Each database is made under a name that nobody uses, filled by ``pg_restore`` straight from the streams, and compared
table by table with what was counted when it was read. Only then is it renamed; whatever fails before drops it.
Source: https://www.postgresql.org/docs/current/app-pgrestore.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.errors import LifeboatError, RestoreError
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.logical_contents import UNBOUNDED_SECONDS, reading_session
from lifeboat.postgres.logical_details import GLOBALS
from lifeboat.postgres.logical_filling import Filler, Progress
from lifeboat.postgres.logical_globals import missing_statements
from lifeboat.postgres.logical_naming import unproven_name
from lifeboat.postgres.logical_new_database import Settling, create, finish, rehearse
from lifeboat.postgres.logical_planning import DatabasePlan, LogicalPlan
from lifeboat.postgres.logical_proof import LOCK_SECONDS, RestoredArchive, RestoredDatabase, passed, prove
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
) -> RestoredArchive:
    """Bring databases back, prove them, and give them their names.

    Args:
        open_database: libpq's parameters for a database of the server; for ``""`` the connection's own.

    Raises:
        RestoreError: it did not work; no database is left.
        LifeboatError: the archive can't be read; no database is left.
    """
    clock = repository.outside.clock
    phases: dict[str, float] = {}
    with explained(), connect_sql(open_database(""), statement_seconds=UNBOUNDED_SECONDS, tick=tick) as admin:
        made = make_globals(repository, plan, admin) if plan.globals_wanted else 0
        roles = {str(name) for (name,) in admin.execute("SELECT rolname FROM pg_roles").fetchall()}
        settling = Settling(plan.owners, roles, plan.home.unknown_settings)
        built: list[tuple[DatabasePlan, str, RestoredDatabase]] = []
        try:
            for database in plan.databases:
                name = unproven_name(database.archive.name)
                built.append((database, name, RestoredDatabase(database.archive.name, database.name, 0, 0)))
                begun = clock()
                create(admin, name, database.archive, tablespace=plan.tablespaces)
                rehearse(admin, database, name, settling)
                filler = Filler(repository, plan, open_database(name), side_by_side, progress, tick)
                filler.fill(database, name)
                begun = passed(phases, "restore", begun, clock())
                progress("check", 0, 1)
                with reading_session(open_database(name), lock_seconds=LOCK_SECONDS, tick=tick) as session:
                    proven = prove(session, database, "It is dropped again.")
                    session.execute("COMMIT")
                    # The planner shall know of the rows.
                    session.execute("ANALYZE")
                built[-1] = (database, name, proven)
                progress("check", 1, 1)
                passed(phases, "check", begun, clock())
            # All of them get their names, or none.
            admin.execute("BEGIN")
            for database, name, _ in built:
                finish(admin, database, name, settling)
            admin.execute("COMMIT")
        except BaseException:
            _drop_all(open_database, [name for _, name, _ in built])
            raise
    return RestoredArchive(tuple(restored for _, _, restored in built), made, phases)


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


def _drop_all(open_database: Open, names: Sequence[str]) -> None:
    """Take everything back, over a connection of its own: the other one may be what failed. Nothing stops this."""
    try:
        with connect_sql(open_database("")) as session:
            for name in names:
                session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    except (LifeboatError, psycopg.Error):
        # The failure itself is what the caller must hear of. The databases' name says what they are, and the next
        # restore's plan names them.
        return
