"""A restore's plan, shown before anything of it is done."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lifeboat.cli.output import exact_moment, length, note, show_fields, size
from lifeboat.cli.restore_estimate import in_words
from lifeboat.errors import LifeboatError

if TYPE_CHECKING:
    from lifeboat.cli.moment import Asked
    from lifeboat.cli.restore_choice import Choice
    from lifeboat.postgres.destination import Request
    from lifeboat.postgres.details import FullDetails
    from lifeboat.postgres.restore_planning import RestorePlan
    from lifeboat.recovery.estimating import Estimate
    from lifeboat.repository.system import SystemRepository

FETCH_RATE = 120e6
COMBINE_RATE = 400e6
REPLAY_RATE = 40e6
OVERHEAD_SECONDS = 10.0
MOST_NAMED = 12


@dataclass(frozen=True)
class Proposal:
    """Everything that a person decides upon.

    Attributes:
        obstacles: what will stop the restore as it is asked for.
        measured: how long it will take by what restores before it took; ``None`` where there was none.
    """

    system: str
    source: str
    asked: Asked
    choice: Choice
    request: Request
    obstacles: tuple[LifeboatError, ...]
    measured: Estimate | None = None

    @property
    def plan(self) -> RestorePlan:
        """What will be done."""
        return self.choice.plan

    @property
    def details(self) -> FullDetails:
        """What the full, or the chain's last link, says of the lost server."""
        return self.choice.plan.base.details

    @property
    def free_bytes(self) -> int:
        """Room on the destination's file system."""
        place = self.request.into
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    @property
    def estimated_seconds(self) -> int:
        """What restores before it took, for as many bytes; a rough guess where there was none."""
        if self.measured is not None:
            return round(self.measured.seconds)
        fetched = sum(link.details.plain_total for link in self.plan.base.links)
        combined = fetched if self.plan.base.below else 0
        wal = self.plan.wal_bytes
        return round(fetched / FETCH_RATE + combined / COMBINE_RATE + wal / REPLAY_RATE + OVERHEAD_SECONDS)


def obstacles(repository: SystemRepository, plan: RestorePlan, request: Request) -> Iterator[LifeboatError]:
    """What will stop the restore, looked at without touching anything: destination, server programs, keys."""
    from lifeboat.postgres.destination import check_destination
    from lifeboat.postgres.server_programs import check_combiner, check_ready, run_as

    try:
        check_destination(request, plan)
        owner = run_as(request.user, request.into.parent)
        major = plan.base.details.server.major
        check_ready(request.binaries, major, request.into.parent, owner)
        if plan.base.below:
            check_combiner(request.binaries, major, owner)
    except LifeboatError as error:
        yield error
    try:
        _ = repository.opening
    except LifeboatError as error:
        yield error


def document(proposal: Proposal) -> dict[str, Any]:
    """The plan for programs."""
    from lifeboat.postgres.destination import moved_tablespaces, tablespace_place

    plan, details, offer = proposal.plan, proposal.details, proposal.choice.offer
    return {
        "system": proposal.system,
        "source": proposal.source,
        "asked": proposal.asked.words,
        "target": offer.target,
        "into": str(proposal.request.into),
        "replaces": _replaced_document(proposal),
        "base": {
            "id": plan.base.manifest.recovery_point,
            "moment": plan.base.manifest.moment,
            "plain_size": plan.base.manifest.plain_size,
            "stored_size": plan.base.manifest.stored_size,
        },
        "links": [
            {
                "id": link.manifest.recovery_point,
                "kind": link.manifest.kind,
                "moment": link.manifest.moment,
                "plain_size": link.manifest.plain_size,
                "stored_size": link.manifest.stored_size,
            }
            for link in plan.base.links
        ],
        "wal": {
            "segments": len(plan.stages),
            "first": plan.stages[0].name if plan.stages else None,
            "last": plan.stages[-1].name if plan.stages else None,
            "end_lsn": str(plan.end_lsn),
        },
        "timeline": plan.timeline,
        "recovery_settings": dict(plan.target),
        "reachable": [{"from": first, "until": last} for first, last in _ranges(proposal)],
        "fetch_bytes": plan.fetch_bytes,
        "room_bytes": plan.room_bytes,
        "free_bytes": proposal.free_bytes,
        "estimated_seconds": proposal.estimated_seconds,
        "tablespaces": {
            str(tablespace.location): str(tablespace_place(tablespace, proposal.request))
            for tablespace in moved_tablespaces(plan)
        },
        "server": {
            "version": details.server.version,
            "system_identifier": str(details.system_identifier),
            "databases": [
                {"name": database.name, "size_bytes": database.size_bytes} for database in details.server.databases
            ],
            "extensions": _extensions(details),
            "preload_libraries": _preloaded(details),
            "files_not_in_the_backup": dict(details.server.files_outside),
        },
        "remarks": list(proposal.choice.remarks),
        "obstacles": [str(error) for error in proposal.obstacles],
    }


