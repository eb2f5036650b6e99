"""A logical restore's plan, shown before anything of it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lifeboat.cli.output import exact_moment, note, show_fields, size

if TYPE_CHECKING:
    from lifeboat.postgres.logical_planning import DatabasePlan, LogicalPlan, Replaced
    from lifeboat.postgres.parameters import ConnectionParameters

MOST_NAMED = 12


def document(plan: LogicalPlan, parameters: ConnectionParameters, remarks: Sequence[str]) -> dict[str, Any]:
    """The plan for programs."""
    manifest = plan.copy.manifest
    return {
        "system": manifest.system,
        "source": manifest.source,
        "target": plan.copy.target,
        "recovery_point": manifest.recovery_point,
        "moment": manifest.moment,
        "server": parameters.address,
        "fetch_bytes": _fetched(plan),
        "databases": [
            {
                "database": one.archive.name,
                "new_name": one.name,
                "tables": None if one.tables is None else [table.label for table in one.tables],
                "rows": _rows(one),
                "left_out": [] if one.selection is None else list(one.selection.left_out),
                "only_defined": [] if one.selection is None else list(one.selection.only_defined),
                "replaces": None
                if one.replaces is None
                else {
                    "renamed_to": one.replaces.aside,
                    "size_bytes": one.replaces.size_bytes,
                    "sessions": one.replaces.sessions,
                },
                "used": [] if one.fit is None else list(one.fit.names),
            }
            for one in plan.databases
        ],
        "into_existing": plan.existing,
        "with_globals": plan.globals_wanted,
        "remarks": list(remarks),
        "obstacles": [str(error) for error in plan.obstacles],
    }


def _rows(one: DatabasePlan) -> int:
    return sum(table.rows or 0 for table in (one.contents.tables if one.tables is None else one.tables))


def _fetched(plan: LogicalPlan) -> int:
    streams = (archive.stream for one in plan.databases for archive in one.archive.archives)
    return sum(plan.copy.manifest.stream(stream).stored_size for stream in streams)


def show_plan(plan: LogicalPlan, parameters: ConnectionParameters, remarks: Sequence[str]) -> None:
    """The plan for people."""
    manifest, details = plan.copy.manifest, plan.details
    fields = [
        ("archive", f"{manifest.recovery_point}, which stands for {exact_moment(manifest.moment)}"),
        ("from target", plan.copy.target),
        ("made of", f"PostgreSQL {details.server.version}, read by pg_dump {details.dumped_by}"),
        ("into", _into(plan, parameters)),
        ("to fetch", size(_fetched(plan))),
        ("programs", f"{plan.programs.directory} ({plan.programs.version})"),
    ]
    for one in plan.databases:
        fields += list(_of_database(one))
    if plan.globals_wanted:
        fields.append(("first", f"the roles {'' if plan.existing else 'and tablespaces '}that the server lacks"))
    if not plan.owners:
        fields.append(("owners", "everything will belong to the connection's role, without the old privileges"))
    fields += [("not in it", finding) for finding in manifest.findings]
    show_fields(f"Restore {manifest.system} {manifest.source}", fields)
    for remark in remarks:
        note(f"note: {remark}", "yellow")
    for error in plan.obstacles:
        note(f"in the way: {error.what}", "bold red")
        if error.remedy:
            note(f"  → {error.remedy}", "red")


def _of_database(one: DatabasePlan) -> Iterator[tuple[str, str]]:
    yield "database", f"{one.archive.name} → {one.name}"
    if one.replaces is not None:
        yield "gives way", _replaced(one.replaces)
    if one.tables is None or one.selection is None:
        yield "with", f"{one.archive.tables} tables, {_rows(one):,} rows, {one.archive.large_objects} large objects"
        return
    yield "tables", f"{_named([table.label for table in one.tables])}: {_rows(one):,} rows"
    if one.selection.only_defined:
        yield "without rows", f"{_named(one.selection.only_defined)}: others need their definitions"
    if one.selection.left_out:
        yield "left out", f"{_named(one.selection.left_out)}: these need tables that were not asked for"

    if one.fit is not None and one.fit.names:
        yield "used as is", f"{_named(one.fit.names)}: the database has them, and they stay as they are"


def _replaced(old: Replaced) -> str:
    length = f" of {size(old.size_bytes)}" if old.size_bytes is not None else ""
    sessions = "1 session in it is" if old.sessions == 1 else f"{old.sessions} sessions in it are"
    return (
        f"the database {old.name}{length} is renamed to {old.aside}, and not dropped; {sessions} ended. That comes "
        "last, when all is proven; it is renamed back when a check fails after it. The server needs room for both"
    )


def _into(plan: LogicalPlan, parameters: ConnectionParameters) -> str:
    server = f"the server at {parameters.address}"
    if plan.existing:
        return (
            f"the database {plan.databases[0].name} of {server}, in one transaction; nothing that is there is changed"
        )
    if plan.replaces:
        return f"{server}, in the place of {', '.join(plan.replaces)}"
    return f"{server}, into new databases; nothing that is there is touched"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
