"""The journal: an append-only record of everything that happened, on every target.

Each event is an object of its own, written once: its key begins with its time, so that a listing is in order. It is
signed, and carries the digest of the event before it in its run, so that a changed, forged or missing event in the
middle of a run shows.

The signed bytes are the event's JSON without its signature, in its canonical form.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from lifeboat.errors import Cancelled, LifeboatError, ManifestInvalid, ObjectExists, TargetError, TargetUnavailable
from lifeboat.repository.canonical import canonical, holds_float, printable
from lifeboat.repository.event_reading import EventObjects
from lifeboat.repository.layout import journal_folder
from lifeboat.repository.published import published_schema
from lifeboat.repository.signing import Signer, TrustedKeys
from lifeboat.targets.target import ObjectInfo, Target

_log = logging.getLogger(__name__)
STAMP = "%Y%m%dT%H%M%S.%fZ"
"""The time that an event's file begins with: files sort by it."""

EventKind = Literal[
    "backup_begun",
    "backup_committed",
    "backup_damaged",
    "backup_degraded",
    "backup_failed",
    "backup_skipped",
    "configuration_unchanged",
    "copy_committed",
    "copy_failed",
    "copy_missing",
    "verified",
    "verification_failed",
    "published",
    "wal_gap",
    "slot_created",
    "timeline_ended",
    "full_forced",
    "remains_removed",
    "locks_extended",
    "soft_deleted",
    "deletion_undone",
    "purge_begun",
    "purge_withdrawn",
    "purged",
    "held",
    "hold_released",
    "quarantined",
    "quarantine_ended",
    "retention_stopped",
    "retention_ended",
    "restore_requested",
    "restore_approved",
    "restore_refused",
    "restore_begun",
    "restore_ended",
    "restore_failed",
    "restore_handed_over",
    "restore_test_begun",
    "drill_approved",
    "drill_begun",
    "drill_step",
    "evidence_recorded",
    "kit_exported",
    "code_history_rewritten",
    "mirrored",
    "mirror_failed",
]


class Event(BaseModel):
    """One thing that happened.

    Attributes:
        format_version: of this document.
        time: when, in UTC.
        run: the process that wrote it: events of one run are chained.
        number: its place in its run, from 1.
        previous: SHA-256 of the event before it in its run, as it is stored; ``None`` for the first.
        kind: what happened.
        system, source, recovery_point, target: to what, where that is known.
        actor: who: a DAG run, or a user at a command line.
        details: figures and sentences; never a secret, never a floating-point number.
        key_id, signature: who signed it, and the signature in base64.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    time: AwareDatetime
    run: str
    number: int = Field(ge=1)
    previous: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    kind: EventKind
    system: str
    source: str | None = None
    recovery_point: str | None = None
    target: str | None = None
    actor: str
    details: dict[str, Any] = Field(default_factory=dict)
    key_id: str
    signature: str = ""

    @field_validator("actor", "details", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        return printable(value)

    @field_validator("details")
    @classmethod
    def _has_no_floats(cls, details: dict[str, Any]) -> dict[str, Any]:
        if holds_float(details):
            raise ValueError("an event holds no floating-point number: their text differs between writers")
        return details

    def signed_bytes(self) -> bytes:
        """What the signature covers."""
        return canonical(self.model_dump(mode="json", exclude={"signature"}))

    def to_json(self) -> bytes:
        """The document as it is stored."""
        return canonical(self.model_dump(mode="json")) + b"\n"

    @property
    def file(self) -> str:
        """The last part of its key: sorts by time, and is the event's own."""
        return f"{self.time.astimezone(UTC).strftime(STAMP)}-{self.run}-{self.number:04d}.json"

    @property
    def key(self) -> str:
        """Where it is stored."""
        return journal_folder(self.system, self.time) + self.file

    @property
    def sha256(self) -> str:
        """Digest of the document: what other events call it by."""
        return hashlib.sha256(self.to_json()).hexdigest()


def journal_schema_text() -> str:
    """The JSON Schema of an event, as ``docs/journal.schema.json`` holds it."""
    return published_schema(Event, "Lifeboat journal event")


