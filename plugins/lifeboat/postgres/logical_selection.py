"""What of an archive comes back when only some tables are asked for. Pure functions of its table of contents.

A table comes with what is its own: rows, defaults, sequences, constraints, indexes, triggers, policies, comments,
privileges; with its partitions and the tables that inherit from it; and with what it can't exist without: schemas,
types, functions, extensions, and the definitions (not the rows) of tables that it inherits from. What would need
another table, as a foreign key to it does, is left out and said.
Source: https://www.postgresql.org/docs/current/app-pgrestore.html
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from lifeboat.errors import RestoreError
from lifeboat.postgres.logical_details import Contents, TableContent

# The longer ones first: each is told from the words behind it by its own words alone.
_KINDS = sorted(
    (
        *("ACCESS METHOD", "ACL", "AGGREGATE", "BLOB", "BLOB COMMENTS", "BLOB METADATA", "BLOBS", "CAST"),
        *("CHECK CONSTRAINT", "COLLATION", "COMMENT", "CONSTRAINT", "CONVERSION", "DATABASE", "DATABASE PROPERTIES"),
        *("DEFAULT", "DEFAULT ACL", "DOMAIN", "ENCODING", "EVENT TRIGGER", "EXTENSION", "FK CONSTRAINT"),
        *("FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "INDEX", "INDEX ATTACH", "LARGE OBJECT"),
        *("MATERIALIZED VIEW", "MATERIALIZED VIEW DATA", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "POLICY"),
        *("PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION", "PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"),
        *("ROW SECURITY", "RULE", "SCHEMA", "SEARCHPATH", "SECURITY LABEL", "SEQUENCE", "SEQUENCE OWNED BY"),
        *("SEQUENCE SET", "SERVER", "SHELL TYPE", "STATISTICS", "STATISTICS DATA", "STDSTRINGS", "SUBSCRIPTION"),
        *("SUBSCRIPTION TABLE", "TABLE", "TABLE ATTACH", "TABLE DATA", "TEXT SEARCH CONFIGURATION"),
        *("TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TRANSFORM", "TRIGGER", "TYPE"),
        *("USER MAPPING", "VIEW"),
    ),
    key=len,
    reverse=True,
)
_ENTRY = re.compile(r"(\d+); (\d+) (\d+) (.*)")
_DEPENDS = re.compile(r";\s+depends on:((?: \d+)*)")

DESCRIBES = frozenset({"ACL", "COMMENT", "SECURITY LABEL"})
OWN = DESCRIBES | {
    *("CHECK CONSTRAINT", "CONSTRAINT", "DEFAULT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH", "POLICY", "ROW SECURITY"),
    *("RULE", "SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET", "STATISTICS", "STATISTICS DATA", "TABLE ATTACH"),
    *("TABLE DATA", "TRIGGER"),
}
OF_SEQUENCES = frozenset({"SEQUENCE OWNED BY", "SEQUENCE SET"})
_RELATIONS = frozenset({"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "CONSTRAINT", "INDEX"})


@dataclass(frozen=True)
class Entry:
    """One line of an archive's table of contents.

    Attributes:
        number: its number in this archive.
        oid: of what it is about, on the server that was backed up; 0 where there is none.
        kind: such as ``TABLE DATA``.
        words: schema, name and owner as they are listed.
        needs: the numbers of the entries that it depends on.
    """

    number: int
    oid: int
    kind: str
    words: str
    needs: tuple[int, ...] = ()


def parse_listing(text: str) -> list[Entry]:
    """What ``pg_restore --list --verbose`` says."""
    entries: list[Entry] = []
    for line in text.split("\n"):
        if (found := _ENTRY.fullmatch(line)) is not None:
            rest = found[4]
            kind = next((kind for kind in _KINDS if rest == kind or rest.startswith(f"{kind} ")), rest.split(" ")[0])
            entries.append(Entry(int(found[1]), int(found[3]), kind, rest[len(kind) + 1 :]))
        elif (needs := _DEPENDS.fullmatch(line)) is not None and entries:
            last = entries[-1]
            numbers = tuple(int(word) for word in needs[1].split())
            entries[-1] = Entry(last.number, last.oid, last.kind, last.words, numbers)
    return entries


def tables_like(patterns: Sequence[str], contents: Contents) -> tuple[TableContent, ...]:
    """The tables that patterns name, with their partitions and those that inherit from them.

    A pattern is one of ``pg_dump``'s: ``public.inv*``, ``sales.*``, ``"Order Lines"``; without a schema it means tables
    of that name in any.

    Raises:
        RestoreError: a pattern names no table; the text lists names that are near.
    """
    chosen: set[int] = set()
    for pattern in patterns:
        schema, name = _expressions(pattern)
        found = {
            table.oid
            for table in contents.tables
            if schema.fullmatch(table.schema_name) is not None and name.fullmatch(table.name) is not None
        }
        if not found:
            raise _no_such(pattern, contents)
        chosen |= found
    while more := {table.oid for table in contents.tables if table.oid not in chosen and chosen & set(table.parents)}:
        chosen |= more
    return tuple(table for table in contents.tables if table.oid in chosen)


def _no_such(pattern: str, contents: Contents) -> RestoreError:
    bare = pattern.replace('"', "").lower()
    by_name = {table.label: table.label for table in contents.tables}
    by_name |= {table.name: table.label for table in contents.tables}
    near = difflib.get_close_matches(bare, [name.lower() for name in by_name], n=5, cutoff=0.5)
    labels = sorted({label for name, label in by_name.items() if name.lower() in near})
    if labels:
        return RestoreError(f"No table of the archive is like {pattern!r}.", f"Near it: {', '.join(labels)}.")
    names = [table.label for table in contents.tables]
    return RestoreError(
        f"No table of the archive is like {pattern!r}.",
        f"It has {len(names)} tables: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}.",
    )


def _expressions(pattern: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A pattern as regular expressions for schema and name.

    Source: https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS
    """
    parts = [""]
    inside = False
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == '"':
            if inside and pattern[position + 1 : position + 2] == '"':
                parts[-1] += '"'
                position += 1
            else:
                inside = not inside
        elif inside:
            parts[-1] += re.escape(character)
        elif character == ".":
            parts.append("")
        else:
            parts[-1] += {"*": ".*", "?": ".", "$": r"\$"}.get(character, character.lower())
        position += 1
    if inside or len(parts) > 2 or not all(parts):
        raise RestoreError(
            f"{pattern!r} is no pattern.", "Write schema.table; names with blanks or capitals in quotes."
        )
    schema, name = parts if len(parts) == 2 else (".*", parts[0])
    try:
        return re.compile(schema, re.DOTALL), re.compile(name, re.DOTALL)
    except re.error as error:
        raise RestoreError(
            f"{pattern!r} is no pattern: {error}.", "Write schema.table, with * for any letters."
        ) from None


