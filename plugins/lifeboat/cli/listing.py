"""``lifeboat list``: what there is to restore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.holdings import for_each, holdings
from lifeboat.cli.output import exact_moment, moment, note, say, show_json, show_table, size, warn
from lifeboat.cli.outside import Surroundings, check_source, surroundings, targets_of
from lifeboat.errors import LifeboatError, PolicyError

if TYPE_CHECKING:
    from lifeboat.cli.overview import Entry, Overview
    from lifeboat.repository.last_verified import LastVerified, Place
    from lifeboat.repository.system import SystemRepository


def list_verb(
    ctx: typer.Context,
    system: Annotated[str | None, typer.Argument(help="The system; by default every one.")] = None,
    source: Annotated[str | None, typer.Argument(help="The source in it; by default every one.")] = None,
    target: Annotated[str | None, typer.Option(help="Look at this target alone.")] = None,
    wal: Annotated[bool, typer.Option("--wal", help="List every WAL run.")] = False,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="List what retention deleted and has not yet removed, too.")
    ] = False,
    history: Annotated[
        str | None,
        typer.Option("--history", help="Of a set of files: every version of a path.", metavar="PATH"),
    ] = None,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option("--diff", help="What changed from one recovery point to another.", metavar="ID ID"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List recovery points, their copies, when these were last verified, and the times that can be reached."""
    here = surroundings(ctx)
    if history is not None:
        _list_history(here, system, source, history, target, as_json)
        return
    if diff is not None:
        _list_changes(here, system, source, diff, target, as_json)
        return
    names = [system] if system is not None else here.systems()
    if not names:
        note(f"There is no policy in {here.policies}.")
    documents = []
    failed: list[LifeboatError] = []
    for name in names:
        try:
            repository = here.repository(here.loaded(name))
            documents.append(_list(repository, source, target, wal=wal, deleted=deleted, as_json=as_json))
        except LifeboatError as error:
            if system is not None:
                raise
            failed.append(error)
            warn(f"{name}: {error}")
    if as_json:
        show_json(documents[0] if system is not None else {"systems": documents})
    if failed:
        raise typer.Exit(1)


def _list_history(
    here: Surroundings, system: str | None, source: str | None, path: str, target: str | None, as_json: bool
) -> None:
    from lifeboat.cli.listing_history import history, show_history

    if system is None or source is None:
        raise PolicyError("A path is one of a set of files.", "Write `lifeboat list SYSTEM SOURCE --history PATH`.")
    loaded = here.loaded(system)
    check_source(loaded, source)
    versions = history(here.repository(loaded), source, path, target)
    if as_json:
        show_json({"system": system, "source": source, "path": path, "versions": [one.document() for one in versions]})
    else:
        show_history(system, source, path, versions)


def _list_changes(
    here: Surroundings, system: str | None, source: str | None, diff: tuple[str, str], target: str | None, as_json: bool
) -> None:
    from lifeboat.cli.listing_diff import compare, show_compared

    if system is None or source is None:
        raise PolicyError("Two recovery points are of one source.", "Write `lifeboat list SYSTEM SOURCE --diff A B`.")
    loaded = here.loaded(system)
    check_source(loaded, source)
    compared = compare(here.repository(loaded), source, diff, target)
    if as_json:
        show_json(compared.document(system, source))
    else:
        show_compared(system, source, compared)


def _list(
    repository: SystemRepository, source: str | None, target: str | None, *, wal: bool, deleted: bool, as_json: bool
) -> dict[str, Any]:
    from lifeboat.cli.listing_deleted import deleted_copies, show_deleted, tell_of_deleted
    from lifeboat.cli.listing_document import document
    from lifeboat.cli.overview import overview

    if source is not None:
        check_source(repository.loaded, source)
    targets = targets_of(repository.loaded, target)
    found, away = holdings(repository, targets, None if source is None else [source])
    sources = [source] if source is not None else sorted({holding.source for holding in found})
    views = [overview(name, [one for one in found if one.source == name]) for name in sources]
    views = [view for view in views if source is not None or view.entries or view.wal_entries or view.findings]
    answered = [name for name in targets if name not in {one.target for one in away}]
    results = _last_verified(repository, answered, views, wal=wal)
    hidden = {view.source: deleted_copies(repository, view) for view in views if deleted}
    if as_json:
        return document(repository.system, views, away, results, hidden, wal=wal)
    for view in views:
        _show(repository.system, view, results, wal=wal)
        if deleted:
            show_deleted(repository.system, view.source, hidden[view.source])
        else:
            tell_of_deleted(repository.system, view)
    if not views:
        say(f"{repository.system}: nothing is stored yet.")
    for one in away:
        warn(f"The target {one.target} is out of reach: {one.error}")
    return {}


