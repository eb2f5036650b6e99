"""A logical archive at the command line: made, listed, verified, and one table of it brought back."""

from __future__ import annotations

import json
from collections.abc import Callable

from sandbox.postgres import SUPERUSER
from sandbox.postgres_role import let_read_everything
from tests.cli.conftest import Protected, Said

Command = Callable[..., Said]

GLASS = ("--break-glass", "a test")


def ready(protected: Protected) -> None:
    """Something to archive, a role that may read it, and a connection to bring it back."""
    server = protected.server
    server.run_sql("CREATE TABLE invoices (id serial PRIMARY KEY, total numeric)")
    server.run_sql("CREATE TABLE customers (id int PRIMARY KEY)")
    server.run_sql("INSERT INTO invoices (total) SELECT n FROM generate_series(1, 100) n")
    connections = json.loads(protected.connections.read_text())
    connections["demo_home"] = json.loads(server.airflow_connection(SUPERUSER))
    protected.connections.write_text(json.dumps(connections))
    protected.secrets.append(server.passwords[SUPERUSER])


def test_one_table_of_a_weekly_archive_comes_back_beside_the_lost_one(protected: Protected, lifeboat: Command) -> None:
    ready(protected)
    refused = lifeboat(protected, "preflight", "demo", "database", "--tier", "weekly")
    assert refused.code == 1
    assert "GRANT pg_read_all_data TO lifeboat;" in refused.err
    let_read_everything(protected.server)
    assert lifeboat(protected, "preflight", "demo", "database", "--tier", "weekly").code == 0

    made = lifeboat(protected, "backup", "demo", "database", "--tier", "weekly", "--json")
    assert made.code == 0, made.err
    (point,) = made.json["recovery_points"]
    assert point["kind"] == "logical"
    assert point["copies"] == ["primary", "offsite", "local"]
    protected.server.run_sql("DROP TABLE invoices")

    words = ("restore", "demo", "database", "--connection", "demo_home", "--only", "public.invoices", "--as", "before")
    plan = lifeboat(protected, *words, "--plan")
    assert plan.code == 0, plan.err
    for piece in (point["id"], "postgres → before", "public.invoices: 100 rows", "nothing that is there is touched"):
        assert piece in plan.out
    restored = lifeboat(protected, *words, *GLASS, "--yes", "--json")
    assert restored.code == 0, restored.err
    assert restored.json["restored"]["databases"] == [
        {"database": "postgres", "name": "before", "tables": 1, "rows": 100}
    ]
    assert protected.server.run_sql("SELECT nextval('invoices_id_seq'), count(*) FROM invoices", database="before") == [
        (101, 100)
    ]
    assert protected.server.run_sql("SELECT to_regclass('customers')", database="before") == [(None,)]

    home = (*words[:-2], "--into-database", "postgres")
    assert "Say one of them" in lifeboat(protected, *home, "--as", "x", "--plan").err
    plan = lifeboat(protected, *home, "--plan")
    assert plan.code == 0, plan.err
    for piece in ("in one transaction", "keeps its own owner"):
        assert piece in plan.out + plan.err
    back = lifeboat(protected, *home, *GLASS, "--yes")
    assert back.code == 0, back.err
    assert "is in postgres: 1 tables, 100 rows" in back.out
    assert protected.server.run_sql("SELECT count(*) FROM invoices") == [(100,)]
    refused = lifeboat(protected, *home, *GLASS, "--yes")
    assert refused.code == 1
    assert "the table public.invoices is there" in refused.err

    again = lifeboat(protected, *words, *GLASS, "--yes")
    assert again.code == 1
    assert "There is a database 'before' already." in again.err
    listed = lifeboat(protected, "list", "demo", "database", "--json").json
    assert [one["kind"] for one in listed["sources"][0]["recovery_points"]] == ["logical"]
    deep = lifeboat(protected, "verify", "demo", "--deep", "--json")
    assert deep.code == 0, deep.err
    kinds = [event["kind"] for event in lifeboat(protected, "journal", "show", "demo", "--json").json["events"]]
    assert "restore_ended" in kinds

    shown = lifeboat(protected, "restore", "demo", "database", "--connection", "demo_home", "--show-globals")
    assert "CREATE ROLE lifeboat;" in shown.out
    near = lifeboat(protected, *words[:-4], "--only", "public.invoice", "--plan")
    assert near.code == 1
    assert "Near it: public.customers, public.invoices." in near.err
    early = lifeboat(protected, *words, "--at", "2020-01-01 00:00Z", "--plan")
    assert "no logical archive of that time or before it" in early.err
    nowhere = lifeboat(protected, "restore", "demo", "database", "--latest", "--yes")
    assert "--into" in nowhere.err
    assert "--connection" in nowhere.err
