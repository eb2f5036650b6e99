"""One database read by ``pg_dump``, straight from its standard output into streams; and the server's globals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Event, Lock
from typing import Any

import psycopg

from lifeboat.errors import BackupFailed, Cancelled, LifeboatError, PostgresError
from lifeboat.policy.logical import LogicalPolicy
from lifeboat.postgres.client_programs import Access, ProgramFailed, Programs, run_program
from lifeboat.postgres.connecting import TICK_SECONDS, connect_sql
from lifeboat.postgres.logical_contents import (
    contents_of,
    reading_session,
    refused_reading,
    sequences_of,
    tables_of,
    unlogged_elsewhere,
    watch,
)
from lifeboat.postgres.logical_databases import Database, Session, holds_something
from lifeboat.postgres.logical_details import GLOBALS, Archive, Contents, DatabaseArchive
from lifeboat.postgres.logical_splitting import groups, pattern
from lifeboat.postgres.parameters import ConnectionParameters
from lifeboat.postgres.server_facts import DatabaseFacts
from lifeboat.postgres.standby import CONFLICT, CONFLICT_REMEDY
from lifeboat.streams.settings import StreamSettings
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter, one_of_many

_DEFINITIONS = ("--section=pre-data", "--section=post-data")
"""All but rows; not ``--schema-only``, which forgets to fill materialized views."""

_LOCKS = """
    SELECT format('%I.%I', n.nspname, c.relname), l.pid, a.usename FROM pg_locks l
    JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p', 'm', 'S')
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY 1 LIMIT 10"""

_REMEDIES = (
    ("row-level security", "Run as a superuser: ALTER ROLE … BYPASSRLS; for the role that reads."),
    (
        "permission denied for large object",
        "See `lifeboat preflight`: it names the statement to run for large objects.",
    ),
    ("permission denied", "Run as a superuser: GRANT pg_read_all_data TO the role that reads."),
    (CONFLICT, CONFLICT_REMEDY),
    ("lock timeout", "Somebody holds a lock (pg_locks says who): run it at a quieter time, or raise `lock_timeout`."),
    ("does not exist", "Something was dropped while it was being read; run it again."),
    ("could not open relation", "Something was dropped while it was being read; run it again."),
    ("server version", "Name newer client programs with `binaries` in the policy."),
    ("SSL support is not compiled in", "These programs know no TLS: name others with `binaries` in the policy."),
    ("server closed the connection", "Look at the server's log; run it again once the server is back."),
    ("SIGKILL", "Somebody, or the machine for want of memory, ended it; run it again."),
)


@dataclass
class Dumping:
    """What all databases of one archive have in common, and what was stored so far.

    Attributes:
        expected: bytes on the server's disk, for progress.
        stands_for: where the server's clock does not tell it, the moment up to which all commits are there: of a
            standby, and of a server which was brought back to one.
        said: what the programs said although they succeeded.
    """

    programs: Programs
    access: Access
    policy: LogicalPolicy
    destination: Destination
    settings: StreamSettings
    expected: int
    progress: Callable[[int, int], None]
    tick: Callable[[], None]
    stands_for: Callable[[], datetime] | None = None
    stored: list[StoredStream] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    _read: int = 0
    _lock: Lock = field(default_factory=Lock)

    def read(self, size: int) -> None:
        """Count bytes that were read; called on several threads."""
        with self._lock:
            self._read += size
            done = self._read
        self.progress(done, max(done, self.expected))


def dump_database(
    dumping: Dumping, parameters: ConnectionParameters, database: Database, facts: DatabaseFacts
) -> DatabaseArchive:
    """Read one database in one snapshot: archives, and the listing of its contents.

    Raises:
        LifeboatError: nothing of it may be committed.
    """
    lock_seconds = float(dumping.policy.lock_timeout.fixed.total_seconds())
    # Before the snapshot: what was replayed by then is in it.
    moment = dumping.stands_for() if dumping.stands_for is not None else None
    try:
        with reading_session(parameters, lock_seconds=lock_seconds, tick=dumping.tick) as session:
            snapshot, now = _snapshot(session)
            if left_out := unlogged_elsewhere(session):
                dumping.said.append(
                    f"The rows of unlogged tables of database {database.name} are not in it, since a standby does not "
                    f"have them: {', '.join(left_out)}."
                )
            something = holds_something(session)
            _refuse_lost_objects(session, database.name, dumping.policy)
            plans = _plans(session, database, dumping.policy)
            contents = _side_by_side(dumping, session, plans, database.name, snapshot, lock_seconds)
    except psycopg.Error as error:
        refused = refused_reading(error, f"Database {database.name} can't be read")
        raise _with_locks(refused, parameters) from error
    except PostgresError as error:
        raise _with_locks(error, parameters) from error
    listing = f"{database.oid}.contents.jsonl"
    _store(dumping, listing, contents.lines())
    return DatabaseArchive(
        oid=database.oid,
        facts=facts,
        owner=database.owner,
        comment=database.comment,
        settings=database.settings,
        role_settings=database.role_settings,
        privileges=database.privileges,
        tablespace=database.tablespace,
        connection_limit=database.connection_limit,
        subscriptions=database.subscriptions,
        roles=database.roles,
        moment=moment or now,
        archives=tuple(plan.archive for plan in plans),
        contents=listing,
        tables=sum(table.rows is not None for table in contents.tables),
        rows=sum(table.rows or 0 for table in contents.tables),
        large_objects=contents.large_objects.count,
        holds_something=something,
    )


def _with_locks(error: PostgresError, parameters: ConnectionParameters) -> PostgresError:
    """The same error, and who held what, where a lock was waited for in vain."""
    if "lock timeout" not in error.what:
        return error
    try:
        with connect_sql(parameters) as session:
            rows = session.execute(_LOCKS.encode()).fetchall()
    except (PostgresError, psycopg.Error):
        return error  # The server says no more; the failure itself was said.
    held = ", ".join(f"{table} by {user or 'somebody'} (process {pid})" for table, pid, user in rows)
    return type(error)(f"{error.what.rstrip('.')}. Locked at present: {held or 'nothing any more'}.", error.remedy)


def _snapshot(session: Session) -> tuple[str, datetime]:
    row = session.execute("SELECT pg_export_snapshot(), clock_timestamp()").fetchone()
    if row is None:
        raise PostgresError("The server exported no snapshot.", "Look at the server's log.")
    return str(row[0]), row[1]


def _refuse_lost_objects(session: Session, database: str, policy: LogicalPolicy) -> None:
    if policy.large_objects:
        return
    row = session.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
    if row is not None and row[0]:
        raise BackupFailed(
            f"Database {database} has {row[0]} large objects, and the policy leaves them out.",
            "Say `large_objects: true` under `logical`, or exclude the database by name.",
        )


@dataclass(frozen=True)
class _Plan:
    archive: Archive
    arguments: tuple[str, ...]


def _plans(session: Session, database: Database, policy: LogicalPolicy) -> list[_Plan]:
    # The short name is the one that all versions know.
    whole = () if policy.large_objects else ("-B",)
    tables = [table for table, _ in tables_of(session)]
    if sum(table.size_bytes for table in tables) <= policy.split_above or policy.side_by_side == 1:
        return [_Plan(Archive(stream=f"{database.oid}.dump", holds="all"), whole)]
    _, *shares = groups(tables, policy.side_by_side + 1)
    named = [table for share in shares for table in share.tables]
    arguments = [
        tuple(f"--exclude-table-data={pattern(table)}" for table in named),
        *(tuple(f"--table={pattern(table)}" for table in share.tables) for share in shares),
    ]
    # The largest begin first, so that none of them is left alone at the end.
    numbered = sorted(enumerate(arguments), key=lambda one: one[0] == 0)
    return [
        _Plan(Archive(stream=f"{database.oid}.schema.dump", holds="schema"), _DEFINITIONS),
        *(
            _Plan(Archive(stream=f"{database.oid}.data-{number:02d}.dump", holds="data"), ("--section=data", *more))
            for number, more in numbered
        ),
    ]


def _side_by_side(
    dumping: Dumping, session: Session, plans: Sequence[_Plan], database: str, snapshot: str, lock_seconds: float
) -> Contents:
    """Run the dumps a few at a time and the counting beside them; a failure of one ends all."""
    given_up = Event()

    def look() -> None:
        if given_up.is_set():
            raise Cancelled("Another part of the archive failed.")
        dumping.tick()

    def count() -> Contents:
        return contents_of(session, large_objects=dumping.policy.large_objects, stood=stood)

    settings = dumping.settings if len(plans) == 1 else one_of_many(dumping.settings)
    watch(session, look)
    # After the snapshot, so that no row in it has a later number; before pg_dump, which must not find an earlier one.
    stood = tuple(sequences_of(session))
    with (
        ThreadPoolExecutor(1, thread_name_prefix="count") as counting,
        ThreadPoolExecutor(dumping.policy.side_by_side, thread_name_prefix="dump") as pool,
    ):
        counted = counting.submit(count)
        dumps: list[Future[StoredStream]] = [
            pool.submit(_dump, dumping, plan, database, snapshot, lock_seconds, settings, look) for plan in plans
        ]
        left: set[Future[Any]] = {counted, *dumps}
        try:
            while left:
                ended, left = wait(left, TICK_SECONDS, FIRST_EXCEPTION)
                for job in ended:
                    job.result()
                dumping.tick()
        except BaseException:
            given_up.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    watch(session, dumping.tick)
    dumping.stored.extend(job.result() for job in dumps)
    return counted.result()


def _dump(
    dumping: Dumping,
    plan: _Plan,
    database: str,
    snapshot: str,
    lock_seconds: float,
    settings: StreamSettings,
    tick: Callable[[], None],
) -> StoredStream:
    arguments = [
        dumping.programs.path("pg_dump"),
        # Our own stream compresses, and better: zstd over the whole.
        *("--format=custom", "--compress=0", "--no-password"),
        *(f"--snapshot={snapshot}", f"--lock-wait-timeout={max(1, round(lock_seconds * 1000))}"),
        *plan.arguments,
        f"--dbname={dumping.access.database(database)}",
    ]
    return _streamed(dumping, plan.archive.stream, arguments, f"database {database}", settings, tick)


def dump_globals(
    dumping: Dumping, database: str, *, passwords: bool, locations: Mapping[str, str] | None = None
) -> None:
    """Roles, their memberships and settings, and tablespaces, as ``pg_dumpall`` writes them.

    They come last: an object that was read may belong to a role that was made just before.

    Args:
        locations: what to write instead of where tablespaces lie.
    """
    arguments = [
        dumping.programs.path("pg_dumpall"),
        *("--globals-only", "--no-password"),
        *(() if passwords else ("--no-role-passwords",)),
        f"--dbname={dumping.access.database(database)}",
    ]
    stored = _streamed(
        dumping,
        GLOBALS,
        arguments,
        "roles and tablespaces",
        one_of_many(dumping.settings),
        dumping.tick,
        mended=partial(_put_back, locations) if locations else None,
    )
    dumping.stored.append(stored)


def _put_back(locations: Mapping[str, str], script: bytes) -> bytes:
    for lies, lay in locations.items():
        script = script.replace(_location(lies), _location(lay))
    return script


def _location(path: str) -> bytes:
    """As ``pg_dumpall`` writes it behind a tablespace's name."""
    quoted = path.replace("'", "''").replace("\\", "\\\\")
    return f"LOCATION {'E' if chr(92) in path else ''}'{quoted}';".encode()


