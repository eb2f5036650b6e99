"""``lifeboat remains``: what unfinished work left behind."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import fail, say, show_json, warn
from lifeboat.cli.outside import check_source, surroundings, targets_of
from lifeboat.errors import Cancelled, LifeboatError

MOST_SHOWN = 50


def remains_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    source: Annotated[str, typer.Argument(help="The source in it.")],
    target: Annotated[str | None, typer.Option(help="Look at this target alone.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find objects that belong to no committed recovery point and are older than 48 hours; remove them when told to."""
    from lifeboat.cli.recording import BestEffortJournal
    from lifeboat.repository.remains import find_remains, remove_remains

    here = surroundings(ctx)
    loaded = here.loaded(system)
    check_source(loaded, source)
    repository = here.repository(loaded)
    found: dict[str, Any] = {}
    failed = False
    for name in targets_of(loaded, target):
        STOP.check()
        try:
            catalogue, now = repository.catalogue(name), repository.outside.clock()
            if remove:
                found[name] = remove_remains(catalogue, source, now=now)
                if found[name]:
                    journal = BestEffortJournal(repository, [name], run="command-remains", tell=warn)
                    journal.write("remains_removed", source=source, target=name, objects=len(found[name]))
            else:
                found[name] = find_remains(catalogue, source, now=now)
        except Cancelled:
            raise
        except LifeboatError as error:
            failed = True
            fail(error)
    if as_json:
        show_json({"system": system, "source": source, "removed": remove, "remains": found})
    else:
        _show(found, remove)
    if failed:
        raise typer.Exit(1)


def _show(found: dict[str, Any], removed: bool) -> None:
    for name, keys in found.items():
        say(f"{name}: {len(keys)} {'removed' if removed else 'found'}")
        for key in keys[:MOST_SHOWN]:
            say(f"  {key}", "dim")
        if len(keys) > MOST_SHOWN:
            say(f"  and {len(keys) - MOST_SHOWN} more; --json lists all", "dim")
