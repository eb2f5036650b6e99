"""A logical archive brought back into a server: into new databases, proven before they get their names.

Each database is made under a name that nobody uses, filled by ``pg_restore`` straight from the streams, and compared
table by table with what was counted when it was read. Only then is it renamed; whatever fails before drops it.
Source: https://www.postgresql.org/docs/current/app-pgrestore.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Lock

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from lifeboat.errors import Cancelled, LifeboatError, RestoreError
from lifeboat.postgres.client_programs import Access, ProgramFailed, Programs, access_for, in_memory, run_program
from lifeboat.postgres.connecting import TICK_SECONDS, connect_sql, no_tick
from lifeboat.postgres.logical_contents import UNBOUNDED_SECONDS, contents_of, differences, reading_session
from lifeboat.postgres.logical_details import GLOBALS, Archive
from lifeboat.postgres.logical_globals import missing_statements
from lifeboat.postgres.logical_naming import UNPROVEN, unproven_name
from lifeboat.postgres.logical_new_database import create, finish
from lifeboat.postgres.logical_planning import DatabasePlan, Home, LogicalPlan
from lifeboat.postgres.logical_selection import Entry, parse_listing
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.refusals import clean_message
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened

Session = psycopg.Connection[TupleRow]
Progress = Callable[[str, int, int], None]
Open = Callable[[str], ConnectionParameters]
LOCK_SECONDS = 60.0
_UNKNOWN_SETTING = 'ERROR:  unrecognized configuration parameter "transaction_timeout"'


@dataclass(frozen=True)
class RestoredDatabase:
    """A database that came back and is proven.

    Attributes:
        database: its name on the lost server.
        name: its name now.
        tables, rows: compared with what was counted when it was backed up.
    """

    database: str
    name: str
    tables: int
    rows: int


@dataclass(frozen=True)
class RestoredArchive:
    """What a restore brought."""

    databases: tuple[RestoredDatabase, ...]
    made_globals: int
    phases: dict[str, float]

    @property
    def seconds(self) -> float:
        """How long all of it took."""
        return sum(self.phases.values())


def home_of(session: Session) -> Home:
    """Look at the server that databases shall come back to."""

    def names(query: str) -> frozenset[str]:
        return frozenset(str(name) for (name,) in session.execute(query.encode()).fetchall())

    row = session.execute("SELECT rolcreatedb, rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    create, superuser = row if row is not None else (False, False)
    databases = names("SELECT datname FROM pg_database")
    return Home(
        major=session.info.server_version // 10000,
        databases=databases,
        roles=names("SELECT rolname FROM pg_roles"),
        extensions=names("SELECT name FROM pg_available_extensions"),
        tablespaces=names("SELECT spcname FROM pg_tablespace"),
        may_create=create,
        superuser=superuser,
        unproven=tuple(sorted(name for name in databases if name.startswith(UNPROVEN))),
    )


def listing_of(
    repository: SystemRepository,
    target: str,
    copy: Copy,
    stream: str,
    programs: Programs,
    *,
    tick: Callable[[], None] = no_tick,
) -> list[Entry]:
    """An archive's table of contents; its rows are not read.

    Raises:
        RestoreError: ``pg_restore`` can't read it.
    """
    pieces: list[bytes] = []
    arguments = [programs.path("pg_restore"), "--format=custom", "--list", "--verbose"]
    with opened(copy.manifest.stream(stream), origin_of(repository, target, copy)) as plain:
        try:
            run_program(arguments, feed=plain, take=pieces.append, tick=tick, rest="leave")
        except ProgramFailed as error:
            raise RestoreError(f"The contents of {stream} can't be read: {error.what}", "Use another copy.") from error
    return parse_listing(b"".join(pieces).decode("utf-8", "replace"))


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
    with _explained(), connect_sql(open_database(""), statement_seconds=UNBOUNDED_SECONDS, tick=tick) as admin:
        made = _make_globals(repository, plan, admin) if plan.globals_wanted else 0
        built: list[tuple[DatabasePlan, str, RestoredDatabase]] = []
        try:
            for database in plan.databases:
                name = unproven_name(database.archive.name)
                built.append((database, name, RestoredDatabase(database.archive.name, database.name, 0, 0)))
                begun = clock()
                create(admin, name, database.archive)
                filler = _Filler(repository, plan, open_database(name), side_by_side, progress, tick)
                filler.fill(database, name)
                begun = _passed(phases, "restore", begun, clock())
                progress("check", 0, 1)
                proven = _prove(plan, database, open_database(name), tick)
                built[-1] = (database, name, proven)
                progress("check", 1, 1)
                _passed(phases, "check", begun, clock())
            for database, name, _ in built:
                finish(admin, database, name, owners=plan.owners)
        except BaseException:
            _drop_all(open_database, [name for _, name, _ in built])
            raise
    return RestoredArchive(tuple(restored for _, _, restored in built), made, phases)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise RestoreError(
            f"The server refused: {clean_message(error.diag.message_primary or str(error))}.",
            "Nothing was left there. Look at the server's log and at the connection's role.",
        ) from error


def _passed(phases: dict[str, float], phase: str, begun: datetime, now: datetime) -> datetime:
    phases[phase] = phases.get(phase, 0.0) + (now - begun).total_seconds()
    return now


def _make_globals(repository: SystemRepository, plan: LogicalPlan, admin: Session) -> int:
    script = globals_script(repository, plan.copy)
    roles = {str(name) for (name,) in admin.execute("SELECT rolname FROM pg_roles").fetchall()}
    spaces = {str(name) for (name,) in admin.execute("SELECT spcname FROM pg_tablespace").fetchall()}
    count = 0
    for statement in missing_statements(script, roles, spaces):
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


class _Filler:
    """Fills one database from its archives."""

    def __init__(
        self,
        repository: SystemRepository,
        plan: LogicalPlan,
        parameters: ConnectionParameters,
        side_by_side: int,
        progress: Progress,
        tick: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._parameters = parameters
        self._side_by_side = side_by_side
        self._progress = progress
        self._tick = tick
        self._origin = origin_of(repository, plan.copy.target, plan.copy)
        self._fetched = 0
        self._lock = Lock()
        self._given_up = Event()

    def fill(self, database: DatabasePlan, name: str) -> None:
        archives = database.archive.archives
        rows = [archive for archive in archives if archive.holds == "data"]
        self._total = sum(self._plan.copy.manifest.stream(archive.stream).stored_size for archive in archives)
        with access_for(self._parameters) as access:
            for archive in archives:
                if archive.holds == "all":
                    self._restore(database, archive, access, name, ())
                elif archive.holds == "schema":
                    self._restore(database, archive, access, name, ("--section=pre-data",))
            if rows:
                self._restore_rows(database, rows, access, name)
            for archive in archives:
                if archive.holds == "schema":
                    self._restore(database, archive, access, name, ("--section=post-data",))

    def _restore_rows(self, database: DatabasePlan, rows: Sequence[Archive], access: Access, name: str) -> None:
        with ThreadPoolExecutor(self._side_by_side, thread_name_prefix="restore") as pool:
            left = {pool.submit(self._restore, database, archive, access, name, ()) for archive in rows}
            try:
                while left:
                    ended, left = wait(left, TICK_SECONDS, FIRST_EXCEPTION)
                    for job in ended:
                        job.result()
                    self._tick()
            finally:
                if left:
                    self._given_up.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _restore(
        self, database: DatabasePlan, archive: Archive, access: Access, name: str, more: tuple[str, ...]
    ) -> None:
        plan = self._plan
        with ExitStack() as stack:
            descriptors: tuple[int, ...] = ()
            if (numbers := database.numbers.get(archive.stream)) is not None:
                if not numbers:
                    return
                paths, descriptors = stack.enter_context(in_memory({"list": _list_file(numbers)}))
                more = (*more, f"--use-list={paths['list']}")
            arguments = [
                plan.programs.path("pg_restore"),
                # A subscription would begin to take changes from the old one's publisher.
                *("--format=custom", "--no-password", "--no-subscriptions"),
                *(() if self._asks_too_much else ("--exit-on-error",)),
                *(() if plan.owners else ("--no-owner", "--no-privileges")),
                *(() if plan.tablespaces else ("--no-tablespaces",)),
                *more,
                f"--dbname={access.database(name)}",
            ]
            stored = plan.copy.manifest.stream(archive.stream)
            plain = stack.enter_context(opened(stored, self._origin, self._passed))
            try:
                run_program(arguments, access=access, descriptors=descriptors, feed=plain, tick=self._look, rest="read")
            except ProgramFailed as error:
                if self._asks_too_much and only_asked_too_much(error.words):
                    return
                raise RestoreError(
                    f"Database {database.archive.name} could not be brought back: {error.what}",
                    "What was begun is dropped again. Mend what it says, and restore again.",
                ) from error

    @property
    def _asks_too_much(self) -> bool:
        """Whether ``pg_restore`` will set what a server of this version does not know: from 17 on it sets
        ``transaction_timeout`` without asking. Then it can't stop at its first error, and all of them are looked at."""
        return self._plan.programs.major >= 17 > self._plan.home.major

    def _passed(self, size: int) -> None:
        with self._lock:
            self._fetched += size
            done = self._fetched
        self._progress("restore", min(done, self._total), self._total)

    def _look(self) -> None:
        if self._given_up.is_set():
            raise Cancelled("Another part of the restore failed.")
        self._tick()


