"""What was exported comes back equal, from JSON and from CSV: every built-in type, and every odd value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from lifeboat.postgres.connecting import no_tick
from lifeboat.postgres.exports.loading import Destination, Loaded, beside, load
from lifeboat.postgres.exports.reading import chosen_tables
from lifeboat.postgres.parameters import Tls, connection_parameters
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.repository.catalogue import Copy
from sandbox import postgres_builds
from sandbox.postgres import PostgresServer
from sandbox.postgres_role import create_backup_role
from tests.exports.conftest import Exporter

RunSql = Callable[..., list[tuple[Any, ...]]]

# A type, and values of it; each is also exported as NULL and in an array.
ODD: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "0"],
    "bigint": ["-9223372036854775808", "9007199254740993"],
    "numeric": ["NaN", "Infinity", "-Infinity", "1.10", "-0.000", "123456789012345678901234567890.123456789", "1e-30"],
    "numeric(12,2)": ["1.00"],
    "real": ["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1"],
    "double precision": ["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.1"],
    "money": ["-92233720368547758.08", "12345.67"],
    "text": [
        "",
        "NULL",
        "null",
        "\\.",
        "\\N",
        "a\tb\nc\r\nd\be\ff\x0b\x01\x1f\x7f",
        "\"quoted\", 'and' \\back\\",
        " spaces ",
        "\U0001f600 é \u2028",
        ",",
        "\n",
        '""',
        "{}",
    ],
    "varchar(5)": ["", "a b  "],
    "char(5)": ["a", ""],
    '"char"': ["x"],
    "name": ["a_name"],
    "bytea": ["", "\\x00ff0a5c22"],
    "date": ["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31", "2024-02-29"],
    "time": ["24:00:00", "23:59:59.999999"],
    "timetz": ["12:00:00+15:59:59"],
    "timestamp": ["infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999"],
    "timestamptz": ["infinity", "-infinity", "0001-01-01 00:00:00+00 BC", "2024-06-01 12:00:00.000001+05:30"],
    "interval": ["-1 mons +2 days -03:00:00", "1 year -1 day", "00:00:00.000001", "178000000 years"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "json": ['{"a": 1, "a":\n 2.0, "u": "\\u00e9"}', "null", '"text"', " [1,  2]"],
    "jsonb": ["null", '"null"', '{"b": [1.10, {"c": null}]}', "1e5"],
    "jsonpath": ['$."a"[*]'],
    "xml": [],  # the newest server is built without libxml: a test of its own has values on another
    "inet": ["192.168.0.1/24", "::1", "10.0.0.1"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit(3)": ["101"],
    "varbit": ["", "1"],
    "point": ["(NaN,Infinity)", "(-0,1.5)"],
    "line": ["{1,2,3}"],
    "lseg": ["[(0,0),(1,1)]"],
    "box": ["(1,1),(0,0)"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
    "polygon": ["((0,0),(1,1),(1,0))"],
    "circle": ["<(0,0),1>"],
    "tsvector": ["'a':1A 'it''s':2"],
    "tsquery": ["'a' & !'b'"],
    "int4range": ["empty", "(,)", "[1,5)"],
    "numrange": ["[1.10,)"],
    "tstzrange": ['["2024-01-01 00:00:00+00",infinity]'],
    "daterange": ["[2024-01-01,)"],
    "int8range": ["[-9223372036854775808,)"],
    "tsrange": ['["2024-01-01 00:00:00",infinity)'],
    "int4multirange": ["{[1,3)}"],
    "int8multirange": ["{}", "{[1,3),[5,)}"],
    "nummultirange": ["{(,1.10]}"],
    "tsmultirange": ['{["2024-01-01 00:00:00",]}'],
    "tstzmultirange": ['{["2024-01-01 00:00:00+00",]}'],
    "datemultirange": ["{[2024-01-01,2024-01-02)}"],
    "pg_lsn": ["16/B374D848"],
    "xid8": ["18446744073709551615"],
    "pg_snapshot": ["10:20:10,14"],
    "txid_snapshot": ["10:20:10,14"],
    "oid": ["4294967295"],
    "xid": ["4294967295"],
    "cid": ["7"],
    "int2vector": ["1 -2", ""],
    "oidvector": ["1 4294967295"],
    "aclitem": ["postgres=r*w/postgres"],
    "refcursor": ['a "cursor"'],
    "regproc": ["now"],
    "regprocedure": ["pg_catalog.abs(integer)"],
    "regoper": ["||/"],
    "regoperator": ["+(integer,integer)"],
    "regcollation": ['"C"'],
    "regrole": ["postgres"],
    "regnamespace": ["pg_catalog", '"Odd Schema"'],
    "regconfig": ["english"],
    "regdictionary": ["simple"],
    "regclass": ["pg_catalog.pg_class", '"Odd Schema"."Odd.Table"'],
    "regtype": ["integer[]"],
    "tid": ["(1,2)"],
    "int[]": ["{}", "{{1,NULL},{NULL,2}}", "[0:1]={1,2}"],
    "text[]": ['{NULL,"NULL","",",","\\\\","{}","a\nb"}'],
    "mood": ["happy, really", ""],
    "positive": ["1"],
    "words": ['{"a b",NULL}'],
    "pair": ['(1,"a ""quoted"" \\\\ text")', "(,)", '(,"")'],
    "pair[]": ['{"(1,a)",NULL}'],
    "moodrange": ['["","happy, really"]'],
}


def make_types(run_sql: RunSql) -> None:
    run_sql("CREATE TYPE public.mood AS ENUM ('', 'sad', 'happy, really')")
    # A cast to text is anybody's to define, and no way to read values.
    run_sql("CREATE FUNCTION public.lie(public.mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'a lie'$$")
    run_sql("CREATE CAST (public.mood AS text) WITH FUNCTION public.lie(public.mood)")
    run_sql("CREATE DOMAIN public.positive AS int CHECK (value > 0)")
    run_sql("CREATE DOMAIN public.words AS text[]")
    run_sql("CREATE TYPE public.pair AS (a int, b text)")
    run_sql("CREATE TYPE public.moodrange AS RANGE (subtype = public.mood)")
    run_sql('CREATE SCHEMA "Odd Schema"')
    run_sql('CREATE TABLE "Odd Schema"."Odd.Table" ("select" int, "a ""quoted"" name" text, "%s {} \\ é" text)')


def make_odd(run_sql: RunSql) -> int:
    """The table ``odd`` with all of that; returns its number of rows."""
    make_types(run_sql)
    columns = ", ".join(f"c{number} {type_name}" for number, type_name in enumerate(ODD))
    run_sql(f"CREATE TABLE public.odd ({columns})")
    longest = max(map(len, ODD.values()))
    for row in range(longest):
        values = [texts[row] if row < len(texts) else None for texts in ODD.values()]
        casts = ", ".join(f"%s::{type_name}" for type_name in ODD)
        run_sql(f"INSERT INTO public.odd VALUES ({casts})", values)
    run_sql("INSERT INTO public.odd DEFAULT VALUES")
    return longest + 1


def restore(
    exporter: Exporter, copy: Copy, *only: str, format_name: Any = None, database: str, **more: Any
) -> list[Loaded]:
    origin = origin_of(exporter.repository, "primary", copy)
    destinations = [
        Destination(record, record.schema_name, more.get("name") or beside(record.name), more.get("replace", False))
        for record in chosen_tables(copy.manifest, origin, only)
    ]
    parameters = connection_parameters(exporter.connection(database), Tls("off"))
    return load(copy.manifest, origin, destinations, parameters, format_name=format_name, tick=no_tick)


def content(run_sql: RunSql, table: str) -> list[str]:
    """Every row as the server's own text of it."""
    return sorted(row for (row,) in run_sql(f"SELECT whole::text FROM {table} AS whole"))


