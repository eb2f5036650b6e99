"""Databases that killed work has left: dropped where they are provably ours and nobody's any more, and no others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql

from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.logical_marks import (
    TEST,
    UNPROVEN,
    Remain,
    drop_remains,
    hold,
    mark_of,
    marked_name,
    remains_of,
    said_of,
)
from lifeboat.repository.catalogue import Copy
from tests.logical.archives import DATABASE, Archives

SYSTEM = "demo"


@pytest.fixture(scope="module")
def archive(archives: Archives) -> Copy:
    return archives.back_up()


@pytest.fixture(autouse=True)
def clean(archives: Archives) -> Iterator[None]:
    before = archives.databases()
    yield
    for name in archives.databases() - before:
        archives.home.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


def make(archives: Archives, name: str, comment: str | None) -> str:
    archives.home.run_sql(f'CREATE DATABASE "{name}"')
    if comment is not None:
        with archives.home.connect() as session:
            session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment)))
    return name


def found(archives: Archives) -> dict[str, Remain]:
    with connect_sql(archives.parameters()) as session:
        return {one.name: one for one in remains_of(session, SYSTEM)}


def drop(archives: Archives, *remains: Remain) -> tuple[list[str], list[str]]:
    with connect_sql(archives.parameters()) as session:
        return drop_remains(session, remains, SYSTEM, archives.parameters)


@pytest.mark.parametrize("kind", [UNPROVEN, TEST])
def test_a_marked_one_that_nobody_holds_is_dropped(archives: Archives, kind: str) -> None:
    name = marked_name(kind, 'Ünlü "shop"\'s')
    archives.home.run_sql(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)).as_string(None))
    with archives.home.connect() as session:
        session.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(name), sql.Literal(mark_of(name, SYSTEM, "x"))
            )
        )
    one = found(archives)[name]
    assert one.state == "dead"
    assert drop(archives, one) == ([name], [])
    assert name not in archives.databases()


def test_one_that_was_killed_before_its_comment_is_dropped_if_it_is_empty(archives: Archives) -> None:
    empty, full = (make(archives, marked_name(UNPROVEN, word), None) for word in ("empty", "full"))
    archives.home.run_sql("CREATE TABLE precious (n int)", database=full)
    there = found(archives)
    assert {there[name].state for name in (empty, full)} == {"begun"}
    assert "if it is empty" in said_of(there[full], dropped=True)
    gone, left = drop(archives, *there.values())
    assert gone == [empty]
    assert [full in sentence for sentence in left] == [True]
    assert full in archives.databases()


def test_what_is_not_provably_ours_is_named_and_never_dropped(archives: Archives) -> None:
    name = marked_name(UNPROVEN, "shop")
    strangers = [
        make(archives, f"{UNPROVEN}left", None),  # a name that is not of our form
        make(archives, marked_name(UNPROVEN, "mine"), "Ours, and precious."),
        make(archives, name, mark_of(name, "another", "x")),  # another system's
        make(archives, marked_name(UNPROVEN, "copied"), mark_of(name, SYSTEM, "x")),  # another database's mark
    ]
    there = found(archives)
    assert {there[one].state for one in strangers} == {"strange"}
    assert all("DROP DATABASE" in said_of(there[one], dropped=True) for one in strangers)
    assert drop(archives, *there.values()) == ([], [])
    assert set(strangers) <= archives.databases()


def test_one_that_somebody_works_with_stays(archives: Archives) -> None:
    names = [marked_name(UNPROVEN, word) for word in ("held", "entered")]
    for name in names:
        make(archives, name, mark_of(name, SYSTEM, "x"))
    held, entered = names
    dead = found(archives)
    # Its worker is in another database than we are.
    with connect_sql(archives.parameters(DATABASE)) as worker, archives.home.connect(database=entered):
        hold(worker, held)
        assert {found(archives)[name].state for name in names} == {"at work"}
        assert drop(archives, *(dead[name] for name in names))[0] == []
    assert set(names) <= archives.databases()


def test_a_restore_does_not_fail_for_what_it_can_t_drop(archives: Archives, archive: Copy) -> None:
    name = marked_name(UNPROVEN, "used")
    make(archives, name, mark_of(name, SYSTEM, "x"))
    plan = archives.plan(archive, name="back", databases=[DATABASE])
    with archives.home.connect(database=name):
        restored = archives.restore(plan)
    assert restored.gone == ()
    assert [name in sentence for sentence in restored.left] == [True]
    assert {"back", name} <= archives.databases()
