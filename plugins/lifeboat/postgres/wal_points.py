"""A stretch of WAL becomes a recovery point: begun under an id of its own, and committed with what was stored of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lifeboat.errors import ManifestInvalid, TimelineConflict
from lifeboat.postgres.details import LostWal, WalDetails, as_details
from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.wal_server import WalServer
from lifeboat.repository.catalogue import Catalogue, Copy
from lifeboat.repository.commit import Place, next_place
from lifeboat.repository.committing import Made, commit_made
from lifeboat.repository.journal import EventKind, Journal
from lifeboat.repository.system import PRIMARY, SystemRepository, Work
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter


@dataclass(frozen=True)
class Stretch:
    """WAL of one timeline that was stored.

    Attributes:
        start, end: from where to where; the same when there was nothing to store.
        covered_until: everything committed by then, by the server's clock, lies before ``end``.
        streams: its segments, in their order.
        history: the timeline's history file, where it was stored with them.
        ended: whether the timeline has ended at ``end``.
        findings: what a person should know of it.
        standby: whether it was read from a standby.
        lost: what was lost before it, while a full is due because of that.
    """

    start: Lsn
    end: Lsn
    covered_until: datetime
    streams: tuple[StoredStream, ...] = ()
    history: StoredStream | None = None
    ended: bool = False
    findings: tuple[str, ...] = ()
    standby: bool = False
    lost: LostWal | None = None

    @property
    def partial(self) -> str | None:
        """The name of the piece at its end, where its timeline has ended in mid-segment."""
        return next((stream.name for stream in self.streams if stream.name.endswith(".partial")), None)


@dataclass(frozen=True)
class Begun:
    """A recovery point of WAL that is not committed yet.

    Attributes:
        work: what it is called.
        timeline: of its WAL.
        branches_at: where that timeline left its parent; ``None`` for one without.
        place: its place in the timeline's row.
        destination: where its streams go.
        moment: when it was begun.
    """

    work: Work
    timeline: int
    branches_at: Lsn | None
    place: Place
    destination: Destination
    moment: datetime


class WalPoints:
    """The recovery points of one run's WAL, on the primary target."""

    def __init__(
        self,
        repository: SystemRepository,
        source: str,
        journal: Journal,
        retain_until: datetime | None,
    ) -> None:
        self._repository = repository
        self._source = source
        self._journal = journal
        # A run that follows may last for hours: each recovery point is locked for as long as the first.
        self._locked_for = None if retain_until is None else retain_until - repository.outside.clock()
        self._catalogue: Catalogue = repository.catalogue(PRIMARY)

    def newest(self) -> list[Copy]:
        """The newest recovery point of each timeline; raises as :meth:`newest_of`."""
        return [
            copy
            for timeline in self._catalogue.timelines(self._source)
            if (copy := self.newest_of(timeline)) is not None
        ]

    def newest_of(self, timeline: int) -> Copy | None:
        """The newest recovery point of a timeline; ``None`` when it has none.

        Raises:
            TimelineConflict: it can't be believed: nothing may be built upon it.
        """
        try:
            return self._catalogue.newest_wal(self._source, timeline)
        except ManifestInvalid as error:
            raise TimelineConflict(
                f"The newest WAL run of timeline {timeline} can't be believed: {error.what}",
                "Nothing is collected upon it, and the server keeps its WAL. Bring its manifest back from another "
                "target.",
            ) from error

    def begin(self, work: Work, timeline: int, branches_at: Lsn | None, after: Copy | None) -> Begun:
        """Begin the recovery point that follows ``after`` on a timeline."""
        now = self._repository.outside.clock()
        destination = self._repository.destination(
            self._repository.target(PRIMARY),
            self._source,
            work,
            timeline=timeline,
            retain_until=None if self._locked_for is None else now + self._locked_for,
        )
        place = next_place([after] if after is not None else [])
        return Begun(work, timeline, branches_at, place, destination, now)

    def insist_on_place(self, begun: Begun) -> None:
        """See that nobody has committed WAL of the timeline since it was begun.

        Raises:
            TimelineConflict: somebody has.
        """
        newest = self.newest_of(begun.timeline)
        if next_place([newest] if newest is not None else []) != begun.place:
            raise TimelineConflict(
                f"Another run has committed WAL of timeline {begun.timeline} meanwhile.",
                "Nothing is lost: that run's WAL is there, and this one's objects go with the next clean-up. Two "
                "runs for one source at a time have no use; two servers writing one timeline would be a fault to find.",
            )

    def history_file(self, begun: Begun, history: bytes | None) -> StoredStream | None:
        """The timeline's history, stored with its first recovery point; ``None`` with all others."""
        if history is None or begun.timeline == 1 or begun.place.previous is not None:
            return None
        name = f"{begun.timeline:08X}.history"
        writer = StreamWriter(name, begun.destination, self._repository.streams, plain_digest=True)
        writer.write(history)
        return writer.finish()

    def commit(self, begun: Begun, server: WalServer, stretch: Stretch) -> Copy:
        """Commit it, and write that down; raises as :func:`~lifeboat.repository.commit.commit`."""
        repository, work = self._repository, begun.work
        history = stretch.history
        details = WalDetails(
            system_identifier=server.system_identifier,
            timeline=begun.timeline,
            segment_size=server.segment_size,
            start_lsn=stretch.start,
            end_lsn=stretch.end,
            covered_until=stretch.covered_until,
            history=history.name if history is not None else None,
            partial=stretch.partial,
            ended=stretch.ended,
            begins=begun.branches_at,
            standby=stretch.standby,
            lost=stretch.lost,
        )
        made = Made(
            begun=begun.moment,
            moment=stretch.covered_until,
            findings=stretch.findings,
            details=as_details(details),
            streams=(*stretch.streams, *([history] if history is not None else [])),
            timeline=begun.timeline,
            versions={"postgresql": server.version},
        )
        copy = commit_made(
            repository, self._source, work, begun.place, made, retain_until=begun.destination.retain_until
        )
        if stretch.ended:
            self.note("timeline_ended", work, timeline=begun.timeline, at=str(stretch.end))
        self.note(
            "backup_committed",
            work,
            target=PRIMARY,
            manifest=copy.sha256,
            sequence=copy.manifest.sequence,
            start=str(stretch.start),
            end=str(stretch.end),
            segments=len(stretch.streams),
            stored_size=copy.manifest.stored_size,
        )
        return copy

    def note(self, kind: EventKind, work: Work, **details: Any) -> None:
        """Write an event about a recovery point."""
        self._journal.write(kind, source=self._source, recovery_point=str(work.recovery_point), **details)