@pytest.mark.parametrize("format_name", ["json", "csv"])
def test_every_type_and_odd_value_comes_back_equal(
    exporter: Exporter, run_sql: RunSql, database: str, format_name: str
) -> None:
    rows = make_odd(run_sql)
    copy = exporter.export()
    assert exporter.verify(copy).tables == 2
    restore(exporter, copy, "public.odd", format_name=format_name, database=database)
    compared = content(run_sql, "public.odd")
    assert len(compared) == rows
    assert content(run_sql, "public.odd_restored") == compared
    assert (
        run_sql(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attnum > 0"
            " AND attrelid = 'public.odd'::regclass EXCEPT SELECT attname, format_type(atttypid, atttypmod)"
            " FROM pg_attribute WHERE attnum > 0 AND attrelid = 'public.odd_restored'::regclass"
        )
        == []
    )


def test_every_type_that_the_server_has_is_among_those(run_sql: RunSql) -> None:
    rows = run_sql(
        "SELECT format_type(oid, NULL) FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
        " AND typtype IN ('b', 'r', 'm') AND typinput <> 'array_in'::regproc"
    )
    known = {name for (name,) in run_sql("SELECT to_regtype(t)::text FROM unnest(%s::text[]) t", [list(ODD)])}
    missing = {name for (name,) in rows} - known
    # What no text makes can be in no file: the server's own summaries.
    for name in missing:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="cannot accept a value"):
            run_sql(f"SELECT ''::{name}")
    assert len(rows) - len(missing) > 70


XML = [
    "<a>text</a>",
    "text <b/> and &amp; &lt;",
    '<?xml version="1.0"?><a b=\'c "d"\'/>',
    "<!-- a -->\n<a>\ttabs\r\n</a>",
    "<a><![CDATA[<b>]]></a>",
    "<é>\U0001f600</é>",
    "",
]


