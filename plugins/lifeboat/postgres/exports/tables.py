"""What a database has: its tables and their columns, asked of its catalogs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import TupleRow

from lifeboat.postgres.exports.records import ColumnRecord

Sql = psycopg.Connection[TupleRow]

KINDS = {"r": "table", "p": "partitioned table", "f": "foreign table", "m": "materialized view"}
# Databases that belong to a provider, and that nobody may enter.
_OF_PROVIDERS = frozenset({"rdsadmin", "cloudsqladmin", "azure_maintenance", "azure_sys"})
_NUMBERS = ("bool", "int2", "int4", "int8", "float4", "float8", "numeric")


@dataclass(frozen=True)
class Table:
    """A table as a choice needs it.

    Attributes:
        database, schema, name: which one.
        oid: its number.
        kind: ``r``, ``p`` (partitioned), ``f`` (foreign) or ``m`` (materialized view), as in ``pg_class``.
        partition: it is a partition of another.
        parents: the tables that it inherits from, or is a partition of.
        readable: the role may read it.
        filtered: row security would hide rows of it from the role.
        extension: the extension that it belongs to, which makes it anew; ``None`` for those that hold users' rows.
    """

    database: str
    schema: str
    name: str
    oid: int
    kind: str = "r"
    partition: bool = False
    parents: tuple[int, ...] = ()
    readable: bool = True
    filtered: bool = False
    extension: str | None = None

    @property
    def path(self) -> str:
        """Its name for people."""
        return f"{self.schema}.{self.name}"

    @property
    def exportable(self) -> bool:
        """Whether it is exported by itself: partitions come with their table, views can be made anew."""
        return self.kind in "rp" and not self.partition and self.extension is None


@dataclass(frozen=True)
class Inventory:
    """The tables of one database, and the columns of those that are masked.

    Attributes:
        columns: by the table's oid and the column's name: the columns that it is generated from.
    """

    database: str
    tables: tuple[Table, ...]
    columns: Mapping[int, Mapping[str, frozenset[str]]] = field(default_factory=dict)


def read_databases(session: Sql) -> dict[str, bool]:
    """The databases that take connections, templates aside; whether the role may enter each."""
    rows = session.execute(
        "SELECT datname, has_database_privilege(oid, 'CONNECT') FROM pg_catalog.pg_database"
        " WHERE datallowconn AND NOT datistemplate ORDER BY datname"
    )
    return {str(name): bool(enters) for name, enters in rows if name not in _OF_PROVIDERS}


def read_tables(session: Sql, database: str) -> tuple[Table, ...]:
    """All tables, materialized views and foreign tables that are not the server's own or temporary, by name."""
    rows = session.execute(
        """
        SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relispartition,
               ARRAY(SELECT i.inhparent::int8 FROM pg_inherits i WHERE i.inhrelid = c.oid ORDER BY i.inhseqno),
               has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
               c.relrowsecurity AND row_security_active(c.oid),
               (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                 WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                   AND d.refclassid = 'pg_extension'::regclass AND c.oid <> ALL (coalesce(e.extconfig, '{}')))
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'f', 'm') AND c.relpersistence <> 't'
           AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
         ORDER BY n.nspname, c.relname
        """
    )
    return tuple(
        Table(database, schema, name, oid, kind, partition, tuple(parents), bool(readable), bool(filtered), extension)
        for oid, schema, name, kind, partition, parents, readable, filtered, extension in rows
    )


def read_column_names(session: Sql, oids: Sequence[int]) -> dict[int, dict[str, frozenset[str]]]:
    """The columns of some tables, each with those that it is generated from."""
    found: dict[int, dict[str, frozenset[str]]] = {}
    rows = session.execute(
        """
        SELECT a.attrelid::int8, a.attname,
               ARRAY(SELECT b.attname::text FROM pg_attrdef f
                       JOIN pg_depend d ON d.classid IN ('pg_attrdef'::regclass, 'pg_class'::regclass)
                        AND (d.objid = f.oid AND d.classid = 'pg_attrdef'::regclass
                             OR d.objid = a.attrelid AND d.objsubid = a.attnum AND d.classid = 'pg_class'::regclass)
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid > 0
                       JOIN pg_attribute b ON b.attrelid = a.attrelid AND b.attnum = d.refobjsubid
                      WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum AND a.attgenerated <> ''
                        AND b.attnum <> a.attnum)
          FROM pg_attribute a WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attrelid, a.attnum
        """,
        [list(oids)],
    )
    for oid, name, origins in rows:
        found.setdefault(oid, {})[name] = frozenset(origins)
    return found


def read_columns(session: Sql, oids: Sequence[int]) -> dict[int, tuple[tuple[ColumnRecord, ...], tuple[str, ...]]]:
    """Columns and primary key of some tables, as they are recorded."""
    domains: dict[int, int] = dict(
        session.execute("SELECT oid::int8, typbasetype::int8 FROM pg_catalog.pg_type WHERE typtype = 'd'").fetchall()
    )
    numbers = {
        oid
        for (oid,) in session.execute(
            "SELECT oid::int8 FROM pg_catalog.pg_type WHERE typname = ANY (%s)"
            " AND typnamespace = 'pg_catalog'::regnamespace",
            [list(_NUMBERS)],
        )
    }
    columns: dict[int, list[ColumnRecord]] = {oid: [] for oid in oids}
    rows = session.execute(
        """
        SELECT a.attrelid::int8, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, a.atttypid::int8,
               CASE WHEN a.attcollation <> t.typcollation THEN
                 (SELECT format('%%I.%%I', n.nspname, l.collname) FROM pg_collation l
                    JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = a.attcollation) END,
               a.attidentity::text, a.attgenerated::text,
               CASE WHEN a.attgenerated <> '' THEN
                 (SELECT pg_get_expr(f.adbin, f.adrelid) FROM pg_attrdef f
                   WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum) END,
               (SELECT pg_sequence_last_value(d.objid) FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
                 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND s.relkind = 'S'
                   AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('i', 'a') LIMIT 1)
          FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
         WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attrelid, a.attnum
        """,
        [list(oids)],
    )
    for oid, name, type_name, nullable, type_oid, collation, identity, generated, expression, last in rows:
        base = type_oid
        while base in domains:
            base = domains[base]
        columns[oid].append(
            ColumnRecord(
                name=name,
                type=type_name,
                nullable=nullable,
                number=base in numbers,
                collation=collation,
                identity={"a": "always", "d": "by default"}.get(identity),
                generated=expression,
                virtual=generated == "v",
                last_value=last,
            )
        )
    keys: dict[int, list[str]] = {oid: [] for oid in oids}
    for oid, name in session.execute(
        """
        SELECT i.indrelid::int8, a.attname
          FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
         WHERE i.indisprimary AND k.place <= i.indnkeyatts AND i.indrelid = ANY (%s::oid[])
         ORDER BY i.indrelid, k.place
        """,
        [list(oids)],
    ):
        keys[oid].append(name)
    return {oid: (tuple(columns[oid]), tuple(keys[oid])) for oid in oids}
