"""Evidence on targets: written once, announced in the journal, read back with what the journal says of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lifeboat.errors import Cancelled, LifeboatError, ObjectExists, TargetError, TargetUnavailable
from lifeboat.recovery.evidence import Record, parse_record
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import evidence_folder
from lifeboat.repository.signing import Signer, TrustedKeys
from lifeboat.targets.target import Target

_log = logging.getLogger(__name__)


def signed(record: Record, signer: Signer) -> Record:
    """The record with a signature.

    Raises:
        KeyUnavailable: nobody would believe what the key signs at this time.
    """
    signer.insist_on_validity(record.ended)
    unsigned = record.model_copy(update={"key_id": signer.key_id, "signature": ""})
    return unsigned.model_copy(update={"signature": signer.sign(unsigned.signed_bytes())})


def keep(record: Record, targets: Sequence[Target], journal: Journal) -> list[str]:
    """Write a signed record to every target, then announce it in the journal; returns the targets that did not take it.

    Raises:
        TargetError: none took it, or the journal did not.
    """
    document = record.to_json()
    missed: list[str] = []
    failure: TargetError | None = None
    for target in targets:
        try:
            target.put_new(record.key, document)
        except ObjectExists:
            continue  # this very record, of a try that was cut off: the key has eight random digits
        except TargetError as error:
            _log.warning("The evidence %s is not on target %s: %s", record.id, target.name, error)
            missed.append(target.name)
            failure = error
    if failure is not None and len(missed) == len(targets):
        raise failure
    journal.write(
        "evidence_recorded",
        record=record.id,
        sha256=record.sha256,
        of=record.kind,
        passed=record.passed,
        sources=sorted({proof.source for proof in record.proofs} | set(record.lacking)),
    )
    return missed


@dataclass(frozen=True)
class Unbelievable:
    """A stored object among the evidence that is none, and why."""

    key: str
    what: str


def read_evidence(
    target: Target, system: str, trusted: TrustedKeys, *, since: datetime, until: datetime
) -> Iterator[Record | Unbelievable]:
    """The records of what began between two moments, in order of time, and in their places what can't be believed.

    Raises:
        TargetUnavailable: the target can't be reached.
    """
    for month in _months(since, until):
        for listed in target.list(evidence_folder(system, month)):
            try:
                record = parse_record(target.read(listed.key), listed.key, trusted)
            except (Cancelled, TargetUnavailable):
                raise
            except LifeboatError as error:
                yield Unbelievable(listed.key, error.what)
                continue
            if since <= record.begun <= until:
                yield record


def _months(since: datetime, until: datetime) -> Iterator[datetime]:
    month = since.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month <= until:
        yield month
        month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
