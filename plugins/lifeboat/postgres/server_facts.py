"""What a restore must know of the server that was backed up, and can't ask once it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.rows import TupleRow
from pydantic import BaseModel, ConfigDict

from lifeboat.errors import PostgresError
from lifeboat.postgres.refusals import clean_message

Session = psycopg.Connection[TupleRow]

IN_PLACE_SINCE = 160000
"""The first version (as ``server_version_num``) whose base backups hold tablespaces that lie in the data directory."""
LEFT_OUT_REMEDY = (
    "PostgreSQL 15 can make such tablespaces (allow_in_place_tablespaces, a developer's option) and not back them up: "
    "move their tables to another tablespace, or upgrade to 16 or later."
)

_SETTINGS = (
    "allow_in_place_tablespaces",
    "archive_mode",
    "data_directory_mode",
    "full_page_writes",
    "huge_pages",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "max_worker_processes",
    "shared_buffers",
    "shared_memory_type",
    "summarize_wal",
    "track_commit_timestamp",
    "wal_compression",
    "wal_level",
    "wal_log_hints",
)
_FOR_READERS_OF_ALL = ("dynamic_library_path", "session_preload_libraries", "shared_preload_libraries")
_FILES = ("config_file", "hba_file", "ident_file")


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExtensionFacts(_Facts):
    """An installed extension: its files must be there before a restored database can use it."""

    name: str
    version: str


class DatabaseFacts(_Facts):
    """One database.

    Attributes:
        name: its name.
        encoding: such as ``UTF8``.
        collate: ``LC_COLLATE``.
        ctype: ``LC_CTYPE``.
        locale_provider: ``libc``, ``icu`` or ``builtin``.
        locale: the provider's own locale; ``None`` with libc.
        icu_rules: additional collation rules; ``None`` where there are none.
        collation_version: the version with which the database's indexes were built; ``None`` where there is none.
        size_bytes: on disk; ``None`` where the role may not know.
        extensions: what is installed in it; ``None`` where the role can't look.
    """

    name: str
    encoding: str
    collate: str
    ctype: str
    locale_provider: str
    locale: str | None = None
    icu_rules: str | None = None
    collation_version: str | None = None
    size_bytes: int | None = None
    extensions: tuple[ExtensionFacts, ...] | None = None


class TablespaceFacts(_Facts):
    """A tablespace outside ``pg_default`` and ``pg_global``; the location is relative where it lies in place."""

    oid: int
    name: str
    location: str

    @property
    def in_place(self) -> bool:
        """Whether it lies inside the data directory (``allow_in_place_tablespaces``)."""
        return not self.location.startswith("/")


class ServerFacts(_Facts):
    """A server as a backup found it.

    Attributes:
        system_identifier: tells the cluster from every other.
        version_num: such as 180006.
        version: as the server writes it.
        platform: the whole line of ``version()``: compiler and machine.
        timeline: that it writes on.
        wal_segment_size: in bytes.
        block_size: of a data page, in bytes.
        wal_block_size: of a WAL page, in bytes.
        data_checksums: whether data pages carry checksums.
        databases: all but the templates that nobody may connect to.
        tablespaces: all but the built-in ones.
        settings: what recovery and a new home depend on, by name, in the server's words.
        files_outside: configuration files kept outside the data directory, by setting: no base backup holds them.
        unread: what the role was not allowed to read, one sentence each.
    """

    system_identifier: int
    version_num: int
    version: str
    platform: str
    timeline: int
    wal_segment_size: int
    block_size: int
    wal_block_size: int
    data_checksums: bool
    databases: tuple[DatabaseFacts, ...] = ()
    tablespaces: tuple[TablespaceFacts, ...] = ()
    settings: dict[str, str] = {}
    files_outside: dict[str, str] = {}
    unread: tuple[str, ...] = ()

    @property
    def major(self) -> int:
        """PostgreSQL's major version."""
        return self.version_num // 10000


