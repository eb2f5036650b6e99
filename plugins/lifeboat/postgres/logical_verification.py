"""Deep verification of a logical archive: opened, walked by ``pg_restore`` to its end, and its rows counted.

What ``pg_restore`` would do to a database it writes as a script instead; the rows between ``COPY`` and its end are
counted, table by table, and held against the listing that was made in the same snapshot. Streams; needs no disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lifeboat.errors import VerificationFailed
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.postgres.client_programs import ProgramFailed, Programs, client_programs, run_program
from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.logical_details import GLOBALS, Contents, DatabaseArchive, TableContent, logical_details
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.system import SystemRepository
from lifeboat.repository.verification import Verified
from lifeboat.streams.reading import Origin, opened

_END_OF_GLOBALS = b"-- PostgreSQL database cluster dump complete\n"
_ELSEWHERE = "Use another copy of it."
_NAME = re.compile(rb'COPY ("(?:[^"]|"")*"|[^".\s]+)\.("(?:[^"]|"")*"|[^".\s]+) ')


class RowCounter:
    """Counts the rows of each ``COPY`` block, and the large objects, of a script that passes by."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], int] = {}
        self.large_objects = 0
        self._buffer = b""
        self._table: tuple[str, str] | None = None

    def take(self, data: bytes) -> None:
        """Take more of the script."""
        self._buffer += data
        while self._in_block() if self._table is not None else self._outside():
            pass

    @property
    def whole(self) -> bool:
        """Whether no block was left open."""
        return self._table is None

    def _in_block(self) -> bool:
        assert self._table is not None
        # A row never holds a line end: COPY writes it as \n.
        end = self._buffer.find(b"\n\\.\n")
        if end >= 0:
            self.rows[self._table] += self._buffer.count(b"\n", 0, end + 1) - 1
            self._buffer, self._table = self._buffer[end + 4 :], None
            return True
        passed = max(0, len(self._buffer) - 3)
        self.rows[self._table] += self._buffer.count(b"\n", 0, passed)
        self._buffer = self._buffer[passed:]
        return False

    def _outside(self) -> bool:
        if self._buffer.startswith(b"COPY "):
            end = self._buffer.find(b" FROM stdin;\n")
            if end < 0:
                return False
            found = _NAME.match(self._buffer)
            if found is None:
                raise VerificationFailed("pg_restore wrote a COPY whose table can't be read.", _ELSEWHERE)
            self._table = _plain(found[1]), _plain(found[2])
            self.rows.setdefault(self._table, 0)
            # The line end before the first row, as that of every row.
            self._buffer = self._buffer[end + 12 :]
            return True
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return False
        self.large_objects += line.startswith(b"SELECT pg_catalog.lo_open(")
        self._buffer = rest
        return True


def _plain(identifier: bytes) -> str:
    text = identifier.decode("utf-8", "surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def verify_deep_logical(
    repository: SystemRepository,
    target: str,
    copy: Copy,
    *,
    passed: Callable[[int], None] = lambda _: None,
    tick: Callable[[], None] = no_tick,
) -> tuple[Verified, dict[str, Any]]:
    """Open and check one logical archive on one target; returns figures for the journal, too.

    Raises:
        VerificationFailed: it is not good; the text names what.
        PostgresError: there is no ``pg_restore`` that can read it.
        KeyUnavailable: no key at hand opens it.
        TargetError: the target failed.
    """
    manifest, details = copy.manifest, logical_details(copy.manifest)
    source = repository.policy.sources.get(manifest.source)
    directory = source.binaries if isinstance(source, PostgresSource) else None
    programs = client_programs(directory, at_least=details.dump_major, why="read the archive")
    origin = origin_of(repository, target, copy)
    rows = 0
    try:
        for database in details.databases:
            rows += _database(copy, database, programs, origin, passed, tick)
        _globals(copy, origin, passed)
    except VerificationFailed as error:
        raise VerificationFailed(f"{manifest.recovery_point} on {target}: {error.what}", error.remedy) from error
    objects = sum(len(stream.volumes) for stream in manifest.streams)
    verified = Verified("deep", objects, manifest.stored_size, manifest.stored_size)
    tables = sum(database.tables for database in details.databases)
    return verified, {"databases": len(details.databases), "tables": tables, "rows": rows}


def read_contents(copy: Copy, database: DatabaseArchive, origin: Origin, passed: Callable[[int], None]) -> Contents:
    """The listing of a database's contents; raises ``ManifestInvalid`` and what reading raises."""
    with opened(copy.manifest.stream(database.contents), origin, passed) as plain:
        return Contents.parse(plain.read(), f"{database.contents} of {copy.manifest.recovery_point}")


def _database(
    copy: Copy,
    database: DatabaseArchive,
    programs: Programs,
    origin: Origin,
    passed: Callable[[int], None],
    tick: Callable[[], None],
) -> int:
    contents = read_contents(copy, database, origin, passed)
    counter = RowCounter()
    for archive in database.archives:
        how = () if archive.holds == "schema" else ("--data-only",)
        take = counter.take if archive.holds != "schema" else _ignore
        arguments = [programs.path("pg_restore"), "--format=custom", *how, "--exit-on-error", "--file=-"]
        with opened(copy.manifest.stream(archive.stream), origin, passed) as plain:
            try:
                run_program(arguments, feed=plain, take=take, tick=tick, rest="read")
            except ProgramFailed as error:
                raise VerificationFailed(
                    f"{archive.stream} can't be read to its end: {error.what}", _ELSEWHERE
                ) from error
    wrong = miscounted(contents, counter.rows)
    if not counter.whole:
        wrong.append("the last table's rows have no end")
    if counter.large_objects != contents.large_objects.count:
        wrong.append(f"{counter.large_objects} large objects instead of {contents.large_objects.count}")
    if wrong:
        raise VerificationFailed(
            f"The archive of database {database.name} is not what its listing says: {'; '.join(wrong[:10])}.",
            _ELSEWHERE,
        )
    return sum(counter.rows.values())


def _ignore(_data: bytes) -> None:
    """For a script that only has to be written to its end."""


def miscounted(contents: Contents, counted: Mapping[tuple[str, str], int]) -> list[str]:
    """The tables whose rows are not as many as the listing says, a sentence each.

    ``pg_dump`` may load a partitioned table's rows through the table itself: then the whole family is compared.
    """
    roots = contents.roots()
    through_root = {table.oid for table in contents.tables if table.rows is None and _key(table) in counted}
    wanted: dict[tuple[str, str], int] = {}
    found = dict(counted)
    for table in contents.tables:
        if table.rows is None:
            continue
        top = roots[table.oid]
        key = _key(top) if top.oid in through_root else _key(table)
        wanted[key] = wanted.get(key, 0) + table.rows
        if key != _key(table):
            found[key] = found.get(key, 0) + found.pop(_key(table), 0)
    return [
        f"{'.'.join(key)} has {found.get(key, 0)} rows instead of {rows}"
        for key, rows in wanted.items()
        if found.get(key, 0) != rows
    ]


def _key(table: TableContent) -> tuple[str, str]:
    return table.schema_name, table.name


def _globals(copy: Copy, origin: Origin, passed: Callable[[int], None]) -> None:
    with opened(copy.manifest.stream(GLOBALS), origin, passed) as plain:
        text = plain.read()
    if _END_OF_GLOBALS not in text[-2000:]:
        raise VerificationFailed(f"{GLOBALS} has no end.", _ELSEWHERE)
