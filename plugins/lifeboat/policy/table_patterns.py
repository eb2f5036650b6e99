"""Names of tables and columns as a person writes them: ``public.users``, ``sales.*``, ``public."Order.Items".email``.

Parts are joined by dots. ``*`` stands for any characters, or none. What stands in double quotes is meant as it is:
a dot or a ``*`` in it is one of the name's own. Letters are never folded: write a name as the server has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lifeboat.policy.problems import Refused


@dataclass(frozen=True)
class Word:
    """One part of a pattern."""

    text: str
    literal: bool

    @property
    def exact(self) -> bool:
        """Whether it can mean one name only."""
        return self.literal or "*" not in self.text

    def matches(self, name: str) -> bool:
        """Whether it means this name."""
        if self.exact:
            return name == self.text
        return re.fullmatch(".*".join(map(re.escape, self.text.split("*"))), name, re.DOTALL) is not None


@dataclass(frozen=True)
class TablePattern:
    """Which tables are meant: ``schema.table``, or ``database.schema.table`` where that matters."""

    text: str
    database: Word | None
    schema: Word
    table: Word

    @property
    def exact(self) -> bool:
        """Whether it names one table, and so one that must be there."""
        return self.schema.exact and self.table.exact

    def matches(self, database: str, schema: str, table: str) -> bool:
        """Whether it means this table."""
        if self.database is not None and not self.database.matches(database):
            return False
        return self.schema.matches(schema) and self.table.matches(table)


@dataclass(frozen=True)
class ColumnPattern:
    """Which columns are meant: ``schema.table.column``, with a database before it where that matters."""

    text: str
    tables: TablePattern
    column: Word


def table_pattern(text: str) -> TablePattern:
    """Read a pattern of tables; raises ``Refused``."""
    words = _words(text)
    if len(words) not in (2, 3):
        raise Refused(f"`{text}` names no table.", "Write `schema.table`, such as `public.users` or `public.*`.")
    return TablePattern(text, words[0] if len(words) == 3 else None, *words[-2:])


def column_pattern(text: str) -> ColumnPattern:
    """Read a pattern of columns; raises ``Refused``."""
    words = _words(text)
    if len(words) not in (3, 4):
        raise Refused(f"`{text}` names no column.", "Write `schema.table.column`, such as `public.users.email`.")
    tables = TablePattern(text, words[0] if len(words) == 4 else None, *words[-3:-1])
    return ColumnPattern(text, tables, words[-1])


_WORD = re.compile(r'"(?P<quoted>(?:[^"\0]|"")+)"|(?P<plain>[^".\0]+)')


def _words(text: str) -> list[Word]:
    found: list[Word] = []
    place = 0
    while True:
        word = _WORD.match(text, place)
        if word is None:
            raise Refused(
                f"`{text}` can't be read at its character {place + 1}.",
                'Write names with dots between them; a name with a dot in it goes in double quotes: `public."a.b"`.',
            )
        quoted = word["quoted"]
        found.append(Word(word["plain"], literal=False) if quoted is None else Word(quoted.replace('""', '"'), True))
        place = word.end()
        if place == len(text):
            return found
        if text[place] != ".":
            raise Refused(f"`{text}` has no dot before its character {place + 1}.", "Write a dot between names.")
        place += 1
