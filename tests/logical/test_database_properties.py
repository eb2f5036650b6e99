"""What belongs to a database itself comes back with it: privileges, settings of roles, tablespace, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from lifeboat.errors import RestoreError
from lifeboat.postgres import logical_filling
from lifeboat.postgres.details import as_details
from lifeboat.postgres.logical_reading import listing_of
from lifeboat.repository.catalogue import Copy
from sandbox.postgres import SUPERUSER, PostgresServer
from tests.logical.archives import Archives
from tests.recovery.line import system_in

WARD = """
    CREATE ROLE landlord; CREATE ROLE lodger; CREATE ROLE "Odd one";
    CREATE DATABASE ward TEMPLATE template0 OWNER landlord TABLESPACE attic CONNECTION LIMIT 50
        ENCODING 'LATIN1' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C';
    COMMENT ON DATABASE ward IS 'it''s a ward';
    REVOKE ALL ON DATABASE ward FROM PUBLIC, landlord;
    GRANT CONNECT, TEMPORARY ON DATABASE ward TO landlord;
    GRANT CONNECT ON DATABASE ward TO lodger WITH GRANT OPTION;
    GRANT CREATE, CONNECT ON DATABASE ward TO "Odd one";
    GRANT TEMPORARY ON DATABASE ward TO PUBLIC;
    GRANT CONNECT ON DATABASE ward TO lifeboat;
    ALTER DATABASE ward SET work_mem TO '7MB';
    ALTER ROLE lodger IN DATABASE ward SET search_path TO "$user", "Odd, one";
    ALTER ROLE "Odd one" IN DATABASE ward SET my.setting TO 'it''s'
"""
OF_DATABASE = """
    SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
        (SELECT spcname FROM pg_tablespace t WHERE t.oid = dattablespace), shobj_description(d.oid, 'pg_database'),
        ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1),
        ARRAY(
            SELECT ROW(setrole::regrole, setconfig)::text FROM pg_db_role_setting WHERE setdatabase = d.oid ORDER BY 1
        )
    FROM pg_database d WHERE datname = %s"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory, module_server: Callable[..., PostgresServer]) -> Archives:
    """A server that holds nothing yet, and its system's repository."""
    return Archives(module_server(), system_in(tmp_path_factory.mktemp("system")))


@pytest.fixture(scope="module")
def ward(archives: Archives) -> Iterator[Copy]:
    """The archive of a database with properties of its own, read by a superuser: only one sees subscriptions."""
    server = archives.server
    with server.connect() as session:
        session.execute("SET allow_in_place_tablespaces = on")
        session.execute("CREATE TABLESPACE attic LOCATION ''")
        for statement in WARD.split(";"):
            session.execute(statement)
    server.run_sql("CREATE TABLE beds (n int); INSERT INTO beds VALUES (1), (2)", database="ward")
    server.run_sql("CREATE PUBLICATION open_door FOR TABLE beds", database="ward")
    server.run_sql(
        "CREATE SUBSCRIPTION old_friend CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p"
        " WITH (connect = false, slot_name = 'of_old_friend')",
        database="ward",
    )
    archives.user = SUPERUSER
    try:
        yield archives.back_up()
    finally:
        archives.user = "lifeboat"
        server.run_sql("ALTER SUBSCRIPTION old_friend SET (slot_name = NONE)", database="ward")
        server.run_sql("DROP SUBSCRIPTION old_friend", database="ward")


def test_privileges_settings_tablespace_and_limit_come_back(archives: Archives, ward: Copy) -> None:
    plan = archives.plan(ward, databases=["ward"], name="ward_again")
    assert plan.obstacles == ()
    archives.restore(plan)
    (before,), (after,) = (archives.home.run_sql(OF_DATABASE, [name]) for name in ("ward", "ward_again"))
    assert after == before
    assert len(before[7]) == 5
    assert len(before[8]) == 3


def test_without_owners_a_database_belongs_to_who_makes_it(archives: Archives, ward: Copy) -> None:
    archives.restore(archives.plan(ward, databases=["ward"], name="ward_ours", owners=False))
    query = "SELECT pg_get_userbyid(datdba), datacl FROM pg_database WHERE datname = 'ward_ours'"
    assert archives.home.run_sql(query) == [(SUPERUSER, None)]


def test_a_role_that_only_has_privileges_on_the_database_or_settings_in_it_is_missed(
    archives: Archives, ward: Copy
) -> None:
    (one,) = [database for database in archives.details(ward).databases if database.name == "ward"]
    assert set(one.roles) == {"Odd one", "landlord", "lifeboat", "lodger"}


def test_a_subscription_never_comes_back_and_a_publication_does(archives: Archives, ward: Copy) -> None:
    plan = archives.plan(ward, databases=["ward"], name="ward_alone")
    stream = plan.databases[0].archive.archives[0].stream
    listing = listing_of(archives.repository, "primary", ward, stream, plan.programs)
    assert [entry.kind for entry in listing if entry.kind == "SUBSCRIPTION"] == ["SUBSCRIPTION"]
    assert ["old_friend" in remark and "slot" in remark for remark in plan.remarks] == [True]
    archives.restore(plan)
    archives.home.run_sql(
        "CREATE DATABASE ward_there TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LC_COLLATE 'C'"
        " LC_CTYPE 'C'"
    )
    archives.restore(archives.plan(ward, databases=["ward"], into="ward_there"))
    query = "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE datname <> 'ward'"
    assert archives.home.run_sql(query) == []
    for name in ("ward_alone", "ward_there"):
        assert archives.home.run_sql("SELECT pubname FROM pg_publication", database=name) == [("open_door",)]


def with_setting(archives: Archives, copy: Copy, setting: str) -> Copy:
    """The archive as if the database had had one setting more."""
    details = archives.details(copy)
    databases = tuple(
        one.model_copy(update={"settings": (*one.settings, setting)}) if one.name == "ward" else one
        for one in details.databases
    )
    changed = as_details(details.model_copy(update={"databases": databases}))
    return replace(copy, manifest=copy.manifest.model_copy(update={"details": changed}))


def test_a_setting_that_the_server_does_not_know_is_said_and_done_without(archives: Archives, ward: Copy) -> None:
    plan = archives.plan(
        with_setting(archives, ward, "vacuum_cleanup_index_scale_factor=0.1"), databases=["ward"], name="ward_newer"
    )
    assert [remark for remark in plan.remarks if "vacuum_cleanup_index_scale_factor" in remark]
    archives.restore(plan)
    query = "SELECT count(*) FROM pg_database WHERE datname = 'ward_newer'"
    assert archives.home.run_sql(query) == [(1,)]


def test_what_the_server_refuses_of_a_database_is_refused_before_its_rows_are_read(
    archives: Archives, ward: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("rows were read")

    plan = archives.plan(with_setting(archives, ward, "work_mem=plenty"), databases=["ward"], name="ward_never")
    monkeypatch.setattr(logical_filling.Filler, "fill", never)
    before = archives.databases()
    with pytest.raises(RestoreError, match="work_mem"):
        archives.restore(plan)
    assert archives.databases() == before