def only_asked_too_much(words: str) -> bool:
    """Whether the one setting that older servers do not know is all that ``pg_restore`` complained of."""
    ignored = re.search(r"^pg_restore: warning: errors ignored on restore: (\d+)$", words, re.MULTILINE)
    errors = re.findall(r"^pg_restore: error: (.*)$", words, re.MULTILINE)
    known = [error for error in errors if error.endswith(_UNKNOWN_SETTING)]
    return ignored is not None and int(ignored[1]) == len(errors) == len(known)


def _list_file(numbers: Sequence[int]) -> str:
    """A list for ``pg_restore --use-list``, which restores in its order: that of the archive, not of the numbers."""
    return "".join(f"{number};\n" for number in numbers)


def _prove(
    plan: LogicalPlan, database: DatabasePlan, parameters: ConnectionParameters, tick: Callable[[], None]
) -> RestoredDatabase:
    """Insist on every row's being there, then let the planner know of them."""
    only = database.only
    with reading_session(parameters, lock_seconds=LOCK_SECONDS, tick=tick) as session:
        found = contents_of(session, only=only)
        session.execute("COMMIT")
        if wrong := differences(database.contents, found, only):
            raise RestoreError(
                f"Database {database.archive.name} did not come back as it was backed up: {'; '.join(wrong[:10])}.",
                "It is dropped again. Restore from another target or another recovery point, and verify this one "
                "(lifeboat verify --deep).",
            )
        session.execute("ANALYZE")
    counted = [table for table in found.tables if table.rows is not None]
    return RestoredDatabase(
        database.archive.name, database.name, len(counted), sum(table.rows or 0 for table in counted)
    )
