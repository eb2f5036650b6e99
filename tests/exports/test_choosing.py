"""Which tables an export holds: nothing that a list names is passed over."""

from __future__ import annotations

import pytest

from lifeboat.errors import PolicyError
from lifeboat.policy.export import ExportPolicy
from lifeboat.policy.problems import Refused
from lifeboat.policy.table_patterns import column_pattern, table_pattern
from lifeboat.postgres.exports.choosing import Choice, Hidden, choose, masked_tables
from lifeboat.postgres.exports.tables import Inventory, Table


def table(name: str, oid: int, **more: object) -> Table:
    schema, _, bare = name.rpartition(".")
    return Table("shop", schema or "public", bare, oid, **more)  # type: ignore[arg-type]


TABLES = (
    table("users", 1),
    table("staff", 2, parents=(1,)),
    table("sales", 3, kind="p"),
    table("sales_2024", 4, partition=True, parents=(3,)),
    table("totals", 5, kind="m"),
    table("audit.log", 6),
    table("spatial_ref_sys", 7, extension="postgis"),
    table("dotted.a.b", 8),
)
COLUMNS = {
    1: {"id": frozenset[str](), "email": frozenset[str](), "lower": frozenset({"email"})},
    2: {"id": frozenset[str](), "email": frozenset[str](), "badge": frozenset[str]()},
    4: {"day": frozenset[str]()},
}
SHOP = Inventory("shop", TABLES, COLUMNS)


def chosen(policy: ExportPolicy | None = None, *only: str) -> Choice:
    return choose([SHOP], policy or ExportPolicy(), only)


def names(choice: Choice) -> list[str]:
    return [one.path for one in choice.tables["shop"]]


def test_everything_is_exported_but_partitions_views_and_what_extensions_make() -> None:
    choice = chosen()
    assert names(choice) == ["public.users", "public.staff", "public.sales", "audit.log", "dotted.a.b"]
    assert choice.problems == ()
    assert choice.remarks == ("Not exported, being a materialized view: public.totals.",)


def test_include_and_exclude_choose_by_pattern() -> None:
    assert names(chosen(ExportPolicy(include=("public.*",), exclude=("public.s*",)))) == ["public.users"]
    assert names(chosen(ExportPolicy(include=("shop.audit.log",)))) == ["audit.log"]
    assert names(chosen(ExportPolicy(), "public.u*", "audit.log")) == ["public.users", "audit.log"]


@pytest.mark.parametrize(
    ("policy", "only", "piece"),
    [
        ({"include": ["public.user"]}, (), "no table `public.user`, which `include` names"),
        ({"include": ["public.x*"]}, (), "no table `public.x*`"),
        ({"include": ["Public.users"]}, (), "no table `Public.users`"),
        ({"include": ["public.sales_2024"]}, (), "is a partition"),
        ({"include": ["public.totals"]}, (), "is a materialized view"),
        ({"include": ["public.spatial_ref_sys"]}, (), "belongs to the extension postgis"),
        ({"exclude": ["public.user"]}, (), "no table `public.user`, which `exclude` names"),
        ({"mask": {"public.users.mail": "hash"}}, (), "no column `public.users.mail`, which `mask` names"),
        ({"mask": {"public.*.mail": "hash"}}, (), "no column"),
        ({"mask": {"public.users.email": "hash"}}, (), "`public.users.lower` is generated from the masked `email`"),
        ({"mask": {"public.sales_2024.day": "null"}}, (), "is of a partition"),
        ({}, ("public.nobody",), "`public.nobody` was asked for and is not there"),
        ({"exclude": ["public.users"]}, ("public.users",), "is left out by the policy"),
        ({}, ("public.sales_2024",), "is a partition"),
    ],
)
def test_what_fits_nothing_is_named(policy: dict[str, object], only: tuple[str, ...], piece: str) -> None:
    choice = chosen(ExportPolicy.model_validate(policy), *only)
    with pytest.raises(PolicyError) as refused:
        choice.insist()
    assert piece in str(refused.value)


def test_an_excluded_pattern_may_wait_for_what_comes() -> None:
    assert chosen(ExportPolicy(exclude=("*.tmp_*",))).problems == ()


def test_a_mask_holds_in_the_tables_that_inherit_the_column() -> None:
    policy = ExportPolicy.model_validate({"mask": {"public.users.email": None, "public.users.lower": {"fixed": "x"}}})
    assert [one.name for one in masked_tables(policy, TABLES)] == ["users", "staff"]
    choice = chosen(policy)
    assert choice.problems == ()
    assert choice.masks == {
        ("shop", 1): {"email": Hidden("null"), "lower": Hidden("fixed", "x")},
        ("shop", 2): {"email": Hidden("null")},
    }


def test_names_in_quotes_are_meant_as_they_are() -> None:
    quoted = table_pattern('"dotted"."a.b"')
    assert quoted.matches("shop", "dotted", "a.b")
    assert table_pattern('public."a*"').matches("x", "public", "a*")
    assert not table_pattern('public."a*"').matches("x", "public", "ab")
    assert table_pattern('public."a""b"').matches("x", "public", 'a"b')
    assert column_pattern("db.public.users.e*").column.matches("email")
    assert not table_pattern("a.b*c").matches("x", "a", "bc\nd")


@pytest.mark.parametrize("text", ["users", "", "a..b", "a.b.c.d", 'a."b', 'a."b"c', ".a.b", "a.b."])
def test_what_names_no_table_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        table_pattern(text)
