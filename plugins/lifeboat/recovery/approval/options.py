"""What a restore is told, in the words of the command line: the same here, on a worker and on a database's own host."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RestoreOptions(BaseModel):
    """The options of ``lifeboat restore`` that say what comes back and where to.

    Attributes:
        into: the directory.
        at, lsn, name, recovery_point: the moment; none of them: the latest.
        target, timeline, base: what it is read from.
        tablespaces: ``OLD=NEW``.
        binaries, run_as: the programs, and the user that runs them.
        connection, databases, new_name, into_database, with_globals, owners: of a logical archive.
        only: tables, paths, items or repositories.
        format_name, as_table, replace_rows: of an export.
        replace_files, into_store: of files, and of a configuration.
        replace_database, replace_directory: what comes back takes the place of what is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    into: str | None = None
    at: str | None = None
    lsn: str | None = None
    name: str | None = None
    recovery_point: str | None = None
    target: str | None = None
    timeline: int | None = None
    base: str | None = None
    tablespaces: tuple[str, ...] = ()
    binaries: str | None = None
    run_as: str | None = None
    connection: str | None = None
    only: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    new_name: str | None = None
    into_database: str | None = None
    with_globals: bool = False
    owners: bool = True
    format_name: str | None = None
    as_table: str | None = None
    replace_rows: bool = False
    replace_files: bool = False
    replace_database: bool = False
    replace_directory: bool = False
    into_store: bool = False

    def words(self) -> list[str]:
        """The options as they are typed."""
        words: list[str] = []
        for field, flag in _FLAGS.items():
            value = getattr(self, field)
            if isinstance(value, tuple):
                words += [f"{flag}={one}" for one in value]
            elif isinstance(value, bool):
                words += [flag] if value else []
            elif value is not None:
                words.append(f"{flag}={value}")
        return words if self.owners else [*words, "--no-owner"]


_FLAGS = {
    "into": "--into",
    "at": "--at",
    "lsn": "--lsn",
    "name": "--name",
    "recovery_point": "--recovery-point",
    "target": "--target",
    "timeline": "--timeline",
    "base": "--base",
    "tablespaces": "--tablespace",
    "binaries": "--binaries",
    "run_as": "--run-as",
    "connection": "--connection",
    "only": "--only",
    "databases": "--database",
    "new_name": "--as",
    "into_database": "--into-database",
    "with_globals": "--with-globals",
    "format_name": "--format",
    "as_table": "--as-table",
    "replace_rows": "--replace-rows",
    "replace_files": "--replace-files",
    "replace_database": "--replace-database",
    "replace_directory": "--replace-directory",
    "into_store": "--into-store",
}
