"""Evidence brought together for an auditor: the records of a period on one target, what announces them, what is amiss.

A record stands when an event of the journal carries its digest. Whatever stands alone is named, an event as well as a
record, and so is what can't be believed: of that nobody knows whether it belongs to the period, so it counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lifeboat.errors import TargetError, TargetUnavailable
from lifeboat.policy.signing import TrustedKey
from lifeboat.recovery.evidence import Record
from lifeboat.recovery.keeping import Unbelievable, read_evidence
from lifeboat.recovery.missed import MissedRun, missed_runs, read_until
from lifeboat.repository.journal import Event, JournalProblem, read_journal
from lifeboat.repository.layout import policy_key
from lifeboat.repository.system import SystemRepository
from lifeboat.targets.target import Target

ANNOUNCED_WITHIN = timedelta(days=1)
"""How long after a period's end its records may still be announced: a drill that begins on its last day ends later."""
_ID = re.compile(r"(?P<stamp>[0-9]{8}T[0-9]{6}Z)-(restore-test|drill|restore)-[0-9a-f]{8}")
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Period:
    """From when until when, both included; in whole seconds, as the ids of records are."""

    since: datetime
    until: datetime

    @classmethod
    def of(cls, since: datetime, until: datetime) -> Period:
        """The period of two moments, widened to whole seconds, in UTC."""
        return cls(since.astimezone(UTC).replace(microsecond=0), until.astimezone(UTC).replace(microsecond=999_999))

    def holds(self, record: str) -> bool | None:
        """Whether a record of that id was begun in the period; ``None``: that is no record's id."""
        found = _ID.fullmatch(record)
        try:
            begun = datetime.strptime(found["stamp"], _STAMP).replace(tzinfo=UTC) if found is not None else None
        except ValueError:
            begun = None  # the 31st of February
        if begun is None:
            return None
        return self.since <= begun <= self.until


@dataclass(frozen=True)
class Missing:
    """A record that was announced and is not on the target.

    Attributes:
        record: its id.
        event: the key of the event that announces it.
    """

    record: str
    event: str


@dataclass(frozen=True)
class Comparison:
    """Records and events beside each other.

    Attributes:
        events: those that announce a record of the period, in order of time.
        missing: records that an event announces and that are not there.
        unannounced: ids of records that no event announces as they are.
        unbelievable: events that announce what can't be told, or another content of a record that is there.
    """

    events: tuple[Event, ...]
    missing: tuple[Missing, ...]
    unannounced: tuple[str, ...]
    unbelievable: tuple[Unbelievable, ...]


def compare(records: Iterable[Record], events: Iterable[Event], period: Period) -> Comparison:
    """Lay the records of a period beside the events of the journal. Events of other kinds and periods are left out."""
    digests = {record.id: record.sha256 for record in records}
    announcing: list[Event] = []
    missing: list[Missing] = []
    unbelievable: list[Unbelievable] = []
    announced: set[str] = set()
    for event in events:
        if event.kind != "evidence_recorded":
            continue
        record = str(event.details.get("record"))
        inside = record in digests or period.holds(record)
        if inside is False:
            continue
        if inside is None:
            unbelievable.append(Unbelievable(event.key, f"It announces {record!r}, which is no record's id."))
            continue
        announcing.append(event)
        if record not in digests:
            missing.append(Missing(record, event.key))
        elif event.details.get("sha256") != digests[record]:
            unbelievable.append(Unbelievable(event.key, f"It announces another content of {record} than is there."))
        else:
            announced.add(record)
    return Comparison(
        tuple(announcing),
        tuple(missing),
        tuple(record for record in digests if record not in announced),
        tuple(unbelievable),
    )


