"""Which tables an export holds, and what is masked in them: a pure function of the policy and of what there is.

Nothing that a list names and that is not there is passed over: a name that was misspelt, or a table that was renamed,
would silently be missing, or stand unmasked in every file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lifeboat.errors import PolicyError
from lifeboat.policy.export import ExportPolicy, FixedMask, Mask
from lifeboat.policy.table_patterns import ColumnPattern, TablePattern, column_pattern, table_pattern
from lifeboat.postgres.exports.tables import KINDS, Inventory, Table

MOST_NAMED = 20


@dataclass(frozen=True)
class Hidden:
    """How one column is masked: ``kind`` as in the policy, ``text`` for ``fixed``."""

    kind: str
    text: str = ""


@dataclass(frozen=True)
class Choice:
    """What an export holds.

    Attributes:
        tables: by database, in the order of their names.
        masks: by database and oid, then by column.
        problems: what of the policy's lists fits nothing; nothing is exported while there is any.
        remarks: what a person should know: what else there is and is not exported.
    """

    tables: Mapping[str, tuple[Table, ...]]
    masks: Mapping[tuple[str, int], Mapping[str, Hidden]]
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    def insist(self) -> None:
        """Raise ``PolicyError`` when a list fits nothing."""
        if self.problems:
            raise PolicyError(
                f"The export can't be made as the policy says: {' '.join(self.problems)}",
                "Mend the names under `export` in the policy, or what was asked for. Names are case-sensitive.",
            )


def masked_tables(policy: ExportPolicy, tables: Sequence[Table]) -> list[Table]:
    """The tables whose columns a choice must know: those that a mask names, and all that inherit from them."""
    patterns = [column_pattern(text).tables for text in policy.mask]
    return _with_heirs([table for table in tables if _any(patterns, table)], tables)


def choose(inventories: Sequence[Inventory], policy: ExportPolicy, only: Sequence[str] = ()) -> Choice:
    """Choose among what there is.

    Args:
        inventories: one for each database.
        policy: the lists.
        only: patterns of the tables that were asked for; empty: all that the policy says.
    """
    include = [table_pattern(text) for text in policy.include]
    exclude = [table_pattern(text) for text in policy.exclude]
    asked = [table_pattern(text) for text in only]
    every = [table for inventory in inventories for table in inventory.tables]
    chosen = [table for table in every if table.exportable and _any(include, table) and not _any(exclude, table)]
    problems = [
        *_unknown("include", include, every, exact=False),
        *_unknown("exclude", exclude, every, exact=True),
    ]
    for pattern in asked:
        if not any(_fits(pattern, table) for table in chosen):
            known = any(_fits(pattern, table) for table in every)
            reason = "is left out by the policy" if known else "is not there"
            problems += [_as_what(pattern, every) or f"`{pattern.text}` was asked for and {reason}."]
    if asked:
        chosen = [table for table in chosen if _any(asked, table)]
    masks: dict[tuple[str, int], dict[str, Hidden]] = {}
    for text, mask in policy.mask.items():
        problems += _mask(column_pattern(text), _hidden(mask), inventories, masks)
    problems += _leaks(inventories, masks)
    tables = {
        inventory.database: tuple(table for table in chosen if table.database == inventory.database)
        for inventory in inventories
    }
    return Choice(tables, masks, tuple(dict.fromkeys(problems)), tuple(_remarks(every, include, exclude)))


def _any(patterns: Sequence[TablePattern], table: Table) -> bool:
    return any(_fits(pattern, table) for pattern in patterns)


def _fits(pattern: TablePattern, table: Table) -> bool:
    return pattern.matches(table.database, table.schema, table.name)


def _unknown(key: str, patterns: Sequence[TablePattern], every: Sequence[Table], *, exact: bool) -> list[str]:
    problems = []
    for pattern in patterns:
        # An empty database has nothing that `*.*` could mean; `exclude: *.tmp_*` waits for what may come.
        if not pattern.exact and (exact or pattern.text == "*.*"):
            continue
        fitting = [table for table in every if _fits(pattern, table)]
        if not fitting:
            problems.append(f"There is no table `{pattern.text}`, which `{key}` names.")
        elif not any(table.exportable for table in fitting) and key == "include":
            problems.append(_as_what(pattern, every))
    return problems


def _as_what(pattern: TablePattern, every: Sequence[Table]) -> str:
    """Why the one thing that a pattern fits is not exported; empty where another reason must be said."""
    fitting = [table for table in every if _fits(pattern, table)]
    if not fitting or any(table.exportable for table in fitting):
        return ""
    table = fitting[0]
    if table.partition:
        return f"`{pattern.text}` is a partition; it is exported with its partitioned table: name that."
    if table.extension is not None:
        return f"`{pattern.text}` belongs to the extension {table.extension}, which makes it."
    return f"`{pattern.text}` is a {KINDS[table.kind]}, and these are not exported."


def _hidden(mask: Mask) -> Hidden:
    if isinstance(mask, FixedMask):
        return Hidden("fixed", mask.fixed)
    return Hidden(mask or "null")


def _mask(
    pattern: ColumnPattern,
    hidden: Hidden,
    inventories: Sequence[Inventory],
    masks: dict[tuple[str, int], dict[str, Hidden]],
) -> list[str]:
    found = False
    problems = []
    for inventory in inventories:
        fitting = [table for table in inventory.tables if _fits(pattern.tables, table)]
        for table in fitting:
            names = [name for name in inventory.columns.get(table.oid, {}) if pattern.column.matches(name)]
            if names and table.partition:
                problems.append(f"`{pattern.text}` is of a partition: mask the column of the partitioned table.")
            for name in names:
                found = True
                # Tables that inherit the column hold the same kind of values: they are masked alike.
                for heir in _with_heirs([table], inventory.tables):
                    if name in inventory.columns.get(heir.oid, {}):
                        masks.setdefault((heir.database, heir.oid), {}).setdefault(name, hidden)
    if not found:
        problems.append(f"There is no column `{pattern.text}`, which `mask` names.")
    return problems


def _with_heirs(tables: Sequence[Table], every: Sequence[Table]) -> list[Table]:
    found = {(table.database, table.oid): table for table in tables}
    while True:
        more = [
            table
            for table in every
            if (table.database, table.oid) not in found
            and any((table.database, parent) in found for parent in table.parents)
        ]
        if not more:
            return list(found.values())
        found |= {(table.database, table.oid): table for table in more}


def _leaks(inventories: Sequence[Inventory], masks: Mapping[tuple[str, int], Mapping[str, Hidden]]) -> list[str]:
    """Generated columns that would tell what a mask hides."""
    problems = []
    for inventory in inventories:
        for table in inventory.tables:
            masked = masks.get((table.database, table.oid), {})
            for name, origins in inventory.columns.get(table.oid, {}).items():
                if name not in masked and (told := sorted(origins & masked.keys())):
                    problems.append(
                        f"`{table.path}.{name}` is generated from the masked `{told[0]}` and would tell it: mask it "
                        "as well."
                    )
    return problems


def _remarks(every: Sequence[Table], include: Sequence[TablePattern], exclude: Sequence[TablePattern]) -> list[str]:
    remarks = []
    for kind in "fm":
        names = [
            table.path
            for table in every
            if table.kind == kind and not table.partition and _any(include, table) and not _any(exclude, table)
        ]
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            remarks.append(f"Not exported, being a {KINDS[kind]}: {', '.join(names[:MOST_NAMED])}{more}.")
    return remarks