class Journal:
    """Writes one run's events to targets.

    The first target must take each event; the others take what they can, and :meth:`deliver` brings them what they
    missed: an off-site server that is away must not stop a backup, and must not lose the record either.

    Args:
        run: a name for this run, unique: lower-case letters, digits and hyphens.
        actor: who is doing this.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        system: str,
        *,
        signer: Signer,
        run: str,
        actor: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._targets = targets
        self._system = system
        self._signer = signer
        self._run = run
        self._actor = actor
        self._clock = clock
        self._previous: str | None = None
        self._latest: datetime | None = None
        self._written: list[tuple[str, bytes]] = []
        self._missed: set[tuple[str, str]] = set()

    def write(
        self,
        kind: EventKind,
        *,
        source: str | None = None,
        recovery_point: str | None = None,
        target: str | None = None,
        **details: Any,
    ) -> Event:
        """Write an event.

        Raises:
            TargetError: the first target did not take it.
        """
        # The key begins with the time: a clock that was set back must not put an event before its predecessor.
        now = self._clock()
        time = now if self._latest is None else max(now, self._latest)
        unsigned = Event(
            time=time,
            run=self._run,
            number=len(self._written) + 1,
            previous=self._previous,
            kind=kind,
            system=self._system,
            source=source,
            recovery_point=recovery_point,
            target=target,
            actor=self._actor,
            details=details,
            key_id=self._signer.key_id,
        )
        event = unsigned.model_copy(update={"signature": self._signer.sign(unsigned.signed_bytes())})
        document = event.to_json()
        for place, taker in enumerate(self._targets):
            try:
                taker.put_new(event.key, document)
            except TargetError as error:
                if place == 0:
                    raise
                self._missed.add((taker.name, event.key))
                _log.warning("The journal on target %s will get event %s later: %s", taker.name, event.key, error)
        self._latest = time
        self._previous = hashlib.sha256(document).hexdigest()
        self._written.append((event.key, document))
        return event

    def deliver(self) -> list[str]:
        """Bring targets the events they missed; returns the names of those that still miss some."""
        still: set[str] = set()
        for taker in self._targets:
            for key, document in self._written:
                if (taker.name, key) not in self._missed:
                    continue
                try:
                    taker.put_new(key, document)
                except ObjectExists:
                    pass
                except TargetError as error:
                    _log.warning("The journal on target %s still misses event %s: %s", taker.name, key, error)
                    still.add(taker.name)
                    continue
                self._missed.discard((taker.name, key))
        return sorted(still)


def read_journal(
    target: Target,
    system: str,
    trusted: TrustedKeys,
    *,
    since: datetime | None = None,
    now: datetime | None = None,
    bundled: bool = True,
) -> Iterator[Event | JournalProblem]:
    """A system's events on one target, in order of time, and in their places what is wrong with them.

    Args:
        since, now: only the days from ``since`` to ``now`` are listed; all when ``since`` is ``None``.
        bundled: whether the events of ended days may come from their bundles; not where it is asked whether the
            journal's own objects are good.
    """
    last: dict[str, tuple[int, str]] = {}
    objects = EventObjects(target, system, bundled=bundled)
    for info in _listed(target, system, since, now):
        key = info.key
        try:
            event, document = read_event(objects, info, trusted)
        except (Cancelled, TargetUnavailable):
            raise
        except LifeboatError as error:
            yield JournalProblem(key, str(error))
            continue
        number, digest = last.get(event.run, (0, ""))
        begins_inside = since is not None and event.run not in last
        if not begins_inside and (event.number != number + 1 or event.previous != (digest or None)):
            yield JournalProblem(
                key, f"Event {event.number} of run {event.run} does not follow its event {number}: one is missing."
            )
        last[event.run] = (event.number, hashlib.sha256(document).hexdigest())
        yield event


class JournalProblem:
    """A place in the journal where something is wrong."""

    def __init__(self, key: str, what: str) -> None:
        self.key = key
        self.what = what

    def __repr__(self) -> str:
        return f"JournalProblem({self.key!r}, {self.what!r})"


def _listed(target: Target, system: str, since: datetime | None, now: datetime | None) -> Iterable[ObjectInfo]:
    if since is None or now is None:
        return target.list(journal_folder(system))
    days = (now.astimezone(UTC).date() - since.astimezone(UTC).date()).days
    return (
        info
        for day in range(days + 1)
        for info in target.list(journal_folder(system, since.astimezone(UTC) + timedelta(days=day)))
    )


def read_event(objects: EventObjects, listed: ObjectInfo, trusted: TrustedKeys) -> tuple[Event, bytes]:
    """A listed event, and its stored bytes.

    Raises:
        ManifestInvalid: it can't be believed.
        TargetError: it can't be read.
    """
    events: list[Event] = []
    document = objects.read(listed, lambda found: events.append(parse_event(found, listed.key, trusted)))
    return events[-1], document


def parse_event(document: bytes, key: str, trusted: TrustedKeys) -> Event:
    """Read a stored event and insist on its being the one that was signed for this place.

    Raises:
        ManifestInvalid: it can't be believed.
    """
    what = f"The event {key}"
    try:
        event = Event.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ManifestInvalid(f"{what} can't be read: {first['msg']}.") from None
    if event.key != key or event.to_json() != document:
        raise ManifestInvalid(f"{what} does not stand where it was written, or not as it was written.")
    trusted.verify(event.signed_bytes(), key_id=event.key_id, signature=event.signature, signed=event.time, what=what)
    return event