@dataclass
class Selection:
    """The entries that come back.

    Attributes:
        numbers: of the entries, in any order.
        left_out: what belongs to a table that was asked for and needs something that was not, a sentence each.
        left_out_numbers: of those entries.
        only_defined: tables that come back without their rows, because others can't exist without them.
        extensions: that have to be there.
        entries: the table of contents that all of it is of.
    """

    numbers: set[int] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)
    left_out_numbers: set[int] = field(default_factory=set)
    only_defined: list[str] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)
    entries: Sequence[Entry] = ()


def select(entries: Sequence[Entry], tables: Collection[TableContent]) -> Selection:
    """Choose from an archive that holds definitions (with or without rows)."""
    picker = _Picker(entries, tuple(f"{table.schema_name} {table.name} " for table in tables))
    wanted = {table.oid for table in tables}
    for entry in entries:
        if entry.kind == "TABLE" and entry.oid in wanted:
            picker.whole.add(entry.number)
    for number in list(picker.whole):
        picker.require(number)
    return picker.picked()


class _Picker:
    def __init__(self, entries: Sequence[Entry], labels: tuple[str, ...]) -> None:
        self.entries = entries
        self.labels = labels
        self.by_number = {entry.number: entry for entry in entries}
        self.whole: set[int] = set()
        """Tables that were asked for, and what is their own."""
        self.needed: set[int] = set()
        """What they can't exist without."""

    def require(self, number: int) -> None:
        waiting = [number]
        while waiting:
            for need in self.by_number[waiting.pop()].needs:
                if need in self.by_number and need not in self.needed and need not in self.whole:
                    self.needed.add(need)
                    waiting.append(need)

    def picked(self) -> Selection:
        while self._grow():
            pass
        chosen = self.whole | self.needed
        selection = Selection(numbers=chosen, entries=self.entries)
        for entry in self.entries:
            if entry.number in chosen:
                if entry.kind == "EXTENSION":
                    selection.extensions.append(entry.words.removeprefix("- ").strip())
                if entry.kind == "TABLE" and entry.number not in self.whole:
                    selection.only_defined.append(entry.words)
            elif (
                entry.kind in OWN - DESCRIBES
                and set(entry.needs) & self.whole
                # A foreign key of another table to this one is the other one's.
                and (entry.kind != "FK CONSTRAINT" or entry.words.startswith(self.labels))
            ):
                selection.left_out.append(f"{entry.kind} {entry.words}")
                selection.left_out_numbers.add(entry.number)
        return selection

    def _grow(self) -> bool:
        before = len(self.whole), len(self.needed)
        for entry in self.entries:
            if entry.number not in self.whole and self._belongs(entry):
                self.whole.add(entry.number)
                self.needed.discard(entry.number)
                self.require(entry.number)
        return (len(self.whole), len(self.needed)) != before

    def _belongs(self, entry: Entry) -> bool:
        if entry.number in self.needed and entry.kind != "SEQUENCE":
            return False
        needs = {self.by_number[need] for need in entry.needs if need in self.by_number}
        about = {need.number for need in needs}
        if entry.kind in DESCRIBES or (entry.kind in OF_SEQUENCES and about & self.needed):
            return bool(about) and about <= self.whole | self.needed
        if entry.kind not in OWN or not about & self.whole:
            return False
        return all(need.number in self.whole for need in needs if need.kind in _RELATIONS)


def select_rows(entries: Sequence[Entry], tables: Collection[TableContent], sequences: Iterable[str]) -> set[int]:
    """Choose from an archive that holds rows alone.

    Args:
        sequences: those that come back, each as ``schema name``.
    """
    wanted = {table.oid for table in tables}
    names = tuple(f"{name} " for name in sequences)
    return {
        entry.number
        for entry in entries
        if (entry.kind == "TABLE DATA" and entry.oid in wanted)
        or (entry.kind == "SEQUENCE SET" and entry.words.startswith(names or ("\0",)))
    }
