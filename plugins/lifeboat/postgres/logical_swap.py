"""Restored databases get their names, and those that had them give way: in one transaction, and back in one.

Renaming holds a lock that keeps new sessions out, and waits five seconds for the old ones to leave; what is left in it
is ended meanwhile, from another session. So nothing has to be closed beforehand, and nothing to be opened again after a
kill: until the commit the name answers with the old database, from then on with the new one.
Source: https://www.postgresql.org/docs/current/sql-alterdatabase.html, RenameDatabase() in the server's sources
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.errors import LifeboatError, RestoreError
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.logical_new_database import Settling, finish
from lifeboat.postgres.logical_planning import DatabasePlan
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.refusals import clean_message

Session = psycopg.Connection[TupleRow]
Tick = Callable[[], None]
TRIES = 3
_LOCK = "SET lock_timeout TO '30s'"
_END = """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datid = ANY (%s::oid[]) AND pid <> pg_backend_pid()"""


@dataclass(frozen=True)
class Built:
    """A proven database that has not got its name yet.

    Attributes:
        plan: what it is, and what it replaces.
        unproven: its name until then.
        oid: what it is known by whatever it is called.
    """

    plan: DatabasePlan
    unproven: str
    oid: int

    @property
    def old_oid(self) -> int | None:
        """Of the database that gives way."""
        return None if self.plan.replaces is None else self.plan.replaces.oid


def oid_of(session: Session, name: str) -> int:
    """The number of a database; 0 where there is none of that name."""
    row = session.execute("SELECT oid::int8 FROM pg_database WHERE datname = %s", [name]).fetchone()
    return 0 if row is None else int(row[0])


def give_names(
    admin: Session, maintenance: ConnectionParameters, built: Sequence[Built], settling: Settling, tick: Tick
) -> int:
    """Give all of them their names, or none; returns how many sessions of the old ones were ended for that.

    Args:
        admin: a session that is in none of them: it ends the others.
        maintenance: of a database that is none of them.

    Raises:
        RestoreError: somebody is in an old one who can't be ended; nothing was renamed.
        psycopg.Error: the server refused something; nothing was renamed.
    """

    def rename(session: Session) -> None:
        for one in built:
            if one.plan.replaces is not None:
                _insist_on(session, one.plan.name, one.plan.replaces.oid)
                _rename(session, one.plan.name, one.plan.replaces.aside)
            finish(session, one.plan, one.unproven, settling)

    old = [one.old_oid for one in built if one.old_oid is not None]
    return _renamed(admin, maintenance, old, rename, tick)


def look(parameters: ConnectionParameters, one: Built, tick: Tick) -> None:
    """The last look, as an application has it: through the name.

    Raises:
        RestoreError: it is not what was proven.
        LifeboatError: it lets nobody in.
    """
    wanted = {(table.schema_name, table.name) for table in one.plan.contents.tables}
    with connect_sql(parameters, tick=tick) as session:
        if oid_of(session, str(session.info.dbname)) != one.oid:
            raise RestoreError(f"The name {one.plan.name} leads to another database than the one that was proven.")
        rows = session.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p')"
        ).fetchall()
    if missing := sorted(f"{schema}.{name}" for schema, name in wanted - {(str(a), str(b)) for a, b in rows}):
        raise RestoreError(f"The database {one.plan.name} lacks {', '.join(missing[:10])}.")


def take_back(
    maintenance: ConnectionParameters, built: Sequence[Built], unproven: Sequence[str], failure: BaseException
) -> None:
    """Undo whatever was done, by the databases' numbers: the old ones have their names again, the new ones are dropped.

    Nothing stops this.

    Args:
        built: those that may have got their names.
        unproven: the names of all that was made, also before it had a number.
        failure: why.

    Raises:
        RestoreError: an old database could not get its name back; the text says by which statements it does.
    """
    try:
        with connect_sql(maintenance) as admin:
            # A commit whose answer nobody heard may come about while we look: then the names are others afterwards.
            for _ in range(TRIES):
                rows = admin.execute("SELECT oid::int8, datname FROM pg_database").fetchall()
                names = {int(oid): str(name) for oid, name in rows}
                if swapped := [one for one in built if names.get(one.oid) == one.plan.name]:
                    _swap_back(admin, maintenance, swapped)
                elif not set(unproven) & set(names.values()):
                    return
                for name in unproven:
                    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
    except (LifeboatError, psycopg.Error) as error:
        if not any(one.plan.replaces is not None for one in built):
            # The failure itself is what the caller must hear of. The databases' name says what they are, and the next
            # restore's plan names them.
            return
        why = failure.what if isinstance(failure, LifeboatError) else clean_message(str(failure))
        raise RestoreError(
            f"{why.rstrip('.')}. And whether all of it could be taken back is not known: {error}", _by_hand(built)
        ) from failure


def _swap_back(admin: Session, maintenance: ConnectionParameters, swapped: Sequence[Built]) -> None:
    def rename(session: Session) -> None:
        for one in swapped:
            _rename(session, one.plan.name, one.unproven)
            if one.plan.replaces is not None:
                _rename(session, one.plan.replaces.aside, one.plan.name)

    oids = [oid for one in swapped for oid in (one.oid, one.old_oid) if oid is not None]
    _renamed(admin, maintenance, oids, rename, no_tick)


def _by_hand(built: Sequence[Built]) -> str:
    statements = "; ".join(
        f"ALTER DATABASE {_quoted(one.plan.name)} RENAME TO {_quoted(one.unproven)}; "
        f"ALTER DATABASE {_quoted(one.plan.replaces.aside)} RENAME TO {_quoted(one.plan.name)}"
        for one in built
        if one.plan.replaces is not None
    )
    return (
        f"Look which is which (\\l+ in psql): a database whose name begins with lifeboat_unproven is to be dropped. "
        f"Where the old one was renamed already, BEGIN; {statements}; COMMIT; brings it back."
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _renamed(
    admin: Session, maintenance: ConnectionParameters, leaving: Sequence[int], rename: Callable[[Session], None],
    tick: Tick,
) -> int:  # fmt: skip
    """Rename in one transaction while the sessions of some databases are ended; returns how many of them were."""
    ended: set[int] = set()

    def end() -> None:
        tick()
        if leaving:
            ended.update(int(pid) for pid, told in admin.execute(_END, [list(leaving)]).fetchall() if told)

    for left in reversed(range(TRIES)):
        with connect_sql(maintenance, tick=end) as session:
            session.execute(_LOCK)
            session.execute("BEGIN")
            try:
                rename(session)
            except psycopg.errors.ObjectInUse as error:
                session.execute("ROLLBACK")
                if not left:
                    raise _in_use(admin, leaving, error) from error
                continue
            session.execute("COMMIT")
            break
    return len(ended)


def _in_use(admin: Session, leaving: Sequence[int], error: psycopg.Error) -> RestoreError:
    rows = admin.execute(
        "SELECT datname, pid, coalesce(usename::text, backend_type) FROM pg_stat_activity WHERE datid = ANY (%s::oid[])"
        " UNION ALL SELECT p.database, 0, 'prepared transaction ' || gid FROM pg_prepared_xacts p"
        " JOIN pg_database d ON d.datname = p.database WHERE d.oid = ANY (%s::oid[])",
        [list(leaving), list(leaving)],
    ).fetchall()
    who = ", ".join(f"{user} in {name} (process {pid})" if pid else f"{user} in {name}" for name, pid, user in rows)
    return RestoreError(
        f"Not every session could be ended: {who or error.diag.message_detail or error.diag.message_primary}. Nothing "
        "was renamed.",
        "End them yourself, then restore again.",
    )


def _insist_on(session: Session, name: str, oid: int) -> None:
    if oid_of(session, name) != oid:
        raise RestoreError(
            f"{name} is not the database any more that the plan was made for. Nothing was renamed.",
            "Look at the plan again.",
        )


def _rename(session: Session, name: str, to: str) -> None:
    session.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to)))
