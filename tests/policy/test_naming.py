from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lifeboat.policy.naming import LONGEST_NAME, SYSTEM_WORK, Name, SourceName, SystemName, Tier, collisions, dag_id

_WORDS = st.lists(st.sampled_from(["a", "b", "c", "daily", "wal", "restore", "test"]), min_size=1, max_size=3)
NAMES = _WORDS.map("_".join)
SYSTEMS = st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=3, unique=True), min_size=1, max_size=4)


@given(SYSTEMS)
def test_without_collisions_every_dag_id_has_one_owner(systems: dict[str, list[str]]) -> None:
    ids = Counter(
        dag_id(system, source, tier) for system, sources in systems.items() for source in sources for tier in Tier
    )
    ids.update(f"{system}_{work}" for system in systems for work in SYSTEM_WORK)
    shared = {name for name, count in ids.items() if count > 1}
    found = collisions(systems)
    assert bool(shared) == bool(found)


def test_a_collision_names_both_owners() -> None:
    (collision,) = collisions({"a_b": ["c"], "a": ["b_c"]})
    assert collision.systems == ("a", "a_b")
    assert collision.owners == ("system `a`, source `b_c`", "system `a_b`, source `c`")
    assert collision.id == "a_b_c_*"


def test_ordinary_names_do_not_collide() -> None:
    assert collisions({"erp": ["database", "files"], "erp_test": ["database", "files"]}) == []


@pytest.mark.parametrize("name", ["erp", "sales_scorecard", "a1_b2", "x" * LONGEST_NAME])
def test_good_names_are_kept(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize(
    "name", ["", "ERP", "1erp", "erp-db", "erp__db", "_erp", "erp_", "erp.db", "é", "x" * 49, "erp\n"]
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


def test_names_that_lifeboat_needs_itself_are_refused() -> None:
    with pytest.raises(ValidationError, match="folder of Lifeboat's own"):
        TypeAdapter(SourceName).validate_python("journal")
    with pytest.raises(ValidationError, match="kept for Lifeboat"):
        TypeAdapter(SystemName).validate_python("lifeboat")
