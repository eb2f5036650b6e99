"""What an export of a database holds: which tables, in which formats, with which columns masked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from lifeboat.policy.part import Part
from lifeboat.policy.people import not_empty
from lifeboat.policy.problems import Refused
from lifeboat.policy.table_patterns import column_pattern, table_pattern

ExportFormat = Literal["json", "csv"]


def _tables(text: str) -> str:
    table_pattern(text)
    return text


def _column(text: str) -> str:
    column_pattern(text)
    return text


def _once(values: tuple[ExportFormat, ...]) -> tuple[ExportFormat, ...]:
    if len(set(values)) != len(values):
        raise Refused("A format is named twice.", "Name each once.")
    return values


Tables = Annotated[
    str, AfterValidator(_tables), WithJsonSchema({"type": "string", "examples": ["public.users", "sales.*"]})
]
Column = Annotated[str, AfterValidator(_column), WithJsonSchema({"type": "string", "examples": ["public.users.email"]})]


class FixedMask(Part):
    """A text in the place of every value."""

    fixed: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]
    """The text that stands in the place of every value, NULL too."""


Mask = Literal["hash", "partial", "null"] | FixedMask | None
"""How a column's values are hidden; YAML's own ``null`` is the word ``null``."""


class ExportPolicy(Part):
    """What the tier `export` writes: tables as files that anybody can read."""

    databases: tuple[Annotated[str, Field(min_length=1, max_length=63)], ...] = ()
    """The databases; by default all of the server that take connections, templates aside."""

    formats: Annotated[tuple[ExportFormat, ...], AfterValidator(not_empty), AfterValidator(_once)] = ("json", "csv")
    """`json` (a JSON object in each line), `csv`, or both."""

    include: Annotated[tuple[Tables, ...], AfterValidator(not_empty)] = ("*.*",)
    """The tables, as `schema.table`; `*` stands for any characters. One that is not there is an error."""

    exclude: tuple[Tables, ...] = ()
    """The tables that are left out, though `include` says so."""

    mask: dict[Column, Mask] = Field(default_factory=dict)
    """Columns, as `schema.table.column`, whose values never leave the server: `hash`, `partial`, `null` or
    `{fixed: text}`."""
