"""``lifeboat restore`` of Git repositories: bare ones, into a directory that is empty or new."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lifeboat.cli.agreement import agree
from lifeboat.cli.cancellation import STOP
from lifeboat.cli.output import exact_moment, iso, say, show_fields, show_json, size, warn
from lifeboat.cli.progress import bar
from lifeboat.cli.restore_snapshots import WantedSnapshot, chosen, recorded
from lifeboat.errors import LifeboatError, NotEnoughDisk, RestoreError

if TYPE_CHECKING:
    from lifeboat.code.details import RepositoryDetails
    from lifeboat.code.restoring import RestoredRepository
    from lifeboat.repository.catalogue import Copy
    from lifeboat.repository.system import SystemRepository

MOST_SHOWN = 20


def restore_code(repository: SystemRepository, source: str, wanted: WantedSnapshot) -> None:
    """Show the plan, ask, bring them back, say what came back and how it gets to a server."""
    from lifeboat.code.details import code_details
    from lifeboat.code.restoring import wanted_repositories

    if wanted.into is None:
        raise RestoreError("It is not said where to.", "Name a directory that is empty or not there with --into.")
    into = wanted.into.expanduser().absolute()
    copy, reached = chosen(repository, source, wanted)
    repositories = wanted_repositories(code_details(copy.manifest), wanted.only)
    obstacle = _obstacle(into, repositories)
    if wanted.plan and wanted.as_json:
        show_json(_document(copy, repositories, into, wanted, obstacle))
    elif not wanted.as_json:
        _show_plan(copy, repositories, into)
        if wanted.plan and obstacle is not None:
            warn(str(obstacle))
    if wanted.plan:
        raise typer.Exit(1 if obstacle is not None else 0)
    if obstacle is not None:
        raise obstacle
    agree(f"Restore into {into}?", wanted.yes)
    restored = _carry_out(repository, copy, into, wanted.only, reached)
    if wanted.as_json:
        done = [_restored_document(one) for one in restored]
        show_json({"plan": _document(copy, repositories, into, wanted, None), "restored": done})
    else:
        _show(restored)


def _obstacle(into: Path, repositories: Sequence[RepositoryDetails]) -> LifeboatError | None:
    from lifeboat.repository.empty_place import check_place

    try:
        check_place(into)
    except LifeboatError as error:
        return error
    free, needed = shutil.disk_usage(into.parent).free, sum(one.size for one in repositories)
    if needed > free:
        return NotEnoughDisk(
            f"{into.parent} has {size(free)} of room, and the repositories have {size(needed)}.",
            "Name a place with more, or some of the repositories with --only.",
        )
    return None


def _show_plan(copy: Copy, repositories: Sequence[RepositoryDetails], into: Path) -> None:
    manifest = copy.manifest
    show_fields(
        "Plan",
        [
            ("recovery point", manifest.recovery_point),
            ("of", exact_moment(manifest.moment)),
            ("read from", copy.target),
            ("repositories", ", ".join(one.name for one in repositories) or "none"),
            ("refs", f"{sum(one.refs for one in repositories):,}"),
            ("bundles", size(sum(one.size for one in repositories))),
            ("into", str(into)),
        ],
    )
    for finding in manifest.findings[:MOST_SHOWN]:
        warn(finding)


def _document(
    copy: Copy,
    repositories: Sequence[RepositoryDetails],
    into: Path,
    wanted: WantedSnapshot,
    obstacle: LifeboatError | None,
) -> dict[str, Any]:
    return {
        "recovery_point": copy.manifest.recovery_point,
        "moment": iso(copy.manifest.moment),
        "target": copy.target,
        "repositories": [
            {
                "name": one.name,
                "url": one.url,
                "refs": one.refs,
                "size": one.size,
                "bundle_of": one.recovery_point,
                "unread": one.unread,
            }
            for one in repositories
        ],
        "only": list(wanted.only),
        "into": str(into),
        "findings": list(copy.manifest.findings),
        "obstacles": [] if obstacle is None else [str(obstacle)],
    }


def _carry_out(
    repository: SystemRepository, copy: Copy, into: Path, only: Sequence[str], reached: Sequence[str]
) -> list[RestoredRepository]:
    from lifeboat.code.restoring import restore_repositories

    with recorded(repository, copy, reached, into=str(into), only=list(only)) as result, bar("Restored", 0) as shown:
        restored = restore_repositories(repository, copy, into, only=only, progress=shown.at, tick=STOP.check)
        result |= {"repositories": len(restored), "refs": sum(one.refs for one in restored)}
    return restored


def _restored_document(restored: RestoredRepository) -> dict[str, Any]:
    return {
        "name": restored.name,
        "path": str(restored.path),
        "refs": restored.refs,
        "head": restored.head,
        "flaws": list(restored.flaws),
        "as_of": restored.as_of,
    }


def _show(restored: Sequence[RestoredRepository]) -> None:
    show_fields("Restored", [(one.name, f"{one.refs:,} refs, compared one by one, in {one.path}") for one in restored])
    for one in restored:
        if one.as_of:
            warn(f"{one.name} is as {one.as_of} had it: it could not be read when this recovery point was made.")
        for flaw in one.flaws[:MOST_SHOWN]:
            warn(f"{one.name}: git fsck says, of an object that was so at the origin: {flaw}")
    if restored:
        say("To bring one to a new server, make an empty repository there, and:")
        say(f"  git -C {restored[0].path} push --mirror ssh://git@git.example.com/{restored[0].name}.git")