def server_facts(sql: Session, open_database: Callable[[str], Session] | None = None) -> ServerFacts:
    """Ask the server for everything a restore depends on.

    Args:
        sql: an autocommit session.
        open_database: opens a session in another database of the same server, for its extensions; raises
            ``PostgresError`` where the role is not let in. Without it, only the present database is looked into.

    Raises:
        PostgresError: the server can't be asked at all. What the role merely may not see is listed in ``unread``.
    """
    unread: list[str] = []
    try:
        settings = _settings(sql, unread)
        row = _row(
            sql,
            "SELECT system_identifier, current_setting('server_version_num')::int, current_setting('server_version'),"
            " version(), current_setting('block_size')::int, current_setting('wal_block_size')::int,"
            " (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),"
            " current_setting('data_checksums') = 'on' FROM pg_control_system()",
        )
        return ServerFacts(
            system_identifier=row[0],
            version_num=row[1],
            version=row[2],
            platform=row[3],
            block_size=row[4],
            wal_block_size=row[5],
            wal_segment_size=row[6],
            data_checksums=row[7],
            timeline=timeline_of(sql),
            databases=_databases(sql, open_database, row[1] // 10000, unread),
            tablespaces=tablespaces_of(sql),
            settings=settings,
            files_outside=files_outside(sql, unread),
            unread=tuple(unread),
        )
    except psycopg.Error as error:
        raise PostgresError(f"The server could not be asked about itself: {clean_message(str(error))}.") from error


def timeline_of(sql: Session) -> int:
    """The timeline that the server writes on; of a standby, the one of its last checkpoint."""
    if _row(sql, "SELECT pg_is_in_recovery()")[0]:
        return int(_row(sql, "SELECT timeline_id FROM pg_control_checkpoint()")[0])
    # The control file learns of a new timeline at a checkpoint only; the WAL file's name knows at once.
    return int(_row(sql, "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")[0], 16)


def tablespaces_of(sql: Session) -> tuple[TablespaceFacts, ...]:
    """The tablespaces besides the built-in ones, by oid."""
    rows = sql.execute(
        "SELECT oid::bigint, spcname, pg_tablespace_location(oid) FROM pg_tablespace"
        " WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY oid"
    ).fetchall()
    return tuple(TablespaceFacts(oid=oid, name=name, location=location) for oid, name, location in rows)


def files_outside(sql: Session, unread: list[str]) -> dict[str, str]:
    """Configuration files that lie outside the data directory, by setting; what can't be told goes to ``unread``."""
    names = ["data_directory", *_FILES]
    known: dict[str, str] = dict(
        sql.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [names]).fetchall()
    )
    if "data_directory" not in known:
        unread.append("Where the configuration files lie: the role is no member of pg_read_all_settings.")
        return {}
    root = known["data_directory"].rstrip("/") + "/"
    return {name: known[name] for name in _FILES if known.get(name) and not known[name].startswith(root)}


def _settings(sql: Session, unread: list[str]) -> dict[str, str]:
    names = [*_SETTINGS, *_FOR_READERS_OF_ALL]
    rows = sql.execute(
        "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY name", [names]
    ).fetchall()
    hidden = sorted(set(_FOR_READERS_OF_ALL) - {name for name, _ in rows})
    if hidden:
        unread.append(f"The settings {', '.join(hidden)}: the role is no member of pg_read_all_settings.")
    return dict(rows)


def _databases(
    sql: Session, open_database: Callable[[str], Session] | None, major: int, unread: list[str]
) -> tuple[DatabaseFacts, ...]:
    locale = "datlocale" if major >= 17 else "daticulocale"
    rules = "daticurules" if major >= 16 else "NULL"
    rows = sql.execute(
        "SELECT datname, pg_encoding_to_char(encoding), datcollate, datctype,"  # noqa: S608 the two names are ours
        " CASE datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin'"
        f" ELSE datlocprovider::text END, {locale}, {rules}, datcollversion,"
        " CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')"
        " THEN pg_database_size(oid) END, datname = current_database()"
        " FROM pg_database WHERE datallowconn ORDER BY datname".encode()
    ).fetchall()
    found = []
    for name, encoding, collate, ctype, provider, place, more, version, size, present in rows:
        if size is None:
            unread.append(f"The size of database {name}: the role is no member of pg_read_all_stats.")
        facts = DatabaseFacts(
            name=name,
            encoding=encoding,
            collate=collate,
            ctype=ctype,
            locale_provider=provider,
            locale=place,
            icu_rules=more,
            collation_version=version,
            size_bytes=size,
            extensions=_extensions(sql) if present else _extensions_elsewhere(name, open_database, unread),
        )
        found.append(facts)
    return tuple(found)


def _extensions(sql: Session) -> tuple[ExtensionFacts, ...]:
    rows = sql.execute("SELECT extname, extversion FROM pg_extension ORDER BY extname").fetchall()
    return tuple(ExtensionFacts(name=name, version=version) for name, version in rows)


def _extensions_elsewhere(
    name: str, open_database: Callable[[str], Session] | None, unread: list[str]
) -> tuple[ExtensionFacts, ...] | None:
    if open_database is None:
        unread.append(f"The extensions of database {name}: only the connection's own database was looked into.")
        return None
    try:
        with open_database(name) as session:
            return _extensions(session)
    except PostgresError as error:
        unread.append(f"The extensions of database {name}: {error.what}")
    except psycopg.Error as error:
        unread.append(f"The extensions of database {name}: {clean_message(str(error))}.")
    return None


def _row(sql: Session, query: str) -> tuple[Any, ...]:
    row = sql.execute(query.encode()).fetchone()
    if row is None:
        raise PostgresError("The server gave no answer to a question about itself.")
    return row
