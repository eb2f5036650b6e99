"""A recovery point of Git repositories: a bundle of each that has changed, and an index of every ref.

A repository whose refs are all as they were is not stored again: the recovery point refers to the bundle of an earlier
one. A generation begins with one that refers to nothing. What could not be read now is referred to, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from urllib.parse import unquote, urlsplit

from lifeboat.code.details import CodeDetails
from lifeboat.code.earlier import Earlier, earlier_than_now
from lifeboat.code.git_program import Git, git_in
from lifeboat.code.refs import INDEX_STREAM, lines_of
from lifeboat.code.rewrites import alarm_of, in_words
from lifeboat.code.scratch import scratch_directory
from lifeboat.code.taking import Taken, Taker
from lifeboat.errors import SourceUnreadable
from lifeboat.policy.code_source import CodeSource, scheme_of
from lifeboat.repository.alone import alone_on_this_machine
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import newest_id, next_place, refuse_if_committed
from lifeboat.repository.committing import Made, commit_made, journal_begun, journal_committed
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.snapshots import FULL
from lifeboat.repository.standing_on import insist_on_needed
from lifeboat.repository.system import PRIMARY, SystemRepository, Work
from lifeboat.streams.stored import StoredStream
from lifeboat.streams.writing import Destination, StreamWriter, one_of_many

Progress = Callable[[int, int], None]
_MOST_TOLD = 1000


@dataclass(frozen=True)
class Snapshot:
    """A committed recovery point.

    Attributes:
        taken: what became of each repository.
        alarms: what somebody has to be told, in sentences.
    """

    copy: Copy
    details: CodeDetails
    taken: tuple[Taken, ...]
    alarms: tuple[str, ...]


def take_snapshot(
    repository: SystemRepository,
    source_name: str,
    source: CodeSource,
    work: Work,
    journal: Journal,
    *,
    then: Callable[[Git, Snapshot], None] = lambda _git, _snapshot: None,
    progress: Progress = lambda _done, _total: None,
    tick: Callable[[], None] = lambda: None,
    retain_until: datetime | None = None,
) -> Snapshot:
    """Take and commit a recovery point on the primary target.

    Args:
        then: called when it is committed, while the clones are still there.
        progress: told the bytes that were read.
        tick: called about four times a second; may raise to cancel.
        retain_until: the object lock, if the target sets one.

    Raises:
        SourceUnreadable: no repository can be read.
        LifeboatError: nothing was committed.
    """
    with ExitStack() as stack:
        stack.enter_context(alone_on_this_machine(f"{repository.system}/{source_name}/{FULL}", tick))
        target, catalogue = repository.target(PRIMARY), repository.catalogue(PRIMARY)
        listing = catalogue.recovery_points(source_name)
        row = [copy for copy in (*listing.copies, *listing.deleted) if copy.manifest.kind == FULL]
        work = work.after(newest_id(row))
        own = str(work.recovery_point)
        refuse_if_committed(target, RecoveryPointFolder(repository.system, source_name, own))
        begun = repository.outside.clock()
        journal_begun(journal, source_name, work)
        scratch = stack.enter_context(scratch_directory(source.scratch))
        git = git_in(scratch, trusting=trusted_directories(source))
        earlier = earlier_than_now(repository, source_name, source, listing.copies, now=begun, tick=tick)
        destination = repository.destination(target, source_name, work, retain_until=retain_until)
        done = 0

        def read(size: int) -> None:
            nonlocal done
            done += size
            progress(done, done)

        taker = Taker(
            git, repository.outside, source, earlier, own, destination, repository.streams, read=read, tick=tick
        )
        taken = [taker.take(policy) for policy in source.repositories]
        _insist_on_one(taken)
        index = _write_index(taken, destination, repository, tick)
        details = _details(taken, earlier, own)
        needs = {one.recovery_point for one in details.repositories if one.recovery_point} - {own}
        insist_on_needed(catalogue, source_name, needs)
        made = Made(
            begun=begun,
            # A repository may have been read at any time since: what was pushed after the beginning may be missing.
            moment=begun,
            details=details.model_dump(mode="json"),
            streams=(*(one.stored for one in taken if one.stored is not None), index),
            chain=details.generation,
            needs=tuple(sorted(needs)),
            findings=tuple(filter(None, _findings(taken, details))),
            versions={"git": git.version},
        )
        copy = commit_made(repository, source_name, work, next_place(row), made, retain_until=retain_until)
        journal_committed(journal, copy, findings=list(copy.manifest.findings)[:_MOST_TOLD])
        snapshot = Snapshot(
            copy,
            details,
            tuple(taken),
            tuple(filter(None, _alarms(taken, details, earlier, signed=source.signed_tags))),
        )
        then(git, snapshot)
    return snapshot


def trusted_directories(source: CodeSource) -> list[str]:
    """The places of ``file:///`` repositories and mirrors: the policy names them, so whoever owns them is trusted."""
    urls = [url for one in source.repositories for url in (one.url, source.mirror_of(one)) if url is not None]
    return [unquote(urlsplit(url).path) for url in urls if scheme_of(url) == "file"]


