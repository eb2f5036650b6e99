"""PostgreSQL's own part of a manifest: what a restore must know of the server that was backed up."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from lifeboat.postgres.lsn import Lsn
from lifeboat.postgres.server_facts import ServerFacts
from lifeboat.repository.manifest import Manifest, parse_part

FULL = "full"
INCREMENTAL = "incremental"
WAL = "wal"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tablespace(_Model):
    """A tablespace as it was backed up.

    Attributes:
        oid: ``None`` for the main archive.
        location: where it lies on the server; relative to the data directory where it lies in it.
        archive: the stream that holds it.
    """

    oid: int | None
    location: str | None
    archive: str

    @property
    def in_place(self) -> bool:
        """Whether it lies inside the data directory (``allow_in_place_tablespaces``)."""
        return self.location is not None and not self.location.startswith("/")


class FullDetails(_Model):
    """A physical full backup.

    Attributes:
        system_identifier: of the cluster.
        timeline: that it was taken on, from start to stop.
        start_lsn, stop_lsn: the WAL between them is in the main archive and makes the backup consistent.
        started, stopped: the server's clock before the start and just after the stop: what was committed before
            ``started`` is in the full, what was committed after ``stopped`` is not.
        superuser: the bootstrap superuser's name, whom a restored server certainly knows.
        tablespaces: in the order of their archives.
        plain_total: bytes of all archives.
        server: what else a restore needs to know.
        standby: whether it was read from a standby. Then ``started`` and ``stopped`` are bounds: what the standby had
            replayed of the primary's work by the primary's clock, and the later of both clocks; and the segment that
            holds ``stop_lsn`` is not closed behind it: recovery needs that one from the WAL runs.
        due: the day on whose schedule it was made; ``None`` when a person started it.
    """

    system_identifier: int
    timeline: int
    start_lsn: Lsn
    stop_lsn: Lsn
    started: AwareDatetime
    stopped: AwareDatetime
    superuser: str
    tablespaces: tuple[Tablespace, ...]
    plain_total: int
    server: ServerFacts
    standby: bool = False
    due: date | None = Field(default=None, exclude_if=lambda due: due is None)


class IncrementalDetails(FullDetails):
    """A physical backup of what has changed since its parent, which the manifest names.

    Attributes:
        parent_manifest: SHA-256 of the parent's manifest: the very copy that it was made on.
        whole: bytes of each archive's part of the server when it was taken: about what it takes once it is combined
            with its parents. Those that the role may not know are left out.
    """

    parent_manifest: str
    whole: dict[str, int] = {}


class LostWal(_Model):
    """WAL that nobody has any more.

    Attributes:
        timeline: on which it was lost.
        start, end: from where to where.
    """

    timeline: int
    start: Lsn
    end: Lsn

    def __str__(self) -> str:
        return f"WAL of timeline {self.timeline} from {self.start} to {self.end}"


class WalDetails(_Model):
    """One run's WAL on one timeline.

    Attributes:
        system_identifier: of the cluster.
        timeline: of the segments.
        segment_size: bytes of a whole segment.
        start_lsn, end_lsn: the WAL that this run brought: every byte from start to end; equal when there was
            nothing new.
        covered_until: every transaction committed by then, by the primary's clock, lies before ``end_lsn``.
        history: the ``.history`` file among the streams, when this run found one.
        partial: the name of the unfinished last segment: of a timeline that has ended, or of a standby, which can't
            end its segment; the next run brings that one again, and more of it.
        ended: whether the timeline has ended at ``end_lsn``: then what was committed on the next one by
            ``covered_until`` is in that one's run.
        begins: where the timeline left its parent; ``None`` for one without.
        standby: whether it was read from a standby: ``end_lsn`` is then the end of a record, in mid-segment.
        lost: what was lost before it and has no verified full behind it yet. Each run hands it on to the next, so that
            no journal has to be searched every few minutes. Written only where there is any: a Lifeboat that does not
            know it reads all the others.
    """

    system_identifier: int
    timeline: int
    segment_size: int
    start_lsn: Lsn
    end_lsn: Lsn
    covered_until: AwareDatetime
    history: str | None = None
    partial: str | None = None
    ended: bool = False
    begins: Lsn | None = None
    standby: bool = False
    lost: LostWal | None = Field(default=None, exclude_if=lambda lost: lost is None)


def full_details(manifest: Manifest) -> FullDetails:
    """The PostgreSQL part of a full's manifest; raises ``ManifestInvalid``."""
    return parse_part(FullDetails, manifest)


def base_details(manifest: Manifest) -> FullDetails:
    """The same of a full's or an incremental's manifest; raises ``ManifestInvalid``."""
    return parse_part(IncrementalDetails if manifest.kind == INCREMENTAL else FullDetails, manifest)


def wal_details(manifest: Manifest) -> WalDetails:
    """The PostgreSQL part of a WAL run's manifest; raises ``ManifestInvalid``."""
    return parse_part(WalDetails, manifest)


def as_details(model: BaseModel) -> dict[str, Any]:
    """The part as it goes into a manifest."""
    return model.model_dump(mode="json")
