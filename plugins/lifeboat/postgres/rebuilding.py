"""An archive or an export of a past moment: the cluster is brought back to it in a scratch server, and read there.

    plan ─▶ restore to the moment ─▶ read, as from the source ─▶ commit ─▶ remove

The scratch server is the restore test's: it listens on a socket of its own, archives nothing, subscribes to nothing and
follows nobody (:mod:`lifeboat.postgres.recovery_server`). Whatever ends the work, nothing of it is left: what was
killed is removed by the next one.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from lifeboat.errors import Cancelled, LifeboatError, MomentUnreachable, PolicyError, RebuildSkipped, RestoreError
from lifeboat.policy.built import built_targets
from lifeboat.policy.naming import Tier
from lifeboat.policy.postgres_source import PostgresSource
from lifeboat.policy.slots import Slot, is_rebuildable
from lifeboat.postgres.advisory_lock import wait_for_lock
from lifeboat.postgres.client_programs import client_programs
from lifeboat.postgres.connecting import connect_sql
from lifeboat.postgres.destination import Request, check_destination
from lifeboat.postgres.exports.export import back_up_export
from lifeboat.postgres.exports.records import EXPORT
from lifeboat.postgres.finding_programs import server_programs
from lifeboat.postgres.full import source_parameters
from lifeboat.postgres.logical_backup import back_up_logical
from lifeboat.postgres.logical_details import LOGICAL, logical_details
from lifeboat.postgres.moments import AtTime
from lifeboat.postgres.open_server import OpenServer
from lifeboat.postgres.past_server import PastServer
from lifeboat.postgres.reach import Reach
from lifeboat.postgres.rebuild_planning import out_of_time, standing_in, there_in_words, unreachable
from lifeboat.postgres.restore import restore
from lifeboat.postgres.restore_planning import RestorePlan
from lifeboat.postgres.restore_sources import read_offer
from lifeboat.postgres.server_programs import check_combiner, check_ready, run_as
from lifeboat.repository.alone import alone_on_this_machine
from lifeboat.repository.building import building_place
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.journal import Journal
from lifeboat.repository.manifest import Manifest, Rebuilt
from lifeboat.repository.system import PRIMARY, SystemRepository, Work
from lifeboat.targets.target import Finding

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rebuilding:
    """What will be done.

    Attributes:
        moment: that the recovery point will stand for.
        target: where everything is read.
        plan: how the cluster is brought back.
    """

    moment: datetime
    target: str
    plan: RestorePlan


def plan_rebuilding(
    repository: SystemRepository, source_name: str, tier: Tier, slot: Slot, *, whole: bool = True
) -> Rebuilding:
    """Look at what there is, and decide.

    Args:
        whole: ``False`` for single tables of an export: they count for no tier, and stand in no other's place.

    Raises:
        RebuildSkipped: it is there already, or can't be brought back; the text says which.
        PolicyError: the tier's recovery points can't be made of others.
        LifeboatError: no target that could be read has it, and another one can't be read.
    """
    source = repository.policy.sources[source_name]
    if not isinstance(source, PostgresSource) or not is_rebuildable(source, tier):
        raise PolicyError(
            f"The tier {tier} of {repository.system} {source_name} can't be made for a moment that has passed.",
            "Logical archives and exports can, of physical backups and WAL. `lifeboat restore --at` brings the server "
            "itself back.",
        )
    kind = EXPORT if tier is Tier.EXPORT else LOGICAL
    ends = source.tiers[tier].retention.after(slot.moment, repository.policy.zone)
    if reason := out_of_time(slot.moment, tier, now=repository.outside.clock(), ends=ends):
        raise RebuildSkipped(reason)
    points = repository.catalogue(PRIMARY).recovery_points(source_name).of_kind(kind) if whole else []
    if (there := standing_in(slot, tier, (copy.manifest for copy in points), _due)) is not None:
        raise RebuildSkipped(there_in_words(slot.moment, tier, there), there=there.recovery_point)
    reaches: list[Reach] = []
    away: list[LifeboatError] = []
    for target in built_targets(repository.policy):
        try:
            offer = read_offer(repository, source_name, target)
        except Cancelled:
            raise
        except LifeboatError as error:
            away.append(error)
            continue
        try:
            return Rebuilding(slot.moment, target, offer.plan(AtTime(slot.moment)))
        except MomentUnreachable:
            reaches += offer.reaches()
    if away:
        # Nobody knows what it has: to skip would be to say that there is nothing.
        raise away[0]
    raise RebuildSkipped(*unreachable(slot.moment, reaches))


def _due(manifest: Manifest) -> date | None:
    return logical_details(manifest).due if manifest.kind == LOGICAL else None


def preflight_rebuilding(
    repository: SystemRepository, source_name: str, tier: Tier, slot: Slot, *, whole: bool = True
) -> list[Finding]:
    """Look at what this machine needs for it: a key, programs, a user, room. The source is not asked: it may be gone.

    Raises:
        RebuildSkipped: as :func:`plan_rebuilding` does, and all else that it raises.
    """
    found = plan_rebuilding(repository, source_name, tier, slot, whole=whole)
    source = _source(repository, source_name)
    server = found.plan.base.details.server
    scratch = scratch_of(repository)
    try:
        _ = repository.opening  # A worker that makes backups need not have a key that opens any.
        _insist_on_scratch(scratch)
        binaries = server_programs(source.binaries, None, server.major)
        owner = run_as(None, scratch)
        check_ready(binaries, server.major, scratch, owner)
        if found.plan.base.below:
            check_combiner(binaries, server.major, owner)
        client_programs(source.binaries, at_least=server.major, why="read the scratch server")
        check_destination(Request(found.target, scratch / ".lifeboat-rebuild", binaries), found.plan)
    except Cancelled:
        raise
    except LifeboatError as error:
        return [Finding("error", "scratch server", error.what, error.remedy)]
    base = found.plan.base.manifest.recovery_point
    return [Finding("ok", "scratch server", f"It is brought back from {base} on {found.target}, in {scratch}.")]


def rebuild(
    repository: SystemRepository,
    source_name: str,
    tier: Tier,
    work: Work,
    journal: Journal,
    *,
    progress: Callable[[int, int], None],
    tick: Callable[[], None],
    retain_until: datetime | None,
) -> Copy:
    """Bring the cluster back to the moment of the work's slot, read it, and commit what was read.

    Args:
        work: with ``past``; made for its own tier alone.
        progress: told the bytes read and the bytes expected.
        tick: called often; may raise to stop.

    Raises:
        RebuildSkipped: it is there already, or can't be brought back.
        LifeboatError: nothing was committed.
    """
    slot, source = work.past, _source(repository, source_name)
    assert slot is not None
    # One at a time: each needs the room of the whole cluster, and the second may find its work done.
    with alone_on_this_machine(f"rebuild {repository.system} {source_name}", tick):
        found = plan_rebuilding(repository, source_name, tier, slot, whole=not work.only)
        binaries = server_programs(source.binaries, None, found.plan.base.details.server.major)
        made: list[Copy] = []

        def read(opened: OpenServer) -> None:
            past = _past(repository, source, found, opened, tick)
            made.append(_read(repository, source_name, tier, work, journal, past, progress, tick, retain_until))

        with _place(repository, source_name) as place:
            _log.info("Bringing back %s from %s", found.plan.base.manifest.recovery_point, found.target)
            try:
                restore(
                    repository, found.plan, Request(found.target, place / "data", binaries), tick=tick, examine=read
                )
            except RestoreError:
                # However the server ends, what was read of it is committed.
                if not made:
                    raise
                _log.exception("The scratch server did not end well")
        return made[0]


def _read(
    repository: SystemRepository,
    source_name: str,
    tier: Tier,
    work: Work,
    journal: Journal,
    past: PastServer,
    progress: Callable[[int, int], None],
    tick: Callable[[], None],
    retain_until: datetime | None,
) -> Copy:
    source = _source(repository, source_name)
    if tier is Tier.EXPORT:
        return back_up_export(
            repository, source_name, source, work, journal,
            progress=progress, tick=tick, retain_until=retain_until, past=past,
        )  # fmt: skip
    copy, _ = back_up_logical(
        repository, source_name, source, work, journal,
        progress=progress, tick=tick, retain_until=retain_until, past=past,
    )  # fmt: skip
    return copy


def scratch_of(repository: SystemRepository) -> Path:
    """The directory that scratch servers lie in: the restore tests', else the machine's for temporary files."""
    tests = repository.policy.tests
    return (tests.scratch if tests is not None else None) or Path(tempfile.gettempdir())


def _insist_on_scratch(scratch: Path) -> None:
    if not scratch.is_dir() or not os.access(scratch, os.W_OK | os.X_OK):
        raise RestoreError(
            f"The scratch directory {scratch} is not there, or can't be written to.",
            "Make it, or mount it; `scratch` under `tests` in the policy names another one.",
        )


@contextmanager
def _place(repository: SystemRepository, source_name: str) -> Iterator[Path]:
    scratch = scratch_of(repository)
    _insist_on_scratch(scratch)
    with building_place(scratch, f"{repository.system}-{source_name}-rebuild") as place:
        if (owner := run_as(None, scratch)) is not None:
            # The server's user must be able to enter; nobody else is.
            os.chown(place, owner.uid, owner.gid)
        yield place


def _past(
    repository: SystemRepository,
    source: PostgresSource,
    found: Rebuilding,
    opened: OpenServer,
    tick: Callable[[], None],
) -> PastServer:
    plan = found.plan
    rebuilt = Rebuilt(
        base=plan.base.manifest.recovery_point,
        target=found.target,
        timeline=plan.timeline,
        wal_until=str(opened.stopped_at) if opened.stopped_at is not None else None,
    )

    @contextmanager
    def row(lock: str) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                parameters = source_parameters(repository, source, what="rebuild")
                session = stack.enter_context(connect_sql(parameters, tick=tick))
            except Cancelled:
                raise
            except LifeboatError as error:
                # Whoever else takes a place in the row holds a session on the source: there nobody can now.
                _log.info("The source can't be reached, so nobody else reads it: %s", error.what)
            else:
                wait_for_lock(session, lock, tick=tick)
            yield

    return PastServer(found.moment, rebuilt, plan.base.details.server, opened, row)


def _source(repository: SystemRepository, name: str) -> PostgresSource:
    source = repository.policy.sources[name]
    assert isinstance(source, PostgresSource)
    return source
