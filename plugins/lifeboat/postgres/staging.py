"""The WAL of a restore, brought beside its base: segment by segment, several at once, while the chain is combined.

A failure of it is told at the next look, and ends the restore then: nobody waits for hours to hear of a segment that
was found damaged in the first minute.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from lifeboat.errors import RestoreError
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.destination import Place
from lifeboat.postgres.restore_planning import RestorePlan, Stage
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.postgres.segments import SegmentName, covering
from lifeboat.postgres.tablespace_records import created_locations
from lifeboat.postgres.under_way import UnderWay
from lifeboat.postgres.unpacking import on_disk
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened

AT_ONCE = 4
_PIECE_BYTES = 1024 * 1024


class Staging:
    """WAL on its way; made by :func:`staging`."""

    def __init__(self, plan: RestorePlan, place: Place, jobs: UnderWay) -> None:
        self._plan = plan
        self._place = place
        self._jobs = jobs

    def check(self) -> None:
        """Raise what went wrong first, if anything has; never waits."""
        self._jobs.check()

    def finish(self, progress: Callable[[str, int, int], None], tick: Callable[[], None]) -> None:
        """Wait for the rest, and look at all of it.

        Raises:
            ObjectDamaged, KeyUnavailable, TargetError: a segment could not be had.
            NotEnoughDisk: the disk filled meanwhile.
            RestoreError: the WAL would write outside of the place.
        """
        jobs = self._jobs
        ended = False
        while not ended:
            ended = jobs.wait(TICK_SECONDS)
            tick()
            progress("stage", jobs.done, jobs.total)
        _refuse_to_leave(self._plan, self._place, tick)


@contextmanager
def staging(repository: SystemRepository, plan: RestorePlan, target: str, place: Place) -> Iterator[Staging]:
    """Bring the plan's WAL into ``place.staging`` behind everybody's back; nothing is under way any more afterwards."""
    size = plan.base.details.server.wal_segment_size

    def bring(stage: Stage) -> None:
        copy = stage.run.copy
        path = place.staging / stage.name
        stream = copy.manifest.stream(stage.stream)
        with opened(stream, origin_of(repository, target, copy)) as plain, path.open("xb") as file:
            while (piece := plain.read(_PIECE_BYTES)) and not jobs.given_up:
                with on_disk(path):
                    file.write(piece)
            if stage.stream.endswith(".partial"):
                # Recovery wants whole segments; what was never written there is zero.
                file.truncate(size)
        if place.owner is not None:
            os.chown(path, place.owner.uid, place.owner.gid)

    jobs = UnderWay("stage", [partial(bring, stage) for stage in [*plan.histories, *plan.stages]], AT_ONCE)
    with jobs:
        yield Staging(plan, place, jobs)


def _refuse_to_leave(plan: RestorePlan, place: Place, tick: Callable[[], None]) -> None:
    """Insist on the WAL's creating no tablespace: its replay would write to the place that the record names, which may
    be a living server's."""
    details = plan.base.details
    size = details.server.wal_segment_size
    staged = {stage.name: place.staging / stage.name for stage in plan.stages}
    own = covering(details.start_lsn, details.stop_lsn, details.timeline, size)
    names = [*(str(name) for name in own if str(name) not in staged), *staged]

    def read(name: str) -> bytes:
        tick()
        if name in staged:
            return staged[name].read_bytes()
        # Without WAL runs recovery goes up to the base's own stop; a standby's segment goes on behind it.
        used = details.stop_lsn - SegmentName.parse(name).start(size)
        return (place.data / "pg_wal" / name).read_bytes()[:used]

    for location in created_locations(read(name) for name in sorted(names, key=lambda name: name[8:])):
        raise RestoreError(
            f"The WAL up to this moment creates a tablespace in {location}, and its replay would write to that very "
            "place.",
            "Restore from a full that was taken after that (--base), or to a moment before it. A full after CREATE "
            "TABLESPACE makes later moments reachable.",
        )
