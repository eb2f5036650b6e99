"""The SQL of an export: how each table is read, and how its masked values are made where they can't be seen.

A value of a number's type, or a boolean, stands in JSON as such, as long as JSON can hold it; every other value is a
string in PostgreSQL's own text form, which any PostgreSQL reads back exactly: JSON has no infinity, no dates, and only
one NULL. The form comes from the type's output function (through ``format``); a cast to text would trim a ``char(n)``,
and somebody may have defined his own.

Sources: https://www.postgresql.org/docs/current/sql-copy.html,
https://www.postgresql.org/docs/current/functions-json.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from lifeboat.policy.export import ExportFormat
from lifeboat.postgres.exports.choosing import Hidden
from lifeboat.postgres.exports.records import ColumnRecord

MASK_KEY = "lifeboat.mask_key"
"""The setting of the session that holds the key of the masks' hashes."""

MAKE_MASK_KEY = (
    "SELECT pg_catalog.set_config('lifeboat.mask_key', pg_catalog.gen_random_uuid()::text"
    " || pg_catalog.gen_random_uuid()::text, false) IS NOT NULL"
)
"""The key is made by the server and stays in its session: it is in no statement, no log and no file, and gone with the
session. Nobody can try addresses or names until a hash fits."""

_TEXT = ("text", "character varying")


def copy_statement(
    relation: sql.Composable,
    columns: Sequence[ColumnRecord],
    format_name: ExportFormat,
    masks: Mapping[str, Hidden] | None = None,
    *,
    only: bool,
) -> sql.Composed:
    """``COPY … TO STDOUT`` of one table.

    Args:
        relation: the table's qualified name.
        columns: as recorded.
        format_name: ``json`` or ``csv``.
        masks: by column.
        only: without the tables that inherit from it; a partitioned table is read with its partitions.
    """
    masks = masks or {}
    values = [
        sql.SQL("{} AS {}").format(_value(column, format_name, masks.get(column.name)), sql.Identifier(column.name))
        for column in columns
    ]
    source = sql.SQL("ONLY {}").format(relation) if only else relation
    query = sql.SQL("SELECT {} FROM {} AS t").format(sql.SQL(", ").join(values), source)
    if format_name == "csv":
        return sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER true, ENCODING 'UTF8')").format(query)
    # COPY's text format would double every backslash. As a CSV of one column whose quote and delimiter are control
    # characters, which JSON never holds, each object comes as it is.
    return sql.SQL(
        "COPY (SELECT pg_catalog.row_to_json(r.*) FROM ({}) AS r) TO STDOUT"
        " (FORMAT csv, QUOTE E'\\x01', ESCAPE E'\\x01', DELIMITER E'\\x02', ENCODING 'UTF8')"
    ).format(query)


def _value(column: ColumnRecord, format_name: ExportFormat, hidden: Hidden | None) -> sql.Composable:
    plain = sql.SQL("t.{}").format(sql.Identifier(column.name))
    if hidden is not None:
        return _masked(plain, hidden)
    if format_name == "csv" or column.number or column.type.split("(")[0] in _TEXT:
        return plain
    return _if_known(plain, _text(plain))


def _text(plain: sql.Composable) -> sql.Composed:
    return sql.SQL("pg_catalog.format('%s', {})").format(plain)


def _if_known(plain: sql.Composable, value: sql.Composable) -> sql.Composed:
    # IS NOT NULL is false for a row with a NULL in it.
    return sql.SQL("CASE WHEN {} IS DISTINCT FROM NULL THEN {} END").format(plain, value)


def _masked(plain: sql.Composable, hidden: Hidden) -> sql.Composable:
    if hidden.kind == "null":
        return sql.SQL("NULL::pg_catalog.text")
    if hidden.kind == "fixed":
        return sql.SQL("{}::pg_catalog.text").format(sql.Literal(hidden.text))
    if hidden.kind == "hash":
        digest = sql.SQL(
            "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to("
            "pg_catalog.current_setting('lifeboat.mask_key') || {}, 'UTF8')), 'hex')"
        )
        return _if_known(plain, digest.format(_text(plain)))
    shown = sql.SQL("CASE WHEN pg_catalog.length({0}) >= 5 THEN pg_catalog.left({0}, 2) || '***' ELSE '***' END")
    return _if_known(plain, shown.format(_text(plain)))