def show(proposal: Proposal) -> None:
    """The plan for people."""
    show_fields(f"Restore {proposal.system} {proposal.source}", [*_what(proposal), *_where(proposal)])
    show_fields("The lost server", _server(proposal.details))
    for remark in proposal.choice.remarks:
        note(f"note: {remark}", "yellow")
    for error in proposal.obstacles:
        note(f"in the way: {error.what}", "bold red")
        if error.remedy:
            note(f"  → {error.remedy}", "red")


def _what(proposal: Proposal) -> Iterator[tuple[str, str]]:
    plan = proposal.plan
    yield "asked for", proposal.asked.words
    yield "from target", proposal.choice.offer.target
    for number, link in enumerate(one.manifest for one in plan.base.links):
        yield (
            "then link" if number else "begins with",
            f"{link.recovery_point}, which stands for {exact_moment(link.moment)}: {size(link.stored_size)} stored, "
            f"{size(link.plain_size)} plain",
        )
    if plan.stages:
        yield (
            "then WAL",
            f"{len(plan.stages)} segments, {plan.stages[0].name} to {plan.stages[-1].name}, up to {plan.end_lsn} on "
            f"timeline {plan.timeline}",
        )
    else:
        yield "then WAL", "none besides the backup's own"
    for first, last in _ranges(proposal):
        yield "reachable", f"{exact_moment(first)} to {exact_moment(last)}"
    for gap in sorted({reach.gap for reach in proposal.choice.offer.reaches() if reach.gap}):
        yield "gap", gap


def _where(proposal: Proposal) -> Iterator[tuple[str, str]]:
    from lifeboat.postgres.destination import moved_tablespaces, tablespace_place

    plan = proposal.plan
    yield "into", str(proposal.request.into)
    yield from _replaced(proposal)
    for tablespace in moved_tablespaces(plan):
        yield "tablespace", f"{tablespace.location} → {tablespace_place(tablespace, proposal.request)}"
    yield "to fetch", size(plan.fetch_bytes)
    yield "disk", f"{size(plan.room_bytes)} needed, {size(proposal.free_bytes)} free"
    yield "will take", f"about {length(proposal.estimated_seconds)}, {_grounds(proposal)}"
    yield "programs", str(proposal.request.binaries)


def _replaced_document(proposal: Proposal) -> dict[str, Any] | None:
    from lifeboat.postgres.old_directory import holds_something, links_out, size_of

    into, aside = proposal.request.into, proposal.request.aside
    if aside is None or not holds_something(into):
        return None
    return {"renamed_to": str(aside), "size_bytes": size_of(into), "links": links_out(into)}


def _replaced(proposal: Proposal) -> Iterator[tuple[str, str]]:
    told = _replaced_document(proposal)
    if told is None:
        return
    yield (
        "gives way",
        f"the data directory that is there, {size(told['size_bytes'])}, is renamed to {told['renamed_to']}, and not "
        "removed. That comes last, when all is proven; it is renamed back when something fails after it",
    )
    for name, place in told["links"].items():
        yield "stays", f"{place}, its {name}: the new one does not use it"


def _grounds(proposal: Proposal) -> str:
    if proposal.measured is None:
        return f"if {size(round(FETCH_RATE))}/s can be read and {size(round(REPLAY_RATE))}/s replayed (a guess)"
    return in_words(proposal.measured)


def _server(details: FullDetails) -> Iterator[tuple[str, str]]:
    server = details.server
    yield "version", f"PostgreSQL {server.version}, system identifier {details.system_identifier}"
    yield "databases", _named([f"{one.name} ({size(one.size_bytes or 0)})" for one in server.databases])
    yield "extensions", _named(_extensions(details))
    if preloaded := _preloaded(details):
        yield "preloaded", f"{', '.join(preloaded)}: install them before the server is started"
    for name, file in server.files_outside.items():
        yield "not in it", f"{name} lay outside the data directory, at {file}: bring it from elsewhere"
    for unread in server.unread:
        yield "not known", unread


def _ranges(proposal: Proposal) -> Sequence[tuple[Any, Any]]:
    from lifeboat.postgres.restore_planning import merged_ranges

    return merged_ranges(proposal.choice.offer.reaches())


def _extensions(details: FullDetails) -> list[str]:
    found = {
        f"{extension.name} {extension.version}"
        for database in details.server.databases
        for extension in database.extensions or ()
    }
    return sorted(found)


def _preloaded(details: FullDetails) -> list[str]:
    settings = details.server.settings
    names = (settings.get(name, "") for name in ("shared_preload_libraries", "session_preload_libraries"))
    return sorted({library.strip() for text in names for library in text.split(",") if library.strip()})


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (", ".join(names[:MOST_NAMED]) or "none") + more


def absolute(path: Path) -> Path:
    """A path as the plan names it."""
    return path.expanduser().absolute()
