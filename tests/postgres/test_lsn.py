from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from lifeboat.errors import PostgresError
from lifeboat.postgres.lsn import Lsn

positions = st.integers(0, 2**64 - 1)


@given(positions)
def test_a_position_survives_its_text(value: int) -> None:
    assert Lsn.parse(str(Lsn(value))) == Lsn(value)


@given(positions, positions)
def test_positions_are_ordered_and_measured_like_numbers(a: int, b: int) -> None:
    assert (Lsn(a) < Lsn(b)) == (a < b)
    assert Lsn(a) - Lsn(b) == a - b
    assert Lsn(max(a, b)) - (max(a, b) - min(a, b)) == Lsn(min(a, b))


def test_positions_read_and_write_as_postgresql_does() -> None:
    assert Lsn.parse("0/3000028") == 0x3000028
    assert str(Lsn.parse("1a/3000028")) == "1A/03000028"
    assert f"{Lsn(0)}" == "0/00000000"
    assert isinstance(Lsn(5) + 3, Lsn)


@pytest.mark.parametrize("text", ["", "0", "3000028", "0/", "/1", "0/123456789", "g/1", "0/1 0/2", "-0/1"])
def test_a_text_that_is_no_position_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(PostgresError, match=r"no log sequence number.*such as 0/3000028"):
        Lsn.parse(text)


def test_a_position_never_leaves_its_64_bits() -> None:
    with pytest.raises(PostgresError):
        Lsn(2**64 - 1) + 1
    with pytest.raises(PostgresError):
        Lsn(0) - 1


def test_a_model_keeps_positions_as_text() -> None:
    class Model(BaseModel):
        lsn: Lsn

    model = Model.model_validate_json('{"lsn": "1/2"}')
    assert model.lsn == Lsn(2**32 + 2)
    assert model.model_dump_json() == '{"lsn":"1/00000002"}'
    assert TypeAdapter(Lsn).json_schema()["type"] == "string"
    for bad in ('{"lsn": 5}', '{"lsn": "5"}'):
        with pytest.raises(ValidationError):
            Model.model_validate_json(bad)
