"""A snapshot of a set of files: an index of every path, and packs of what no earlier snapshot has stored.

An incremental reads only what is new or changed by its size, its times and its inode, or by what a far place tells
instead of these; a full reads and hashes
everything, and stores what is unseen. What an earlier snapshot of the same generation has stored is referred to; a
generation begins with a snapshot that refers to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime

from lifeboat.files.comparing import choose_base, compared_with, comparison_of_shares, lines_of
from lifeboat.files.details import SnapshotDetails, findings_of
from lifeboat.files.entries import INDEX_STREAM
from lifeboat.files.gathering import gathering
from lifeboat.files.known import KnownBytes
from lifeboat.files.packing import Packer
from lifeboat.files.taking import Counts
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
from lifeboat.streams.memory import set_aside_what_lasts
from lifeboat.streams.writing import StreamWriter, one_of_many

Progress = Callable[[int, int], None]
TICK_SECONDS = 0.25
LINES_BYTES = 64 * 1024
"""Lines of an index that are handed on together."""


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
        work: with a share, takes that alone, as a recovery point of the share's own kind; with the recovery points of
            all shares, brings them together and reads only what changed meanwhile.
        progress: told the bytes that were read or found unchanged, and the bytes of the snapshot before.
        tick: called about four times a second; may raise to cancel.
        retain_until: the object lock, if the target sets one.

    Raises:
        SourceUnreadable: the directory itself can't be read.
        LifeboatError: nothing was committed.
    """
    with ExitStack() as stack:
        own_kind = work.recovery_point.kind
        stack.enter_context(alone_on_this_machine(f"{repository.system}/{source_name}/{own_kind}", tick))
        target, catalogue = repository.target(PRIMARY), repository.catalogue(PRIMARY)
        listing = catalogue.recovery_points(source_name)
        row = [copy for copy in (*listing.copies, *listing.deleted) if copy.manifest.kind == own_kind]
        work = work.after(newest_id(row))
        refuse_if_committed(target, RecoveryPointFolder(repository.system, source_name, str(work.recovery_point)))
        begun = repository.outside.clock()
        journal_begun(journal, source_name, work)
        if work.shares:
            comparison = comparison_of_shares(repository, source_name, work.shares)
        else:
            base = choose_base(repository, source_name, source, listing.copies, kind=kind, now=begun, tick=tick)
            comparison = compared_with(base)
        before = comparison.before
        destination = repository.destination(target, source_name, work, retain_until=retain_until)
        set_aside_what_lasts()
        counts = Counts()
        known = stack.enter_context(KnownBytes())
        expected = before.details.size if before is not None else 0

        def look_around() -> None:
            progress(counts.size, max(expected, counts.size))
            tick()

        quick = _quickly(look_around)
        left_to_fill = [comparison]
        packer = Packer(destination, repository.streams, tick=tick)
        index = StreamWriter(INDEX_STREAM, destination, one_of_many(repository.streams), tick=tick, plain_digest=True)

        def asked() -> KnownBytes:
            # An unchanged tree never needs it.
            while left_to_fill:
                left_to_fill.pop().fill(known)
            return known

        own = str(work.recovery_point)
        try:
            gathered = gathering(
                stack, repository, source_name, source, own, packer, asked, counts, quick,
                # What was taken in shares just now was read by them.
                read_all=kind != INCREMENTAL and not work.shares, share=work.share,
            )  # fmt: skip
            with lines_of(repository, comparison) as earlier:
                lines = bytearray()
                for line in gathered.lines(earlier):
                    lines += line
                    if len(lines) >= LINES_BYTES:
                        index.write(bytes(lines))
                        lines.clear()
                    quick()
                index.write(bytes(lines))
            streams = (*packer.finish(), index.finish())
        except BaseException as failure:
            packer.abort(failure)
            index.abort(failure)
            raise
        taken = comparison.bases if work.shares else ()
        details = SnapshotDetails(
            generation=comparison.generation or own,
            compared_with=before.recovery_point if before is not None else "",
            # A share has fewer than the whole before it, and nothing is missing.
            files_before=before.details.files if before is not None and work.share is None else 0,
            files=counts.kinds["file"],
            folders=counts.kinds["directory"],
            others=counts.kinds.total() - counts.kinds["file"] - counts.kinds["directory"],
            size=counts.size,
            new_files=counts.new_files + sum(one.details.new_files for one in taken),
            new_size=counts.new_size + sum(one.details.new_size for one in taken),
            read_size=gathered.read_size() + sum(one.details.read_size for one in taken),
            unread=tuple(counts.unread),
            unread_count=counts.unread_count,
            changed=tuple(counts.changed),
            vanished=counts.vanished,
        )
        needs = gathered.needs - {own}
        insist_on_needed(catalogue, source_name, needs)
        made = Made(
            begun=begun,
            # A file may have been read at any time since: what was written after the beginning may be missing.
            moment=begun,
            details=details.model_dump(mode="json"),
            streams=streams,
            chain=details.generation,
            needs=tuple(sorted(needs)),
            findings=tuple(findings_of(details, sockets=counts.left_out["sockets"])),
        )
        copy = commit_made(repository, source_name, work, next_place(row), made, retain_until=retain_until)
    journal_committed(journal, copy, findings=list(copy.manifest.findings))
    return copy


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
