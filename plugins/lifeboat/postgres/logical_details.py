"""PostgreSQL's part of a logical archive's manifest, and the listing of a database's contents that goes with it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from lifeboat.errors import ManifestInvalid
from lifeboat.postgres.server_facts import DatabaseFacts, ServerFacts
from lifeboat.repository.manifest import Manifest, parse_part

LOGICAL = "logical"
GLOBALS = "globals.sql"
FINGERPRINT = "sum of the first 8 bytes of SHA-256 of each row's text"
"""How rows are fingerprinted; a reader that knows another way only compares counts."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Archive(_Model):
    """One stream in ``pg_dump``'s custom format.

    Attributes:
        stream: its name in the recovery point.
        holds: everything of its database; its definitions alone; or rows of some of its tables.
    """

    stream: str
    holds: Literal["all", "schema", "data"]


class DatabasePrivilege(_Model):
    """What ``GRANT … ON DATABASE`` has granted; ``role`` is empty for PUBLIC."""

    role: str
    privilege: str
    grantable: bool = False


class RoleSettings(_Model):
    """What ``ALTER ROLE … IN DATABASE … SET`` has set, each as ``name=value``."""

    role: str
    settings: tuple[str, ...]


class DatabaseArchive(_Model):
    """One database.

    Attributes:
        oid: on the server that was backed up; streams are named after it.
        facts: name, encoding, locale, extensions.
        owner: the role that owns it.
        comment: its comment.
        settings: what ``ALTER DATABASE … SET`` has set, each as ``name=value``.
        role_settings: what is set in it for single roles.
        privileges: on the database itself; ``None``: those that every database begins with.
        tablespace: its own, where tables go that name none.
        connection_limit: how many connections it allows; -1: any number.
        subscriptions: by name. They never come back: each would begin to take changes from its publisher.
        roles: the roles that own something in it, have privileges in it or on it, or settings of their own.
        moment: of the snapshot that everything of this database was read in.
        archives: the definitions first where they are apart.
        contents: the stream that lists tables with counts and fingerprints.
        tables, rows, large_objects: how many there are.
        holds_something: whether there is anything in it that PostgreSQL did not make.
    """

    oid: int
    facts: DatabaseFacts
    owner: str
    comment: str | None = None
    settings: tuple[str, ...] = ()
    role_settings: tuple[RoleSettings, ...] = ()
    privileges: tuple[DatabasePrivilege, ...] | None = None
    tablespace: str = "pg_default"
    connection_limit: int = -1
    subscriptions: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    moment: AwareDatetime
    archives: tuple[Archive, ...]
    contents: str
    tables: int
    rows: int
    large_objects: int
    holds_something: bool

    @property
    def name(self) -> str:
        """The database's name."""
        return self.facts.name


class LogicalDetails(_Model):
    """A logical archive of a server.

    Attributes:
        server: what was backed up.
        due: the day on whose schedule it was made; ``None`` when a person started it.
        databases: by name.
        left_out: the databases that are not in it, by name, with the reason.
        role_passwords: whether the roles' passwords (as hashes) are in the globals.
        fingerprint: how rows were fingerprinted.
        dumped_by: the version of ``pg_dump``; ``pg_restore`` has to be of this major version or a later one.
        standby: whether it was read from a standby.
    """

    server: ServerFacts
    due: date | None = None
    databases: tuple[DatabaseArchive, ...]
    left_out: dict[str, str] = {}
    role_passwords: bool
    fingerprint: str = FINGERPRINT
    dumped_by: str
    standby: bool = False

    @property
    def dump_major(self) -> int:
        """The major version of ``pg_dump``."""
        return int(self.dumped_by.split(".", maxsplit=1)[0])


class TableContent(_Model):
    """A table, and what was in it.

    Attributes:
        oid: on the server that was backed up: the archive's table of contents names it, too.
        parents: the tables that it inherits from, or is a partition of.
        partition: whether it is a partition.
        rows: how many; ``None`` for a table that holds none itself (a partitioned one), and for an unlogged one whose
            rows the standby that was read does not have.
        fingerprint: of its rows, in any order; without generated columns, which are computed anew.
        size_bytes: on disk.
    """

    kind: Literal["table"] = "table"
    oid: int
    schema_name: str
    name: str
    parents: tuple[int, ...] = ()
    partition: bool = False
    rows: int | None = None
    fingerprint: str | None = None
    size_bytes: int = 0

    @property
    def label(self) -> str:
        """Its name for messages."""
        return f"{self.schema_name}.{self.name}"


class SequenceContent(_Model):
    """A sequence and where it stood when the reading began: it may have gone on before ``pg_dump`` came to it."""

    kind: Literal["sequence"] = "sequence"
    oid: int
    schema_name: str
    name: str
    last: int
    called: bool
    increment: int
    cycle: bool

    @property
    def label(self) -> str:
        """Its name for messages."""
        return f"{self.schema_name}.{self.name}"

    def behind(self, other: SequenceContent) -> bool:
        """Whether it would give out numbers that ``other`` has given out. One that begins anew by itself never is."""
        ahead = (self.last - other.last) * (1 if other.increment > 0 else -1)
        return not other.cycle and (ahead < 0 or (ahead == 0 and other.called and not self.called))


class LargeObjects(_Model):
    """All large objects of a database."""

    kind: Literal["large objects"] = "large objects"
    count: int
    fingerprint: str | None


class Contents(_Model):
    """What a database held."""

    tables: tuple[TableContent, ...]
    sequences: tuple[SequenceContent, ...]
    large_objects: LargeObjects

    def roots(self) -> dict[int, TableContent]:
        """For each table's oid the table at the root of its partitions; itself where it is no partition."""
        by_oid = {table.oid: table for table in self.tables}
        found = {}
        for table in self.tables:
            root = table
            while root.partition and root.parents and root.parents[0] in by_oid:
                root = by_oid[root.parents[0]]
            found[table.oid] = root
        return found

    def lines(self) -> Iterable[bytes]:
        """As JSON lines: the listing's stored form."""
        for entry in (*self.tables, *self.sequences, self.large_objects):
            yield entry.model_dump_json().encode() + b"\n"

    @classmethod
    def parse(cls, text: bytes, what: str) -> Contents:
        """Read a listing.

        Raises:
            ManifestInvalid: it can't be read.
        """
        known: dict[str, type[_Model]] = {
            "table": TableContent,
            "sequence": SequenceContent,
            "large objects": LargeObjects,
        }
        found: dict[str, list[_Model]] = {kind: [] for kind in known}
        try:
            for line in text.splitlines():
                kind = json.loads(line)["kind"]
                found[kind].append(known[kind].model_validate_json(line))
            return cls.model_validate(
                {
                    "tables": found["table"],
                    "sequences": found["sequence"],
                    "large_objects": found["large objects"][0],
                }
            )
        except (ValidationError, ValueError, KeyError, IndexError, TypeError) as error:
            raise ManifestInvalid(
                f"{what} can't be read: {type(error).__name__}.", "A newer Lifeboat may have written it."
            ) from error


def logical_details(manifest: Manifest) -> LogicalDetails:
    """The PostgreSQL part of a logical archive's manifest; raises ``ManifestInvalid``."""
    return parse_part(LogicalDetails, manifest)
