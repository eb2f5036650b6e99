"""A logical archive, or some of its tables, brought into a database that is there: in one transaction, proven in it.

``pg_restore`` writes its script and this session runs it, so that definitions, rows, and the proof of all of them are
one transaction of ours: whatever fails, is cancelled or dies before its commit leaves the database as it was.
Source: https://www.postgresql.org/docs/current/app-pgrestore.html
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import psycopg
from psycopg import sql

from lifeboat.errors import RestoreError
from lifeboat.postgres.client_programs import ProgramFailed, run_program
from lifeboat.postgres.connecting import connect_sql, no_tick
from lifeboat.postgres.logical_contents import UNBOUNDED_SECONDS, Session, read_exactly, watch
from lifeboat.postgres.logical_databases import things_in
from lifeboat.postgres.logical_details import Archive
from lifeboat.postgres.logical_filling import Progress, list_file
from lifeboat.postgres.logical_planning import DatabasePlan, LogicalPlan
from lifeboat.postgres.logical_proof import LOCK_SECONDS, RestoredArchive, RestoredDatabase, passed, prove
from lifeboat.postgres.logical_restore import make_globals
from lifeboat.postgres.logical_script import TRANSACTION_TIMEOUT, DataScript, definitions_script
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.refusals import clean_message
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.child_programs import in_memory
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened

_REMEDIES = {
    "42501": "Use a connection of a superuser, or restore without the old owners and privileges: --no-owner.",
    "42704": "Something that it needs is not on the server: make it first.",
    "53200": "One transaction needs a lock for everything that it makes: raise max_locks_per_transaction, or restore "
    "into a new database, without --into-database.",
    "55P03": "Somebody holds a lock (pg_locks says who): run it again at a quieter time.",
}
_THERE = frozenset({"42P06", "42P07", "42710", "42723", "23505"})
UNCHANGED = "The database is as it was before."


def restore_into(
    repository: SystemRepository,
    plan: LogicalPlan,
    parameters: ConnectionParameters,
    *,
    progress: Progress = lambda _phase, _done, _total: None,
    tick: Callable[[], None] = no_tick,
) -> RestoredArchive:
    """Bring one database's archive, whole or some tables of it, into a database that is there.

    Args:
        plan: one that was made for an existing database.
        parameters: of that database.

    Raises:
        RestoreError: it did not work; the database is as it was before.
        LifeboatError: the archive can't be read; the database is as it was before.
    """
    (database,) = plan.databases
    if not plan.existing or parameters.keywords["dbname"] != database.name:
        raise RestoreError("The plan is not one for this database.", "Make the plan again.")
    for obstacle in plan.obstacles:
        raise obstacle
    clock = repository.outside.clock
    phases: dict[str, float] = {}
    begun = clock()
    try:
        with connect_sql(parameters, statement_seconds=UNBOUNDED_SECONDS, tick=tick) as session:
            watch(session, tick)
            # Nobody else sees anything of it before the commit; a session that ends before it takes all of it back.
            session.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            made = make_globals(repository, plan, session, tablespaces=False) if plan.globals_wanted else 0
            if database.only is None:
                _insist_on_nothing(session, database.name)
            _Loader(repository, plan, database, session, progress, tick).load()
            begun = passed(phases, "restore", begun, clock())
            progress("check", 0, 1)
            proven = _proven(session, database)
            session.execute("COMMIT")
            progress("check", 1, 1)
            passed(phases, "check", begun, clock())
    except psycopg.Error as error:
        raise _refused(error, database.name) from error
    return RestoredArchive((proven,), made, phases)


def _insist_on_nothing(session: Session, name: str) -> None:
    if things := things_in(session, at_most=3):
        raise RestoreError(f"The database {name} is not empty any more: {', '.join(things)}.", UNCHANGED)


def _proven(session: Session, database: DatabasePlan) -> RestoredDatabase:
    session.execute("SET client_encoding TO 'UTF8'")
    read_exactly(session, lock_seconds=LOCK_SECONDS)
    proven = prove(session, database, UNCHANGED)
    # The planner shall know of the rows.
    labels = [sql.Identifier(schema, name) for schema, name in sorted(database.only or ())]
    for place in labels:
        session.execute(sql.SQL("ANALYZE {}").format(place))
    if database.only is None:
        session.execute("ANALYZE")
    return proven


def _refused(error: psycopg.Error, name: str) -> RestoreError:
    said = clean_message(error.diag.message_primary or str(error)).rstrip(".")
    context = f" ({clean_message(error.diag.context)})" if error.diag.context else ""
    state = error.sqlstate or ""
    remedy = "Somebody made it meanwhile: look at the plan again." if state in _THERE else _REMEDIES.get(state, "")
    return RestoreError(
        f"Nothing was brought into the database {name}: {said}{context}. {UNCHANGED}",
        remedy or "Mend what it says, and restore again; the server's log says more.",
    )


class _Loader:
    """Runs the scripts of one database's archives in a session's transaction."""

    def __init__(
        self,
        repository: SystemRepository,
        plan: LogicalPlan,
        database: DatabasePlan,
        session: Session,
        progress: Progress,
        tick: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._database = database
        self._session = session
        self._progress = progress
        self._tick = tick
        self._origin = origin_of(repository, plan.copy.target, plan.copy)
        self._fetched = 0
        holding = [archive for archive in database.archive.archives if archive.holds != "schema"]
        self._total = sum(plan.copy.manifest.stream(archive.stream).stored_size for archive in holding)
        self._knows_timeout = session.info.server_version >= 170000

    def load(self) -> None:
        """Definitions, rows, and what has to come after the rows: indexes, constraints, triggers."""
        archives = self._database.archive.archives
        defining = next(archive for archive in archives if archive.holds != "data")
        self._define(defining, "--section=pre-data")
        for archive in archives:
            if archive.holds != "schema":
                self._fill(archive)
        self._define(defining, "--section=post-data")

    def _define(self, archive: Archive, section: str) -> None:
        pieces: list[bytes] = []
        # Rows are not read here: the table of contents, which holds all definitions, comes before them.
        self._run(archive, (section,), pieces.append, whole=False)
        for part in definitions_script(b"".join(pieces)):
            self._execute(part)

    def _fill(self, archive: Archive) -> None:
        with _Rows(self._session) as rows:
            script = DataScript(run=self._execute, begin_rows=rows.begin, rows=rows.write, end_rows=rows.end)
            self._run(archive, ("--section=data",), script.take, whole=True)
            if not script.end():
                raise RestoreError(
                    f"The rows of {archive.stream} end in mid-table. {UNCHANGED}", "Restore from another copy."
                )

    def _execute(self, statements: bytes) -> None:
        if not self._knows_timeout:
            statements = statements.replace(TRANSACTION_TIMEOUT, b"", 1)
        if statements.strip():
            self._session.execute(statements)

    def _run(self, archive: Archive, more: tuple[str, ...], take: Callable[[bytes], None], *, whole: bool) -> None:
        plan = self._plan
        with ExitStack() as stack:
            descriptors: tuple[int, ...] = ()
            if (numbers := self._database.numbers.get(archive.stream)) is not None:
                if not numbers:
                    return
                paths, descriptors = stack.enter_context(in_memory({"list": list_file(numbers)}))
                more = (*more, f"--use-list={paths['list']}")
            arguments = [
                plan.programs.path("pg_restore"),
                *("--format=custom", "--no-subscriptions", "--file=-"),
                *(() if plan.owners else ("--no-owner", "--no-privileges")),
                *(() if plan.tablespaces else ("--no-tablespaces",)),
                *more,
            ]
            stored = plan.copy.manifest.stream(archive.stream)
            plain = stack.enter_context(opened(stored, self._origin, self._passed if whole else None))
            try:
                run_program(
                    arguments,
                    descriptors=descriptors,
                    feed=plain,
                    take=take,
                    tick=self._tick,
                    rest="read" if whole else "leave",
                )
            except ProgramFailed as error:
                raise RestoreError(
                    f"{archive.stream} could not be read: {error.what} {UNCHANGED}", "Restore from another copy."
                ) from error

    def _passed(self, size: int) -> None:
        self._fetched += size
        self._progress("restore", min(self._fetched, self._total), self._total)


class _Rows:
    """``COPY … FROM stdin`` after another, in one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stack = ExitStack()
        self._copy: psycopg.Copy | None = None

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._copy is not None:
            # In mid-table: the server must not take what is there for all of it.
            self._session.pgconn.finish()

    def begin(self, statement: bytes) -> None:
        cursor = self._stack.enter_context(self._session.cursor())
        self._copy = self._stack.enter_context(cursor.copy(statement))

    def write(self, lines: bytes) -> None:
        assert self._copy is not None
        self._copy.write(lines)

    def end(self) -> None:
        self._stack.close()
        self._copy = None