def test_xml_comes_back_equal(
    make_exporter: Callable[..., Exporter], make_postgres: Callable[..., PostgresServer]
) -> None:
    server = make_postgres(major=min(postgres_builds.tested_majors()))
    create_backup_role(server)
    server.run_sql("GRANT pg_read_all_data TO lifeboat; CREATE TABLE documents (one xml, several xml[])")
    for text in XML:
        server.run_sql("INSERT INTO documents VALUES (%s::xml, ARRAY[%s::xml, NULL])", [text, text])
    server.run_sql("INSERT INTO documents DEFAULT VALUES")
    exporter = make_exporter(server=server, databases="postgres")
    copy = exporter.export()
    for format_name in ("json", "csv"):
        name = f"documents_{format_name}"
        restore(exporter, copy, "public.documents", format_name=format_name, database="postgres", name=name)
        assert content(server.run_sql, name) == content(server.run_sql, "documents")
        assert len(content(server.run_sql, name)) == len(XML) + 1


@pytest.mark.parametrize("major", [15, 17], ids=lambda major: f"postgresql-{major}")
def test_an_export_of_an_older_server_comes_back_equal_in_a_newer_one(
    major: int,
    make_exporter: Callable[..., Exporter],
    make_postgres: Callable[..., PostgresServer],
    run_sql: RunSql,
    database: str,
    export_server: PostgresServer,
) -> None:
    older = make_postgres(major=major)
    create_backup_role(older)
    older.run_sql("GRANT pg_read_all_data TO lifeboat")
    make_odd(older.run_sql)
    exporter = make_exporter(server=older, databases="postgres")
    copy = exporter.export()
    exporter.server = export_server
    make_types(run_sql)
    restore(exporter, copy, "public.odd", database=database)
    assert content(run_sql, "public.odd_restored") == content(older.run_sql, "public.odd")


@pytest.mark.parametrize("format_name", ["json", "csv"])
def test_every_feature_of_tables_comes_back_equal(
    exporter: Exporter, run_sql: RunSql, database: str, format_name: str
) -> None:
    make_types(run_sql)
    run_sql("INSERT INTO \"Odd Schema\".\"Odd.Table\" VALUES (1, 'a', 'b'), (NULL, '', NULL)")
    run_sql(
        "CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY (START 5) PRIMARY KEY, name text NOT NULL,"
        " name_upper text GENERATED ALWAYS AS (upper(name)) STORED,"
        " long int GENERATED ALWAYS AS (length(name)) VIRTUAL,"
        ' sorted text COLLATE "C", ready boolean)'
    )
    run_sql("INSERT INTO people (name) VALUES ('ann'), (repeat('x', 1000000))")
    run_sql("CREATE TABLE staff (badge int) INHERITS (people)")
    run_sql("INSERT INTO staff (id, name, badge) VALUES (100, 'ben', 7)")
    run_sql("CREATE TABLE sales (day date, n int, PRIMARY KEY (day, n)) PARTITION BY RANGE (day)")
    run_sql("CREATE TABLE sales_1 PARTITION OF sales FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    run_sql("CREATE TABLE sales_2 PARTITION OF sales DEFAULT")
    run_sql("INSERT INTO sales VALUES ('2024-05-05', 1), ('infinity', 2)")
    run_sql("CREATE TABLE no_columns ()")
    run_sql("INSERT INTO no_columns SELECT FROM generate_series(1, 3)")
    run_sql("CREATE TABLE no_rows (n int)")
    run_sql("CREATE TABLE one_column (t text)")
    run_sql("INSERT INTO one_column VALUES (NULL), (''), ('\\.'), (E'a\\n\\\\.\\nb'), (NULL)")
    copy = exporter.export()
    records = exporter.records(copy)
    assert {name.removeprefix(f"{database}."): record.rows for name, record in records.items()} == {
        "Odd Schema.Odd.Table": 2,
        "public.no_columns": 3,
        "public.no_rows": 0,
        "public.one_column": 5,
        "public.people": 2,
        "public.sales": 2,
        "public.staff": 1,
    }
    assert exporter.verify(copy).files == 14
    loaded = restore(exporter, copy, format_name=format_name, database=database)
    assert all(one.made for one in loaded)
    for table, query in {
        "people": "SELECT whole::text FROM ONLY {} AS whole",
        "staff": "SELECT whole::text FROM {} AS whole",
        "sales": "SELECT whole::text FROM {} AS whole",
        "no_columns": "SELECT count(*) FROM {}",
        "no_rows": "SELECT whole::text FROM {} AS whole",
        "one_column": "SELECT whole::text FROM {} AS whole",
    }.items():
        old, new = (sorted(map(repr, run_sql(query.format(f"public.{name}")))) for name in (table, beside(table)))
        assert old == new, table
    assert content(run_sql, '"Odd Schema"."Odd.Table"') == content(run_sql, '"Odd Schema"."Odd.Table_restored"')
    # The row that is added next gets the next number, as in the old table.
    run_sql("INSERT INTO people_restored (name) VALUES ('new')")
    assert run_sql("SELECT id, name_upper FROM people_restored WHERE name = 'new'") == [(7, "NEW")]
    with pytest.raises(Exception, match="duplicate key"):
        run_sql("INSERT INTO sales_restored VALUES ('2024-05-05', 1)")