@dataclass(frozen=True)
class Evidence:
    """What a target holds of a period.

    Attributes:
        system, target, period: of what.
        made, made_by: when it was brought together, and by whom.
        keys: the public keys that were trusted.
        records: those begun in the period, in order of time.
        compared: what the journal says of them.
        unbelievable: what is stored among the evidence and the journal of that time and can't be believed.
        missed: what was due in the period and has no record.
        policies: by digest, the texts of the policies that the records were made by; ``None``: it is not there.
    """

    system: str
    target: str
    period: Period
    made: datetime
    made_by: str
    keys: tuple[TrustedKey, ...]
    records: tuple[Record, ...]
    compared: Comparison
    unbelievable: tuple[Unbelievable, ...]
    missed: tuple[MissedRun, ...]
    policies: dict[str, bytes | None]

    @property
    def whole(self) -> bool:
        """Whether every record is announced, every announcement has its record, and all can be believed."""
        return not (self.compared.missing or self.compared.unannounced or self.unbelievable)


def gather(
    repository: SystemRepository,
    target: str,
    period: Period,
    *,
    made_by: str,
    tick: Callable[[], None] = lambda: None,
) -> Evidence:
    """Read the evidence of a period from one target.

    Args:
        tick: called after each object that was read; may raise to stop.

    Raises:
        TargetError: the target can't be reached, or failed.
    """
    store, now = repository.target(target), repository.outside.clock()
    records, unbelievable = _records(repository, store, period.since, min(period.until, now + ANNOUNCED_WITHIN), tick)
    events, problems = _events(repository, store, period, now, tick)
    compared = compare(records, events, period)
    return Evidence(
        system=repository.system,
        target=target,
        period=period,
        made=now,
        made_by=made_by,
        keys=tuple(repository.policy.signing.trusted),
        records=tuple(records),
        compared=compared,
        unbelievable=(*unbelievable, *problems, *compared.unbelievable),
        missed=tuple(_missed(repository, store, records, period, now, tick)),
        policies=_policies(repository, store, records),
    )


def _records(
    repository: SystemRepository, store: Target, since: datetime, until: datetime, tick: Callable[[], None]
) -> tuple[list[Record], list[Unbelievable]]:
    records: list[Record] = []
    unbelievable: list[Unbelievable] = []
    for one in read_evidence(store, repository.system, repository.trusted, since=since, until=until):
        tick()
        if isinstance(one, Record):
            records.append(one)
        else:
            unbelievable.append(one)
    return records, unbelievable


def _events(
    repository: SystemRepository, store: Target, period: Period, now: datetime, tick: Callable[[], None]
) -> tuple[list[Event], list[Unbelievable]]:
    events: list[Event] = []
    problems: list[Unbelievable] = []
    end = min(period.until, now) + ANNOUNCED_WITHIN
    for one in read_journal(store, repository.system, repository.trusted, since=period.since, now=end):
        tick()
        if isinstance(one, JournalProblem):
            problems.append(Unbelievable(one.key, one.what))
        elif one.kind == "evidence_recorded":
            events.append(one)
    return events, problems


def _missed(
    repository: SystemRepository,
    store: Target,
    records: Sequence[Record],
    period: Period,
    now: datetime,
    tick: Callable[[], None],
) -> list[MissedRun]:
    # What was due on the period's last day may have been begun after it.
    policy, since, until = repository.policy, period.since, period.until
    last = read_until(policy, since=since, until=until, now=now)
    later: list[Record] = []
    if last > until:
        later, _ = _records(repository, store, until + timedelta(microseconds=1), last, tick)
    return missed_runs(policy, [*records, *later], since=since, until=until, now=now)


def _policies(repository: SystemRepository, store: Target, records: Iterable[Record]) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    for digest in sorted({record.policy_digest for record in records}):
        try:
            text = store.read(policy_key(repository.system, digest))
        except TargetUnavailable:
            raise
        except TargetError:
            text = None
        # A text that is not the one of its digest is no policy of ours.
        good = text is not None and f"sha256:{hashlib.sha256(text).hexdigest()}" == digest
        found[digest] = text if good else None
    return found