def _streamed(
    dumping: Dumping,
    name: str,
    arguments: list[str],
    what: str,
    settings: StreamSettings,
    tick: Callable[[], None],
    mended: Callable[[bytes], bytes] | None = None,
) -> StoredStream:
    """A program's output as a stream; with ``mended`` it is held in memory, and goes through that."""
    held = bytearray()
    writer = StreamWriter(name, dumping.destination, settings, tick=tick, plain_digest=name == GLOBALS)

    def take(data: bytes) -> None:
        if mended is None:
            writer.write(data)
        else:
            held.extend(data)
        dumping.read(len(data))

    try:
        said = run_program(arguments, access=dumping.access, take=take, tick=tick)
        if mended is not None:
            writer.write(mended(bytes(held)))
        stored = writer.finish()
    except BaseException as failure:
        writer.abort(failure)
        if isinstance(failure, ProgramFailed):
            raise explained(failure, what) from failure
        raise
    if not stored.plain_size:
        raise BackupFailed(f"Nothing came of {what}, and no error either.", "Run it by hand and look.")
    if said:
        dumping.said.extend(line for line in said.splitlines()[:20] if line.strip())
    return stored


def explained(failure: ProgramFailed, what: str) -> LifeboatError:
    """A program's failure to read ``what``, with what to do about it."""
    remedy = next((remedy for sign, remedy in _REMEDIES if sign in failure.what), "Look at the server's log.")
    return BackupFailed(f"Reading {what} failed, and nothing of it is committed: {failure.what}", remedy)


def _store(dumping: Dumping, name: str, lines: Iterable[bytes]) -> None:
    writer = StreamWriter(
        name, dumping.destination, one_of_many(dumping.settings), tick=dumping.tick, plain_digest=True
    )
    try:
        for line in lines:
            writer.write(line)
        dumping.stored.append(writer.finish())
    except BaseException as failure:
        writer.abort(failure)
        raise
