"""What a logical archive of a PostgreSQL server holds, and how it is read."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from lifeboat.policy.duration import Duration, ExactDuration
from lifeboat.policy.part import Part
from lifeboat.policy.size import ByteSize

Pattern = Annotated[str, Field(min_length=1, max_length=200, description="A name; `*` and `?` stand for others.")]


class LogicalPolicy(Part):
    """Logical archives: `pg_dump`'s custom format of every database, and the server's roles and tablespaces."""

    databases: tuple[Pattern, ...] = ()
    """The databases to read; by default all. Templates are left out in every case."""

    exclude_databases: tuple[Pattern, ...] = ()
    """Databases that are left out."""

    large_objects: bool = True
    """Whether large objects are read, too. With `false`, a database that has any is refused."""

    split_above: ByteSize = 10 * 10**9
    """From this size on, a database is read by several `pg_dump` side by side."""

    side_by_side: Annotated[int, Field(ge=1, le=16)] = 2
    """How many of them at once."""

    lock_timeout: ExactDuration = Duration(seconds=300)
    """How long a table that somebody has locked is waited for."""

    def takes(self, database: str) -> bool:
        """Whether a database is read."""
        wanted = not self.databases or any(fnmatchcase(database, pattern) for pattern in self.databases)
        return wanted and not any(fnmatchcase(database, pattern) for pattern in self.exclude_databases)
