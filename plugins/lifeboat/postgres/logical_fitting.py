"""Whether what is chosen of an archive fits into a database that is there. Pure functions.

Nothing that the database has may change: a schema or an extension that is there is used as it is; so are types,
functions and sequences that a table needs, where they are defined word for word as they were. Any other thing of the
same name is in the way.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lifeboat.postgres.logical_details import SequenceContent
from lifeboat.postgres.logical_selection import DESCRIBES, OF_SEQUENCES, OWN, Entry

_NUMBER = re.compile(r"-- TOC entry (\d+) \(class ")
_NAME = re.compile(r"-- Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: .*")
_ABOUT = re.compile(
    r"--|-- (?:TOC entry|Dependencies:|Data Pos:|Started on|Completed on|PostgreSQL database dump) .*"
    # What pg_restore sets on its way stands behind whatever came before.
    r"|SET default_(?:tablespace|table_access_method) = .*;|-- PostgreSQL database dump.*|\\(?:un)?restrict \S+"
)
_INDEX = re.compile(r'ADD CONSTRAINT ("(?:[^"]|"")*"|\S+) (?:PRIMARY KEY|UNIQUE|EXCLUDE)')

RELATIONS = frozenset({"FOREIGN TABLE", "INDEX", "MATERIALIZED VIEW", "SEQUENCE", "TABLE", "VIEW"})
_TYPES = frozenset({"DOMAIN", "SHELL TYPE", "TYPE"})
_SHARED = frozenset({"EXTENSION", "SCHEMA"})


class Name(NamedTuple):
    """What a definition is of: its kind as ``pg_dump`` calls it, its schema (``-`` where there is none), its name."""

    kind: str
    schema: str
    name: str

    def __str__(self) -> str:
        where = "" if self.schema == "-" else f"{self.schema}."
        return f"{self.kind.lower()} {where}{self.name}"


@dataclass(frozen=True)
class Definition:
    """One entry of a script that ``pg_dump`` or ``pg_restore`` wrote with ``--verbose``.

    Attributes:
        number: of the entry in its archive.
        text: the statements, without the lines about the entry.
    """

    number: int
    name: Name
    text: str


def definitions(script: str) -> list[Definition]:
    """The entries of a script, in its order."""
    found: list[Definition] = []
    number: int | None = None
    lines: list[str] = []

    def finish() -> None:
        if found:
            last = found[-1]
            found[-1] = Definition(last.number, last.name, "\n".join(lines).strip())
        lines.clear()

    for line in script.split("\n"):
        if (told := _NUMBER.match(line)) is not None:
            number = int(told[1])
        elif number is not None and (told := _NAME.fullmatch(line)) is not None:
            finish()
            found.append(Definition(number, Name(told[2], told[3], told[1]), ""))
            number = None
        elif _ABOUT.fullmatch(line) is None:
            lines.append(line)
    finish()
    return found


@dataclass(frozen=True)
class There:
    """What a database has already.

    Attributes:
        relations, types: by schema and name.
        schemas, extensions: by name.
        defined: everything that it defines, with its text; empty where nobody needed to know.
        sequences: by schema and name, where they stand.
    """

    relations: Collection[tuple[str, str]] = frozenset()
    types: Collection[tuple[str, str]] = frozenset()
    schemas: Collection[str] = frozenset()
    extensions: Collection[str] = frozenset()
    defined: Mapping[Name, str] = field(default_factory=dict)
    sequences: Mapping[tuple[str, str], SequenceContent] = field(default_factory=dict)


@dataclass
class Fit:
    """What becomes of the entries that were chosen.

    Attributes:
        used: those that are left out, since the database has them; with what describes them.
        names: of those that are used, for people.
        in_the_way: what is there and must not be, a sentence each.
        by_hand: the statements for what was left out because it needs tables that were not asked for.
    """

    used: set[int] = field(default_factory=set)
    names: list[str] = field(default_factory=list)
    in_the_way: list[str] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)

    def use(self, one: Definition) -> None:
        """Take what is there for this one."""
        self.used.add(one.number)
        self.names.append(str(one.name))


def asks_for_definitions(wanted: Sequence[Definition], there: There) -> bool:
    """Whether it matters how things in the database are defined: something that is needed may be there already."""

    def may_be_there(name: Name) -> bool:
        if name.kind in _SHARED or (name.schema != "-" and name.schema not in there.schemas):
            return False
        if name.kind == "SEQUENCE":
            return (name.schema, name.name) in there.relations
        if name.kind in _TYPES:
            return (name.schema, name.name) in there.types
        return name.kind not in OWN | RELATIONS

    return any(may_be_there(one.name) for one in wanted)


def fit(
    entries: Sequence[Entry],
    chosen: Collection[int],
    wanted: Sequence[Definition],
    there: There,
    sequences: Sequence[SequenceContent],
) -> Fit:
    """Hold what is chosen against what is there.

    Args:
        entries, chosen: the archive's table of contents, and the numbers that come back.
        wanted: the definitions of those.
        sequences: where the archive's sequences stood.
    """
    found = Fit()
    owned = {need for one in entries if one.kind == "SEQUENCE OWNED BY" and one.number in chosen for need in one.needs}
    stood = {(one.schema_name, one.name): one for one in sequences}
    for one in wanted:
        kind = one.name.kind
        if kind in _SHARED:
            if one.name.name in (there.schemas if kind == "SCHEMA" else there.extensions):
                found.use(one)
        elif kind == "SEQUENCE" and one.number not in owned and there.defined.get(one.name) == one.text:
            place = (one.name.schema, one.name.name)
            if _behind(stood.get(place), there.sequences.get(place)):
                found.in_the_way.append(f"the {one.name} is there and would give out numbers a second time")
            else:
                found.use(one)
        elif kind in RELATIONS | OWN:
            found.in_the_way += _taken(one, there)
        elif there.defined.get(one.name) == one.text:
            found.use(one)
        elif one.name in there.defined or (kind in _TYPES and (one.name.schema, one.name.name) in there.types):
            found.in_the_way.append(f"the {one.name} is there, and is another one than it was")
    _with_descriptions(entries, chosen, found)
    return found


def _taken(one: Definition, there: There) -> Iterator[str]:
    """The names of relations that would be made, where they are taken."""
    kind, schema, name = one.name
    if kind in RELATIONS:
        # Whatever has columns is a type, too.
        if (schema, name) in there.relations or (kind not in ("INDEX", "SEQUENCE") and (schema, name) in there.types):
            yield f"the {one.name} is there"
        return
    for index in _INDEX.findall(one.text):
        plain = index[1:-1].replace('""', '"') if index.startswith('"') else index
        if (schema, plain) in there.relations:
            yield f"the index {schema}.{plain} is there"


def _with_descriptions(entries: Sequence[Entry], chosen: Collection[int], found: Fit) -> None:
    """What describes a thing that is used, or would set it, is left out with it."""
    found.used |= {
        entry.number
        for entry in entries
        if entry.number in chosen and entry.kind in DESCRIBES | OF_SEQUENCES and set(entry.needs) & found.used
    }


def _behind(stood: SequenceContent | None, stands: SequenceContent | None) -> bool:
    return stands is None or (stood is not None and stands.behind(stood))
