"""``lifeboat bundle``: the day bundles that old days lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import fail, say, show_json, size
from lifeboat.cli.outside import surroundings, targets_of
from lifeboat.errors import Cancelled, LifeboatError

if TYPE_CHECKING:
    from lifeboat.repository.bundling import Bundled
    from lifeboat.repository.system import SystemRepository


def bundle_verb(
    ctx: typer.Context,
    system: Annotated[str, typer.Argument(help="The system, as its policy calls it.")],
    target: Annotated[str | None, typer.Option(help="On this target alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the day bundles that are missing, so that lists, restores and retention read faster; changes nothing else.

    Runs write those of the last days by themselves.
    """
    here = surroundings(ctx)
    loaded = here.loaded(system)
    repository = here.repository(loaded)
    found: dict[str, list[Bundled]] = {}
    failed = False
    for name in targets_of(loaded, target):
        found[name] = []
        try:
            _bundle(repository, name, found[name], tell=not as_json)
        except Cancelled:
            raise
        except LifeboatError as error:
            failed = True
            fail(error)
    if as_json:
        show_json({"system": system, "written": {name: _document(some) for name, some in found.items()}})
    else:
        for name, some in found.items():
            say(f"{name}: {len(some)} bundles of {sum(one.objects for one in some)} objects written")
    if failed:
        raise typer.Exit(1)


def _bundle(repository: SystemRepository, target: str, found: list[Bundled], *, tell: bool) -> None:
    from lifeboat.repository.bundling import Bundler

    bundler = Bundler(repository, target, STOP.check)
    sources = sorted({*repository.policy.sources, *repository.catalogue(target).sources()})
    for written in (bundler.journal(), *map(bundler.wal, sources)):
        for one in written:
            found.append(one)
            if tell:
                say(f"{target}: {one.key}, {one.objects} objects, {size(one.stored_size)}", "dim")


def _document(some: list[Bundled]) -> list[dict[str, Any]]:
    return [{"key": one.key, "objects": one.objects, "stored_size": one.stored_size} for one in some]
