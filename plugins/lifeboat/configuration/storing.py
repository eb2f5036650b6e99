"""A recovery point of a configuration: gathered, compared with the newest one, stored where something changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from lifeboat.configuration.believing import Before, newest_believable
from lifeboat.configuration.certificates import CertificateFacts, certificates_in
from lifeboat.configuration.details import ConfigurationDetails
from lifeboat.configuration.differing import Difference, differences
from lifeboat.configuration.fingerprints import Fingerprints, new_key, same
from lifeboat.configuration.gathered import Gathered, printable
from lifeboat.configuration.gathering import gather
from lifeboat.configuration.items import Indexed, Item, counts
from lifeboat.configuration.packing import store_items
from lifeboat.errors import SourceUnreadable
from lifeboat.policy.configuration_source import ConfigurationSource
from lifeboat.repository.alone import alone_on_this_machine
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import newest_id, next_place, refuse_if_committed
from lifeboat.repository.committing import Made, commit_made, journal_begun, journal_committed
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.snapshots import FULL
from lifeboat.repository.system import PRIMARY, SystemRepository, Work

MOST_TOLD = 1000
MOST_SHOWN = 3


@dataclass(frozen=True)
class Outcome:
    """What became of a look at a configuration.

    Attributes:
        copy: the recovery point; ``None`` where nothing changed and none was wanted.
        unchanged_since: the one that holds the present state then.
        details: of either.
        lacking: what is not in it, in sentences.
        expiring: certificates that have expired or soon will, in sentences.
    """

    copy: Copy | None
    details: ConfigurationDetails
    unchanged_since: str = ""
    lacking: tuple[str, ...] = ()
    expiring: tuple[str, ...] = ()


def store_configuration(
    repository: SystemRepository,
    source_name: str,
    source: ConfigurationSource,
    work: Work,
    journal: Journal,
    *,
    only_changed: bool,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    tick: Callable[[], None] = lambda: None,
    retain_until: datetime | None = None,
) -> Outcome:
    """Gather a configuration, and commit it on the primary target.

    Args:
        only_changed: make no recovery point of what the newest one holds already.
        progress: told the bytes stored and those to store.
        tick: called about four times a second; may raise to cancel.
        retain_until: the object lock, if the target sets one.

    Raises:
        SourceUnreadable: nothing of it can be read, or it is too much.
        LifeboatError: nothing was committed.
    """
    with alone_on_this_machine(f"{repository.system}/{source_name}/{FULL}", tick):
        target, catalogue = repository.target(PRIMARY), repository.catalogue(PRIMARY)
        listing = catalogue.recovery_points(source_name)
        row = [copy for copy in (*listing.copies, *listing.deleted) if copy.manifest.kind == FULL]
        work = work.after(newest_id(row))
        refuse_if_committed(target, RecoveryPointFolder(repository.system, source_name, str(work.recovery_point)))
        begun = repository.outside.clock()
        before, why_not = newest_believable(repository, listing.copies, tick)
        gathered = gather(source, repository.outside, tick=tick)
        seen = _Seen.of(gathered, before, source, begun)
        if only_changed and before is not None and before.newest and seen.unchanged(before):
            journal.write(
                "configuration_unchanged",
                source=source_name,
                recovery_point=before.copy.manifest.recovery_point,
                target=PRIMARY,
                items=seen.details.count,
                unread=seen.details.unread_count,
            )
            point = before.copy.manifest.recovery_point
            return Outcome(None, seen.details, point, seen.lacking, seen.expiring)
        journal_begun(journal, source_name, work)
        done = 0

        def stored(size: int) -> None:
            nonlocal done
            done += size
            progress(done, seen.details.size)

        streams = store_items(
            seen.items,
            seen.index,
            seen.fingerprints.key,
            repository.destination(target, source_name, work, retain_until=retain_until),
            repository.streams,
            read_at=begun,
            progress=stored,
            tick=tick,
        )
        made = Made(
            begun=begun,
            moment=begun,
            details=seen.details.model_dump(mode="json"),
            streams=streams,
            findings=tuple(_findings(seen, gathered, why_not)),
        )
        copy = commit_made(repository, source_name, work, next_place(row), made, retain_until=retain_until)
    journal_committed(journal, copy, findings=list(copy.manifest.findings))
    return Outcome(copy, seen.details, "", seen.lacking, seen.expiring)


@dataclass(frozen=True)
class _Seen:
    """The present state, compared."""

    items: Sequence[Item]
    index: Sequence[Indexed]
    fingerprints: Fingerprints
    details: ConfigurationDetails
    lacking: tuple[str, ...]
    expiring: tuple[str, ...]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, gathered: Gathered, before: Before | None, source: ConfigurationSource, now: datetime) -> _Seen:
        items = gathered.items()
        lacking = [str(problem) for problem in gathered.lacking]
        if not items:
            more = f": {'; '.join(lacking[:MOST_SHOWN])}" if lacking else ""
            raise SourceUnreadable(
                f"Nothing of the configuration can be had{more}.",
                "Nothing was stored. Look at the policy, and whether the source's `queue` names the right workers.",
            )
        fingerprints = before.fingerprints if before is not None else Fingerprints(new_key())
        index = [fingerprints.indexed(item) for item in items]
        changes = differences(before.index, index) if before is not None else []
        certificates, remarks = certificates_in(items)
        unread = tuple(printable(problem.name) for problem in gathered.lacking[:MOST_TOLD])
        details = ConfigurationDetails(
            items=counts(index),
            size=sum(one.size for one in index),
            fingerprint=fingerprints.of_set(index, unread, len(lacking)),
            compared_with=before.copy.manifest.recovery_point if before is not None else "",
            added=_count(changes, "added"),
            changed=_count(changes, "changed"),
            removed=_count(changes, "removed"),
            unread=unread,
            unread_count=len(lacking),
            certificates=tuple(certificates[:MOST_TOLD]),
        )
        expiring = _expiring(certificates, source, now)
        return cls(items, index, fingerprints, details, tuple(lacking), expiring, tuple(remarks))

    def unchanged(self, before: Before) -> bool:
        return same(self.details.fingerprint, before.details.fingerprint)


def _expiring(certificates: Sequence[CertificateFacts], source: ConfigurationSource, now: datetime) -> tuple[str, ...]:
    if source.certificates is None:
        return ()
    said = (one.warning(now, source.certificates.warn_before.fixed) for one in certificates)
    return tuple(filter(None, said))


def _count(changes: Sequence[Difference], how: str) -> int:
    return sum(one.how == how for one in changes)


def _findings(seen: _Seen, gathered: Gathered, why_not: str) -> Iterator[str]:
    if seen.lacking:
        yield f"{len(seen.lacking)} that the policy names are not in it: {shortened(seen.lacking)}."
    yield from seen.expiring[:MOST_TOLD]
    yield from map(printable, (seen.remarks + tuple(gathered.remarks))[:MOST_TOLD])
    yield from (f"{problem}." for problem in gathered.problems if problem.what == "nothing")
    if why_not:
        yield why_not


def shortened(sentences: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(sentences) - MOST_SHOWN} more" if len(sentences) > MOST_SHOWN else ""
    return "; ".join(sentences[:MOST_SHOWN]) + more
