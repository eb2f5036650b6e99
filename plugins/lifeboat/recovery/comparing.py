"""What changed since a source was tested before: newly failing, newly passing, no longer looked at, faster or slower.

Tests often take some sources of a system only. So each source is compared with the newest earlier record of the same
kind that has it, be it that it came back or that there was nothing to bring back: a drill looks at other things than a
restore test does, and counts more as recovery time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lifeboat.recovery.actions import Key, Topic, findings, shown_right
from lifeboat.recovery.evidence import Record


@dataclass(frozen=True)
class Change:
    """One source, compared with its test before.

    Attributes:
        source: which.
        before: the record that it is compared with; none: it is the first that has the source.
        failing: what is wrong now and was not then.
        passing: what was wrong then and is right now.
        unlooked: names of checks that were made then and not now.
        milliseconds, before_milliseconds: the recovery times, where it came back then and now.
    """

    source: str
    before: Record | None
    failing: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    unlooked: tuple[str, ...] = ()
    milliseconds: int | None = None
    before_milliseconds: int | None = None


def changes_since(record: Record, earlier: Sequence[Record]) -> tuple[Change, ...]:
    """Each source of a record, compared with its newest earlier record of the same kind.

    Args:
        record: what is looked at.
        earlier: records of the same system, oldest first.
    """
    return tuple(_change(source, record, _newest_with(source, record, earlier)) for source in sources_of(record))


def untested_since(record: Record, earlier: Sequence[Record]) -> tuple[str, ...]:
    """Sources that the newest earlier record of the same kind has, and this record has not."""
    tests = [one for one in earlier if one.kind == record.kind != "restore"]
    return tuple(source for source in sources_of(tests[-1]) if source not in sources_of(record)) if tests else ()


def sources_of(record: Record) -> tuple[str, ...]:
    """The sources of a record, those of which there was nothing to bring back at the end."""
    return tuple(dict.fromkeys([*(proof.source for proof in record.proofs), *record.lacking]))


def _newest_with(source: str, record: Record, earlier: Sequence[Record]) -> Record | None:
    alike = (one for one in reversed(earlier) if one.kind == record.kind != "restore")
    return next((one for one in alike if source in sources_of(one)), None)


def _change(source: str, record: Record, before: Record | None) -> Change:
    if before is None:
        return Change(source, None, milliseconds=_milliseconds(source, record))
    wrong, was_wrong = _wrong(source, record), _wrong(source, before)
    looked, was_looked = _checks(source, record), _checks(source, before)
    # Where it did not come back there is nothing to look at, and that is said already.
    gone = sorted(was_looked - looked) if _milliseconds(source, record) is not None else []
    return Change(
        source,
        before,
        failing=_names(wrong - was_wrong),
        passing=_names((was_wrong & shown_right(record)) - wrong),
        unlooked=tuple(gone),
        milliseconds=_milliseconds(source, record),
        before_milliseconds=_milliseconds(source, before),
    )


def _wrong(source: str, record: Record) -> set[Key]:
    return {finding.key for finding in findings(record) if finding.source == source}


def _names(keys: set[Key]) -> tuple[str, ...]:
    return tuple(sorted(check if topic is Topic.CHECK else topic.value for _, topic, check in keys))


def _checks(source: str, record: Record) -> set[str]:
    return {check.name for proof in record.proofs if proof.source == source for check in proof.checks}


def _milliseconds(source: str, record: Record) -> int | None:
    """The longest recovery of a source that came back; none where one of its recoveries failed."""
    proofs = [proof for proof in record.proofs if proof.source == source]
    if not proofs or any(proof.error for proof in proofs):
        return None
    return max(proof.recovery_milliseconds for proof in proofs)
