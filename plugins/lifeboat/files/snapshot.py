"""A snapshot of a set of files: an index of every path, and packs of what no earlier snapshot has stored.

An incremental reads only what is new or changed by its size, its times and its inode; a full reads and hashes
everything, and stores what is unseen. What an earlier snapshot of the same generation has stored is referred to; a
generation begins with a snapshot that refers to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime

from lifeboat.files.comparing import choose_base, lines_of
from lifeboat.files.details import SnapshotDetails
from lifeboat.files.entries import INDEX_STREAM, merged
from lifeboat.files.known import KnownBytes
from lifeboat.files.packing import Packer
from lifeboat.files.patterns import Selection
from lifeboat.files.reading import FileReader
from lifeboat.files.taking import Counts, Taking
from lifeboat.files.walking import Unseen, walk
from lifeboat.policy.files_source import FilesSource
from lifeboat.repository.alone import alone_on_this_machine
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.commit import newest_id, next_place, refuse_if_committed
from lifeboat.repository.committing import Made, commit_made, journal_begun, journal_committed
from lifeboat.repository.journal import Journal
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.snapshots import INCREMENTAL
from lifeboat.repository.standing_on import insist_on_needed
from lifeboat.repository.system import PRIMARY, SystemRepository, Work
from lifeboat.streams.writing import StreamWriter, one_of_many

Progress = Callable[[int, int], None]
TICK_SECONDS = 0.25


def take_snapshot(
    repository: SystemRepository,
    source_name: str,
    source: FilesSource,
    kind: str,
    work: Work,
    journal: Journal,
    *,
    progress: Progress = lambda _done, _total: None,
    tick: Callable[[], None] = lambda: None,
    retain_until: datetime | None = None,
) -> Copy:
    """Take and commit a snapshot on the primary target.

    Args:
        kind: ``full`` reads everything, ``incremental`` what looks new or changed.
        progress: told the bytes that were read or found unchanged, and the bytes of the snapshot before.
        tick: called about four times a second; may raise to cancel.
        retain_until: the object lock, if the target sets one.

    Raises:
        SourceUnreadable: the directory itself can't be read.
        LifeboatError: nothing was committed.
    """
    with ExitStack() as stack:
        stack.enter_context(alone_on_this_machine(f"{repository.system}/{source_name}/{kind}", tick))
        target, catalogue = repository.target(PRIMARY), repository.catalogue(PRIMARY)
        listing = catalogue.recovery_points(source_name)
        row = [copy for copy in (*listing.copies, *listing.deleted) if copy.manifest.kind == kind]
        work = work.after(newest_id(row))
        refuse_if_committed(target, RecoveryPointFolder(repository.system, source_name, str(work.recovery_point)))
        begun = repository.outside.clock()
        journal_begun(journal, source_name, work)
        base = choose_base(repository, source_name, source, listing.copies, kind=kind, now=begun, tick=tick)
        destination = repository.destination(target, source_name, work, retain_until=retain_until)
        counts = Counts()
        known = stack.enter_context(KnownBytes())
        expected = base.details.size if base is not None else 0

        def look_around() -> None:
            progress(counts.size, max(expected, counts.size))
            tick()

        quick = _quickly(look_around)
        left_to_fill = [] if base is None else [base]
        packer = Packer(destination, repository.streams, tick=tick)
        index = StreamWriter(INDEX_STREAM, destination, one_of_many(repository.streams), tick=tick, plain_digest=True)

        def asked() -> KnownBytes:
            # An unchanged tree never needs it.
            while left_to_fill:
                left_to_fill.pop().fill(known)
            return known

        own = str(work.recovery_point)
        reader = FileReader(packer, own, asked, quick)
        taking = Taking(reader, counts, read_all=kind != INCREMENTAL)
        try:
            selection = Selection(source.include, source.exclude)
            seen = walk(source.directory, selection, lambda one: _note(counts, one), quick)
            with lines_of(repository, base) as before:
                for one, was in merged(seen, before):
                    index.write(taking.line(one, was))
                    quick()
            streams = (*packer.finish(), index.finish())
        except BaseException as failure:
            packer.abort(failure)
            index.abort(failure)
            raise
        details = SnapshotDetails(
            generation=base.details.generation if base is not None else str(work.recovery_point),
            compared_with=base.recovery_point if base is not None else "",
            files_before=base.details.files if base is not None else 0,
            files=counts.kinds["file"],
            folders=counts.kinds["directory"],
            others=counts.kinds.total() - counts.kinds["file"] - counts.kinds["directory"],
            size=counts.size,
            new_files=counts.new_files,
            new_size=counts.new_size,
            read_size=reader.read_size,
            unread=tuple(counts.unread),
            unread_count=counts.unread_count,
            changed=tuple(counts.changed),
            vanished=counts.vanished,
        )
        needs = taking.needs - {own}
        insist_on_needed(catalogue, source_name, needs)
        made = Made(
            begun=begun,
            # A file may have been read at any time since: what was written after the beginning may be missing.
            moment=begun,
            details=details.model_dump(mode="json"),
            streams=streams,
            chain=details.generation,
            needs=tuple(sorted(needs)),
            findings=tuple(_findings(details, counts)),
        )
        copy = commit_made(repository, source_name, work, next_place(row), made, retain_until=retain_until)
    journal_committed(journal, copy, findings=list(copy.manifest.findings))
    return copy


def _findings(details: SnapshotDetails, counts: Counts) -> Iterator[str]:
    if details.shrunk:
        yield f"It has {details.files} files, and {details.compared_with} had {details.files_before}."
    if details.unread_count:
        more = f" and {details.unread_count - 3} more" if details.unread_count > 3 else ""
        yield f"{details.unread_count} paths could not be read: {'; '.join(details.unread[:3])}{more}."
    if details.changed:
        more = f" and {len(details.changed) - 3} more" if len(details.changed) > 3 else ""
        yield f"Changed while they were read, at both tries: {', '.join(details.changed[:3])}{more}."
    if details.vanished:
        yield f"{details.vanished} paths were gone before they could be read."
    if counts.left_out["sockets"]:
        yield f"{counts.left_out['sockets']} sockets are not in it: they live as long as their program."


def _note(counts: Counts, unseen: Unseen) -> None:
    counts.could_not_read(unseen.path, unseen.reason)


def _quickly(tick: Callable[[], None]) -> Callable[[], None]:
    """The same tick, at most four times a second: a walk would call it a million times."""
    last = 0.0

    def called() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TICK_SECONDS:
            last = now
            tick()

    return called
