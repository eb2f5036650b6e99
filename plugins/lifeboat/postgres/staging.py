"""The WAL of a restore, brought beside its base: segment by segment, several at once, while the chain is combined and
while the first of it is replayed already.

    target ─▶ arriving ─▶ harmless? ─▶ staging ─▶ the server's restore_command

Recovery gets a segment when it is whole, all before it are there, and nothing in it would write outside of the restore.
It waits for one that is on its way, and is told that there is none of any other.

A failure is told at the next look, and ends the restore then: nobody waits for hours to hear of a segment that was
found damaged in the first minute.

Source: https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-RESTORE-COMMAND
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from lifeboat.errors import RestoreError
from lifeboat.postgres.connecting import TICK_SECONDS
from lifeboat.postgres.destination import Place
from lifeboat.postgres.restore_planning import RestorePlan, Stage
from lifeboat.postgres.restore_sources import origin_of
from lifeboat.postgres.segments import SegmentName, covering
from lifeboat.postgres.tablespace_records import CreatedTablespaces
from lifeboat.postgres.under_way import UnderWay
from lifeboat.postgres.unpacking import on_disk
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.reading import opened

AT_ONCE = 4
LOOKED_AT_ONCE = 16
"""How many segments are looked through before somebody else has a turn; a fifth of a second's work."""
_PIECE_BYTES = 1024 * 1024
_PLANNED = "planned"
_SCRIPT = "next-wal"
_ASKED = "asked-"
# PostgreSQL takes a failed command for the end of the WAL, and opens: only a code above 125 ends recovery. The shell's
# parent is the process that replays: when it is gone, nobody waits for the file any more.
_COMMAND = """\
# $1: where the WAL is put, once it has arrived; $2: the file that is asked for; $3: where it shall be.
[ -e "$1/$2" ] || grep -qxF -e "$2" "$1/planned" || exit 1
until [ -e "$1/$2" ]; do
    : > "$1/asked-$2" || exit 126
    sleep 0.05
    kill -0 "$PPID" 2> /dev/null || exit 126
done
cp "$1/$2" "$3" || exit 126
"""


class Staging:
    """WAL on its way; made by :func:`staging`."""

    def __init__(self, plan: RestorePlan, place: Place, jobs: UnderWay, arrived: set[str]) -> None:
        self._plan = plan
        self._place = place
        self._jobs = jobs
        self._arrived = arrived
        self._size = plan.base.details.server.wal_segment_size
        details = plan.base.details
        self._staged = {stage.name for stage in plan.stages}
        # Without WAL runs recovery goes up to the base's own stop.
        own = covering(details.start_lsn, details.stop_lsn, details.timeline, self._size)
        self._own = {str(name) for name in own} - self._staged
        self._waiting = deque(sorted(self._staged | self._own, key=lambda name: (name[8:], name)))
        self._created = CreatedTablespaces()
        self._begun = False
        self._withheld = ""
        self._refusal: RestoreError | None = None

    @property
    def command(self) -> str:
        """The server's ``restore_command``."""
        staging = self._place.staging
        words = (shlex.quote(str(word)).replace("%", "%%") for word in (staging / _SCRIPT, staging))
        return f"/bin/sh {' '.join(words)} %f %p"

    def advance(self) -> None:
        """Hand on what has arrived meanwhile; never waits.

        Raises:
            ObjectDamaged, KeyUnavailable, TargetError: a segment could not be had.
            NotEnoughDisk: the disk filled meanwhile.
            RestoreError: recovery came to WAL that would write outside of the place.
        """
        self._jobs.check()
        for _ in range(LOOKED_AT_ONCE):
            if self._refusal is not None or not self._waiting or not self._is_here(self._waiting[0]):
                break
            self._hand_on(self._waiting.popleft())
        # Recovery may end before it gets there.
        if self._refusal is not None and (
            not self._plan.stops_early or (self._place.staging / f"{_ASKED}{self._withheld}").exists()
        ):
            raise self._refusal

    def begin(self, progress: Callable[[str, int, int], None], tick: Callable[[], None]) -> None:
        """Wait until recovery can begin; called once the data directory has its own WAL.

        Raises:
            LifeboatError: as :meth:`advance` does.
        """
        self._begun = True
        histories = {stage.name for stage in self._plan.histories}
        while True:
            ended = self._jobs.wait(0)
            self.advance()
            progress("stage", self._jobs.done, self._jobs.total)
            tick()
            if histories <= self._arrived and not self._own & {*self._waiting}:
                return
            if not ended:
                self._jobs.wait(TICK_SECONDS)

    def _is_here(self, name: str) -> bool:
        return name in self._arrived or (self._begun and name in self._own)

    def _hand_on(self, name: str) -> None:
        if name in self._own:
            content = (self._place.data / "pg_wal" / name).read_bytes()
            # A standby's segment goes on behind the stop.
            content = content[: self._plan.base.details.stop_lsn - SegmentName.parse(name).start(self._size)]
        else:
            content = (self._place.arriving / name).read_bytes()
        for location in self._created.of(content):
            self._withheld = name
            self._refusal = _would_leave(location)
            if name in self._own:
                raise self._refusal
            return
        if name in self._staged:
            (self._place.arriving / name).rename(self._place.staging / name)


@contextmanager
def staging(repository: SystemRepository, plan: RestorePlan, target: str, place: Place) -> Iterator[Staging]:
    """Bring the plan's WAL behind everybody's back; nothing is under way any more afterwards."""
    size = plan.base.details.server.wal_segment_size
    files = [*plan.histories, *plan.stages]
    arrived: set[str] = set()

    def bring(stage: Stage) -> None:
        copy = stage.run.copy
        is_history = stage in plan.histories
        path = place.arriving / stage.name
        stream = copy.manifest.stream(stage.stream)
        with opened(stream, origin_of(repository, target, copy)) as plain, path.open("xb") as file:
            while (piece := plain.read(_PIECE_BYTES)) and not jobs.given_up:
                with on_disk(path):
                    file.write(piece)
            if stage.stream.endswith(".partial"):
                # Recovery wants whole segments; what was never written there is zero.
                file.truncate(size)
        if jobs.given_up:
            return
        place.give(path)
        if is_history:
            path.rename(place.staging / stage.name)
        arrived.add(stage.name)

    for name, text in ((_SCRIPT, _COMMAND), (_PLANNED, "".join(f"{stage.name}\n" for stage in files))):
        path = place.staging / name
        with on_disk(path):
            path.write_text(text, encoding="ascii")
        place.give(path)
    jobs = UnderWay("stage", [partial(bring, stage) for stage in files], AT_ONCE)
    with jobs:
        yield Staging(plan, place, jobs, arrived)


def _would_leave(location: str) -> RestoreError:
    """The replay of a record of ``CREATE TABLESPACE`` writes to the place that it names, which may be a living
    server's."""
    return RestoreError(
        f"The WAL up to this moment creates a tablespace in {location}, and its replay would write to that very place.",
        "Restore from a full that was taken after that (--base), or to a moment before it. A full after CREATE "
        "TABLESPACE makes later moments reachable.",
    )
