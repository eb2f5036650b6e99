"""Where everything lies on a target. The same on every target, so that any of them alone is the whole catalogue.

<system>/<source>/<recovery point>/<attempt>/…               objects of one attempt
<system>/<source>/<recovery point>/<attempt>/manifest.json.sig  signature of the manifest that commits the attempt
<system>/<source>/<recovery point>/manifest.json             the commit mark
<system>/<source>/wal/<timeline>/<recovery point>/…          the same, for a run's WAL segments
<system>/<source>/marks/…                                    events on what may be read and removed: holds, deletions
<system>/<source>/removed/…                                  events on what retention removed
<system>/journal/<yyyy>/<mm>/<dd>/…                          events
<system>/evidence/<yyyy>/<mm>/<record>.json                  what restore tests, drills and restores proved
<system>/policies/<digest>.yaml                              each policy that a backup was made by
<system>/bundles/journal/<day>-<digest>.jsonl.zst            that day's events once more, for reading them fast
<system>/bundles/<source>/wal/<day>-<digest>.jsonl.zst       the same of that day's WAL manifests and their signatures
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from lifeboat.errors import RepositoryError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
WAL = "wal"
JOURNAL = "journal"
POLICIES = "policies"
MARKS = "marks"
REMOVED = "removed"
BUNDLES = "bundles"
EVIDENCE = "evidence"
_STAMP = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"(?P<stamp>[0-9]{8}T[0-9]{6}Z)-(?P<kind>[a-z]+)-(?P<mark>[0-9a-f]{4})")
_ATTEMPT = re.compile(r"attempt-[0-9]{2}-[0-9a-f]{8}")
_TIMELINE = re.compile(r"[0-9A-F]{8}")


@dataclass(frozen=True)
class RecoveryPointId:
    """A recovery point's id: sorts by time and says its kind, as in ``20261122T020000Z-full-7f3a``."""

    begun: datetime
    kind: str
    mark: str

    @classmethod
    def parse(cls, text: str) -> RecoveryPointId:
        """Read an id.

        Raises:
            RepositoryError: it is none.
        """
        found = _ID.fullmatch(text)
        begun = _moment(found["stamp"]) if found is not None else None
        if found is None or begun is None:
            raise RepositoryError(
                f"{text!r} is not a recovery point's id.",
                "Ids look like 20261122T020000Z-full-7f3a; `lifeboat list` shows them.",
            )
        return cls(begun, found["kind"], found["mark"])

    def __str__(self) -> str:
        return f"{self.begun.astimezone(UTC).strftime(_STAMP)}-{self.kind}-{self.mark}"


def _moment(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None  # the 31st of February


def is_recovery_point(folder: str) -> bool:
    """Whether a folder's name is a recovery point's id."""
    found = _ID.fullmatch(folder)
    return found is not None and _moment(found["stamp"]) is not None


def is_attempt(folder: str) -> bool:
    """Whether a folder's name is an attempt's."""
    return _ATTEMPT.fullmatch(folder) is not None


def timeline_of(folder: str) -> int | None:
    """The timeline whose WAL a folder of that name holds; ``None`` when the name is no timeline's."""
    return int(folder, 16) if _TIMELINE.fullmatch(folder) else None


def attempt_name(number: int, mark: str) -> str:
    """The folder of an attempt: its number in the run, and eight random hexadecimal digits that keep apart two
    processes that both believe to be that attempt."""
    return f"attempt-{min(number, 99):02d}-{mark}"


@dataclass(frozen=True)
class RecoveryPointFolder:
    """The place of one recovery point: its folder on every target, ending in ``/``."""

    system: str
    source: str
    recovery_point: str
    timeline: int | None = None

    @property
    def path(self) -> str:
        """The recovery point's folder."""
        return f"{source_folder(self.system, self.source, self.timeline)}{self.recovery_point}/"

    @property
    def day(self) -> str:
        """The day of its id in UTC: ``20261122``."""
        return self.recovery_point[:8]

    @property
    def manifest(self) -> str:
        """The commit mark's key."""
        return self.path + MANIFEST

    def attempt(self, attempt: str) -> str:
        """The folder of an attempt."""
        return f"{self.path}{attempt}/"

    def signature(self, attempt: str) -> str:
        """The key of the signature. It lies with the attempt: a worker thought dead, which signs its own attempt late,
        can't take away the signature of the one that was committed meanwhile."""
        return self.attempt(attempt) + SIGNATURE


def source_folder(system: str, source: str, timeline: int | None = None) -> str:
    """Where a source's recovery points lie: all but WAL, or the WAL of one timeline."""
    if timeline is None:
        return f"{system}/{source}/"
    return f"{system}/{source}/{WAL}/{timeline:08X}/"


def marks_folder(system: str, source: str) -> str:
    """Where the events lie that decide what is to be seen of a source, and what may go."""
    return f"{system}/{source}/{MARKS}/"


def removed_folder(system: str, source: str) -> str:
    """Where the events lie that say which recovery points of a source were removed, and so are not missing."""
    return f"{system}/{source}/{REMOVED}/"


def journal_folder(system: str, day: datetime | None = None) -> str:
    """Where a system's events lie: all of them, or those of one day (UTC)."""
    return f"{system}/{JOURNAL}/" + (day.astimezone(UTC).strftime("%Y/%m/%d/") if day else "")


def evidence_folder(system: str, month: datetime | None = None) -> str:
    """Where the records of what was proved lie: all of them, or those of one month (UTC)."""
    return f"{system}/{EVIDENCE}/" + (month.astimezone(UTC).strftime("%Y/%m/") if month else "")


def policy_key(system: str, digest: str) -> str:
    """Where a policy is kept beside the recovery points that were made by it."""
    return f"{system}/{POLICIES}/{digest.removeprefix('sha256:')}.yaml"


def bundles_folder(system: str, source: str | None = None) -> str:
    """Where the day bundles lie: of the journal, or of a source's WAL."""
    return f"{system}/{BUNDLES}/" + (f"{JOURNAL}/" if source is None else f"{source}/{WAL}/")
