"""How a large database is read by several ``pg_dump`` side by side: which tables each of them takes. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lifeboat.postgres.logical_details import TableContent

MOST_NAMED = 200
"""Tables that are named to a ``pg_dump`` of their own: the largest. Each name is an argument; the small rest is not."""


@dataclass(frozen=True)
class Group:
    """The tables of one data archive.

    Attributes:
        tables: those that it holds; empty for the rest, which is everything that no other group names: small tables,
            sequences, large objects.
        size_bytes: of its tables.
    """

    tables: tuple[TableContent, ...]
    size_bytes: int


def groups(tables: Sequence[TableContent], count: int) -> tuple[Group, ...]:
    """Share tables out: each of the largest goes to the group that has least, and the rest is a group of its own.

    Args:
        tables: all tables of a database.
        count: how many archives there are to be at most, the rest among them; at least two make sense.

    Returns:
        The rest first, then the others, the largest first.
    """
    largest = sorted((table for table in tables if table.size_bytes), key=lambda table: (-table.size_bytes, table.oid))
    named = largest[:MOST_NAMED] if count > 1 else []
    rest = sum(table.size_bytes for table in largest) - sum(table.size_bytes for table in named)
    shares: list[list[TableContent]] = [[] for _ in range(max(0, min(count - 1, len(named))))]
    sizes = [0] * len(shares)
    for table in named:
        least = sizes.index(min(sizes))
        shares[least].append(table)
        sizes[least] += table.size_bytes
    made = sorted(
        (Group(tuple(share), sum(t.size_bytes for t in share)) for share in shares), key=lambda g: -g.size_bytes
    )
    return (Group((), rest), *made)


def pattern(table: TableContent) -> str:
    """A table as ``pg_dump``'s patterns name it and no other.

    Source: https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS
    """
    return ".".join('"' + name.replace('"', '""') + '"' for name in (table.schema_name, table.name))
