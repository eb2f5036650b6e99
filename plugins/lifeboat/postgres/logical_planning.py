"""From what is asked for to a plan: which archive, which databases and tables, which names, and what is in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lifeboat.errors import LifeboatError, MomentUnreachable, RestoreError
from lifeboat.postgres.client_programs import Programs
from lifeboat.postgres.logical_details import (
    FINGERPRINT,
    LOGICAL,
    Contents,
    DatabaseArchive,
    LogicalDetails,
    SequenceContent,
    TableContent,
)
from lifeboat.postgres.logical_fitting import Fit
from lifeboat.postgres.logical_marks import Remain
from lifeboat.postgres.logical_selection import Selection
from lifeboat.repository.catalogue import Copy


@dataclass(frozen=True)
class Home:
    """The server that databases come back to, as it was found.

    Attributes:
        major: its major version.
        databases, roles, extensions, tablespaces: the names of those that are there; extensions that could be
            installed.
        may_create: whether the role may make databases.
        superuser: whether it may do everything.
        remains: databases that a restore, or a restore test, left behind which was cut short, or is at work with.
        unknown_settings: those of the archive's databases that this server does not know.
    """

    major: int
    databases: frozenset[str]
    roles: frozenset[str]
    extensions: frozenset[str]
    tablespaces: frozenset[str]
    may_create: bool
    superuser: bool
    remains: tuple[Remain, ...] = ()
    unknown_settings: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Replaced:
    """A database that gives way to the one that comes back.

    Attributes:
        name: its name, which the restored one gets.
        oid: its number, by which it is known again.
        size_bytes: ``None`` where the role may not ask for it.
        sessions: how many were in it when the plan was made: they will be ended.
        aside: what it will be called.
    """

    name: str
    oid: int
    size_bytes: int | None
    sessions: int
    aside: str


@dataclass(frozen=True)
class DatabasePlan:
    """One database that comes back.

    Attributes:
        archive: what the recovery point holds of it.
        contents: what was in it.
        tables: those that come back; ``None``: everything.
        selection: of the archive with the definitions; ``None``: everything.
        numbers: for each archive's stream, the entries that come back, in the archive's order; empty: everything.
        name: what it will be called; or the database that is there, and takes it in.
        sequences: those that come back with ``tables``.
        fit: how what is chosen fits into a database that is there; ``None`` where nothing is there that counts.
        replaces: the database that is renamed aside for it, when it is proven; ``None``: none.
    """

    archive: DatabaseArchive
    contents: Contents
    tables: tuple[TableContent, ...] | None
    selection: Selection | None
    numbers: Mapping[str, Sequence[int]]
    name: str
    sequences: tuple[SequenceContent, ...] = ()
    fit: Fit | None = None
    replaces: Replaced | None = None

    @property
    def only(self) -> set[tuple[str, str]] | None:
        """The tables by schema and name; ``None``: everything."""
        return None if self.tables is None else {(table.schema_name, table.name) for table in self.tables}


@dataclass(frozen=True)
class LogicalPlan:
    """What a restore will do.

    Attributes:
        copy: the archive, on the target that is read.
        databases: what comes back of it.
        globals_wanted: whether missing roles and tablespaces are made first.
        owners: whether objects get their owners and privileges back.
        programs: those that do it.
        tablespaces: whether tables go into the tablespaces that they lay in.
        home: the server that they come back to.
        existing: whether it goes into a database that is there, instead of new ones.
        remarks: what a person should know.
        obstacles: what will stop the restore as it is asked for.
    """

    copy: Copy
    details: LogicalDetails
    databases: tuple[DatabasePlan, ...]
    globals_wanted: bool
    owners: bool
    programs: Programs
    home: Home
    tablespaces: bool = True
    existing: bool = False
    remarks: tuple[str, ...] = ()
    obstacles: tuple[LifeboatError, ...] = ()

    @property
    def replaces(self) -> dict[str, str]:
        """What the databases that give way will be called, by their names."""
        return {one.replaces.name: one.replaces.aside for one in self.databases if one.replaces is not None}


def newest_not_later(copies: Sequence[Copy], moment: datetime | None, recovery_point: str | None) -> Copy:
    """The archive to restore: the one named, or the newest whose data are not of a later time.

    Raises:
        MomentUnreachable: there is none; the text says what there is.
        RestoreError: the recovery point named is no logical archive.
    """
    archives = [copy for copy in copies if copy.manifest.kind == LOGICAL and copy.manifest.state == "good"]
    if recovery_point is not None:
        for copy in copies:
            if copy.manifest.recovery_point == recovery_point and copy not in archives:
                raise RestoreError(
                    f"{recovery_point} is a {copy.manifest.kind}, not a logical archive.",
                    "A physical backup comes back into a directory: --into instead of --connection.",
                )
        archives = [copy for copy in archives if copy.manifest.recovery_point == recovery_point]
    elif moment is not None:
        archives = [copy for copy in archives if copy.manifest.moment <= moment]
    if archives:
        return max(archives, key=lambda copy: copy.manifest.moment)
    known = sorted(copy.manifest.moment for copy in copies if copy.manifest.kind == LOGICAL)
    raise MomentUnreachable(
        f"There is no logical archive {recovery_point or 'of that time or before it'}.",
        f"They stand for times from {known[0]:%Y-%m-%d %H:%M:%S} to {known[-1]:%Y-%m-%d %H:%M:%S} UTC."
        if known
        else "None was made yet: weekly, monthly and yearly make them. Physical backups come back with --into.",
    )


def choose_databases(details: LogicalDetails, names: Sequence[str]) -> tuple[DatabaseArchive, ...]:
    """The databases to bring back: those named, or all that hold anything.

    Raises:
        RestoreError: one that is named is not in the archive.
    """
    if not names:
        holding = tuple(database for database in details.databases if database.holds_something)
        return holding or details.databases
    known = {database.name: database for database in details.databases}
    for name in names:
        if name not in known:
            why = f" ({details.left_out[name]})" if name in details.left_out else ""
            raise RestoreError(
                f"The archive holds no database {name!r}{why}.", f"It holds: {', '.join(sorted(known))}."
            )
    return tuple(known[name] for name in dict.fromkeys(names))


def obstacles(
    details: LogicalDetails,
    databases: Sequence[DatabasePlan],
    home: Home,
    *,
    globals_wanted: bool,
    owners: bool,
    existing: bool = False,
) -> list[LifeboatError]:
    """What will stop a restore, each with what to do."""
    found: list[LifeboatError] = []
    if details.fingerprint != FINGERPRINT:
        found.append(
            RestoreError(f"Its rows were fingerprinted in another way ({details.fingerprint}).", "Update Lifeboat.")
        )
    if home.major < details.server.major:
        found.append(
            RestoreError(
                f"The server to restore to is of version {home.major}, the archive of {details.server.major}.",
                f"Restore to a server of version {details.server.major} or later.",
            )
        )
    if not (home.may_create or home.superuser or existing):
        found.append(
            RestoreError(
                "The connection's role may not make databases.",
                "Use a connection of a superuser, or of a role with CREATEDB.",
            )
        )
    for plan in databases:
        if plan.name in home.databases and not existing and plan.replaces is None:
            found.append(
                RestoreError(
                    f"There is a database {plan.name!r} already.",
                    "Name another one with --as, or say --replace-database: then it is renamed, and not dropped.",
                )
            )
        wanted = (
            plan.selection.extensions
            if plan.selection is not None
            else [extension.name for extension in plan.archive.facts.extensions or ()]
        )
        missing = sorted(set(wanted) - home.extensions)
        if missing:
            found.append(
                RestoreError(
                    f"The server lacks extensions of database {plan.archive.name}: {', '.join(missing)}.",
                    "Install their packages on the server.",
                )
            )
        strangers = sorted({*plan.archive.roles, plan.archive.owner} - home.roles - {""})
        if strangers and owners and not globals_wanted:
            found.append(
                RestoreError(
                    f"Roles of database {plan.archive.name} are not on the server: {', '.join(strangers)}.",
                    "Make them with --with-globals, or restore without owners and privileges: --no-owner.",
                )
            )
    return found
