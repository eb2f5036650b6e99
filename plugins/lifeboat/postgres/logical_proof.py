"""The proof of what came back: counted, fingerprinted, and held against what was counted when it was backed up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lifeboat.errors import RestoreError
from lifeboat.postgres.logical_contents import Session, contents_of, differences
from lifeboat.postgres.logical_planning import DatabasePlan

LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class RestoredDatabase:
    """A database that came back and is proven.

    Attributes:
        database: its name on the lost server.
        name: its name now.
        tables, rows: compared with what was counted when it was backed up.
        aside: how the database is called now that had this name; empty: none had.
    """

    database: str
    name: str
    tables: int
    rows: int
    aside: str = ""


@dataclass(frozen=True)
class RestoredArchive:
    """What a restore brought.

    Attributes:
        made_globals: how many roles and tablespaces were made for it.
        phases: seconds by phase.
        sessions_ended: of databases that gave way.
        gone: databases of killed restores that were dropped first.
        left: a sentence for each of these that could not be.
    """

    databases: tuple[RestoredDatabase, ...]
    made_globals: int
    phases: dict[str, float]
    sessions_ended: int = 0
    gone: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long all of it took."""
        return sum(self.phases.values())


def prove(session: Session, database: DatabasePlan, remedy: str) -> RestoredDatabase:
    """Insist on every row's being there.

    Args:
        session: one that reads as fingerprints need it.
        remedy: what becomes of what came back when it is not as it was.

    Raises:
        RestoreError: something is not as it was; the text says what.
    """
    only = database.only
    sequences = {(sequence.schema_name, sequence.name) for sequence in database.sequences}
    found = contents_of(session, only=only, sequences=sequences)
    if wrong := differences(database.contents, found, only, database.sequences):
        raise RestoreError(
            f"Database {database.archive.name} did not come back as it was backed up: {'; '.join(wrong[:10])}.",
            f"{remedy} Restore from another target or another recovery point, and verify this one "
            "(lifeboat verify --deep).",
        )
    counted = [table for table in found.tables if table.rows is not None]
    return RestoredDatabase(
        database.archive.name,
        database.name,
        len(counted),
        sum(table.rows or 0 for table in counted),
        database.replaces.aside if database.replaces is not None else "",
    )


def passed(phases: dict[str, float], phase: str, begun: datetime, now: datetime) -> datetime:
    """Count the time of a phase; returns the moment at which the next one begins."""
    phases[phase] = phases.get(phase, 0.0) + (now - begun).total_seconds()
    return now