def _insist_on_one(taken: Sequence[Taken]) -> None:
    unread = [one.details for one in taken if one.details.unread]
    if len(unread) == len(taken):
        raise SourceUnreadable(
            f"No repository can be read. {' '.join(one.unread for one in unread[:3])}", "Nothing was committed."
        )


def _write_index(
    taken: Sequence[Taken], destination: Destination, repository: SystemRepository, tick: Callable[[], None]
) -> StoredStream:
    writer = StreamWriter(INDEX_STREAM, destination, one_of_many(repository.streams), tick=tick, plain_digest=True)
    try:
        for one in taken:
            for line in lines_of(one.refs) if one.refs is not None else ():
                writer.write(line)
        return writer.finish()
    except BaseException as failure:
        writer.abort(failure)
        raise


def _details(taken: Sequence[Taken], earlier: Earlier | None, own: str) -> CodeDetails:
    rewrites = tuple(chain.from_iterable(one.rewrites for one in taken))
    return CodeDetails(
        generation=own if earlier is None or earlier.stale else earlier.details.generation,
        compared_with=earlier.recovery_point if earlier is not None else "",
        repositories=tuple(one.details for one in taken),
        rewrites=rewrites[:_MOST_TOLD],
        rewritten=len(rewrites),
    )


def _findings(taken: Sequence[Taken], details: CodeDetails) -> Iterator[str]:
    for one in taken:
        told = one.details
        if told.unread:
            instead = f"what {told.recovery_point} has of it is referred to" if told.bundle else "nothing of it is kept"
            yield f"{told.name} could not be read, and {instead}: {told.unread}"
        for sentence in told.left_out:
            yield f"{told.name}: {sentence}"
        for remark in one.remarks:
            yield f"{told.name}: git says of its clone: {remark}"
        if one.unsigned is not None:
            yield one.unsigned.finding(told.name)
        for protection in one.protections:
            yield protection.finding(told.name)
    for rewrite in details.rewrites:
        yield f"{in_words(rewrite)} Kept in {details.compared_with}."
    if details.rewritten > len(details.rewrites):
        yield f"And {details.rewritten - len(details.rewrites)} more refs were rewritten."


def _alarms(taken: Sequence[Taken], details: CodeDetails, earlier: Earlier | None, *, signed: bool) -> Iterator[str]:
    if earlier is not None:
        yield alarm_of(details.rewrites, earlier.recovery_point)
    for one in taken:
        name = one.details.name
        if one.details.unread:
            yield f"{name} could not be read: {one.details.unread}"
        if one.remarks:
            yield f"{name} may not be whole at its origin; git says of its clone: {' '.join(one.remarks[:3])}"
        if signed and one.unsigned is not None:
            yield one.unsigned.alarm(name)
        for protection in one.protections:
            yield protection.alarm(name)
