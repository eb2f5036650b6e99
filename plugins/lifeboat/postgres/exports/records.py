"""What is recorded of an export: a summary in the recovery point's manifest, and a line for each table in a stream.

The lines lie apart, since a manifest is read whenever anybody lists recovery points, and a database may have ten
thousand tables. They are written in the tables' order, and their stream's digest stands in the signed manifest.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from lifeboat.policy.export import ExportFormat

EXPORT = "export"
TABLES_STREAM = "tables.jsonl"
LONGEST_RECORD_BYTES = 16 * 1024 * 1024
MaskKind = Literal["hash", "partial", "null", "fixed"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnRecord(_Model):
    """A column.

    Attributes:
        name: its name.
        type: PostgreSQL's own name of the type, such as ``numeric(12,2)`` or ``public.mood``.
        nullable: whether it may hold NULL.
        number: a value of it is a number, or ``true`` and ``false``, in JSON; else a string in PostgreSQL's text form.
        collation: where it is not the type's own.
        identity: ``always`` or ``by default``.
        generated: the expression that it is computed by.
        virtual: a generated column that is not stored.
        last_value: where its sequence stood; ``None`` where it has none, or it was never used.
        mask: how its values were hidden on the server; ``None``: they were not.
    """

    name: str
    type: str
    nullable: bool = True
    number: bool = False
    collation: str | None = None
    identity: Literal["always", "by default"] | None = None
    generated: str | None = None
    virtual: bool = False
    last_value: int | None = None
    mask: MaskKind | None = None


class FileRecord(_Model):
    """One table in one format.

    Attributes:
        format: ``json`` or ``csv``.
        stream: the stream that holds it.
        member: its name in that stream, which is a tar then; ``None``: the stream is the file.
        size: plain bytes.
        fingerprint: of its rows, whatever their order; 64 hexadecimal digits.
    """

    format: ExportFormat
    stream: str
    member: str | None = None
    size: int = Field(ge=0)
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")


class TableRecord(_Model):
    """One table.

    Attributes:
        database, schema_name, name: which one.
        partitioned: its rows lie in partitions, which are no tables of their own here.
        columns: in their order.
        primary_key: the columns of its primary key, in its order.
        rows: how many.
        files: one for each format.
    """

    database: str
    schema_name: str
    name: str
    partitioned: bool = False
    columns: tuple[ColumnRecord, ...]
    primary_key: tuple[str, ...] = ()
    rows: int = Field(ge=0)
    files: tuple[FileRecord, ...] = Field(min_length=1)

    @property
    def path(self) -> str:
        """Its name for people: ``public.users``."""
        return f"{self.schema_name}.{self.name}"

    @property
    def masked(self) -> tuple[str, ...]:
        """The names of its masked columns."""
        return tuple(column.name for column in self.columns if column.mask is not None)

    def file(self, format_name: str) -> FileRecord | None:
        """The file in that format; ``None`` where there is none."""
        return next((file for file in self.files if file.format == format_name), None)


class MaskedColumn(_Model):
    """A column whose values never left the server."""

    column: str
    mask: MaskKind


class ExportedDatabase(_Model):
    """One database.

    Attributes:
        name: its name.
        encoding: its encoding; the files are in UTF-8.
        moment: by the server's clock; what was committed by then is in it.
        tables: how many were exported.
        rows: of all of them.
    """

    name: str
    encoding: str
    moment: AwareDatetime
    tables: int
    rows: int


class ExportDetails(_Model):
    """The PostgreSQL part of an export's manifest.

    Attributes:
        system_identifier: of the cluster; ``None`` where the role may not know.
        version_num, version: the server's.
        formats: of each table.
        partial: single tables were asked for: it is no complete export, and counts for no tier.
        only: what was asked for then.
        databases: each with its own snapshot.
        tables, rows: of all databases.
        masked: the masked columns.
        standby: whether it was read from a standby.
    """

    system_identifier: int | None
    version_num: int
    version: str
    formats: tuple[ExportFormat, ...]
    partial: bool
    only: tuple[str, ...] = ()
    databases: tuple[ExportedDatabase, ...]
    tables: int
    rows: int
    masked: tuple[MaskedColumn, ...] = ()
    standby: bool = False