def _last_verified(
    repository: SystemRepository, targets: Sequence[str], views: Sequence[Overview], *, wal: bool
) -> dict[Place, LastVerified]:
    """Each target's journal is asked of its own copies."""
    from lifeboat.repository.last_verified import last_verified

    places = [
        (view.source, entry.manifest.recovery_point, target)
        for view in views
        for entry in (*view.entries, *(view.wal_entries if wal else ()))
        for target in entry.copies
    ]
    found: dict[Place, LastVerified] = {}
    looked = for_each(
        targets,
        lambda name: last_verified(repository, name, (place for place in places if place[2] == name), tick=STOP.check),
    )
    for name, result in looked.items():
        if isinstance(result, LifeboatError):
            warn(f"The journal on {name} can't be read: {result}")
        else:
            found |= result
    return found


def _show(system: str, view: Overview, results: dict[Place, LastVerified], *, wal: bool) -> None:
    from lifeboat.postgres.restore_planning import merged_ranges

    show_table(
        f"{system} {view.source}: recovery points",
        ("id", "tiers", "moment", "read", "stored", "state", "copies, last verified"),
        [_row(entry, results) for entry in view.entries],
        right=(3, 4),
    )
    if wal and view.wal_entries:
        show_table(
            f"{system} {view.source}: WAL runs",
            ("id", "tiers", "covers until", "read", "stored", "state", "copies, last verified"),
            [_row(entry, results) for entry in view.wal_entries],
            right=(3, 4),
        )
    elif view.wal:
        _show_wal(f"{system} {view.source}: WAL", view)
    for holding in view.holdings:
        for first, last in merged_ranges(holding.reaches):
            say(f"Reachable on {holding.target}: {exact_moment(first)} to {exact_moment(last)}", "green")
    for target, what in view.findings:
        warn(f"{target}: {what}")
    for entry in (*view.entries, *view.wal_entries):
        if entry.differs:
            warn(f"{entry.manifest.recovery_point} differs between {' and '.join(entry.copies)}.")


def _row(entry: Entry, results: dict[Place, LastVerified]) -> tuple[str, ...]:
    manifest = entry.manifest
    return (
        manifest.recovery_point + (f"\n└ on {manifest.parent}" if manifest.parent is not None else ""),
        ", ".join(manifest.tiers) or _instead_of_tiers(entry),
        moment(manifest.moment),
        size(manifest.plain_size),
        size(manifest.stored_size),
        manifest.state + (" (degraded)" if manifest.degraded else "") + (" (rebuilt)" if manifest.rebuilt else ""),
        "\n".join(_verified(entry, target, results) for target in entry.copies),
    )


def _instead_of_tiers(entry: Entry) -> str:
    """Whoever looks for something to restore must not take a partial export for a tier's: it lacks most tables."""
    return f"none (partial: {', '.join(entry.only)})" if entry.only else "none"


def _verified(entry: Entry, target: str, results: dict[Place, LastVerified]) -> str:
    from lifeboat.cli.overview import newest_result

    result = newest_result(entry, target, results)
    if result is None:
        return f"{target}: not known"
    return f"{target}: {moment(result.time)} {result.method if result.good else 'NOT GOOD'}"


def _show_wal(title: str, view: Overview) -> None:
    rows = [
        (
            one.target,
            str(one.timeline),
            str(one.runs),
            f"{one.start_lsn} to {one.end_lsn}",
            moment(one.begins),
            moment(one.until),
            size(one.plain_size),
            size(one.stored_size),
        )
        for one in view.wal
    ]
    columns = ("target", "timeline", "runs", "without a gap", "from", "covers until", "read", "stored")
    show_table(title, columns, rows, right=(1, 2, 6, 7))
