"""From a place to the lines of an index: how a directory of the worker is read, and how one that is far away."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TypeVar, cast

from lifeboat.files.entries import Line, merged
from lifeboat.files.far_taking import FarTaking
from lifeboat.files.known import KnownBytes
from lifeboat.files.own_targets import insist_on_places_apart
from lifeboat.files.packing import Packer
from lifeboat.files.patterns import Selection
from lifeboat.files.places import open_far_place
from lifeboat.files.reading import FileReader
from lifeboat.files.taking import Counts, Taking
from lifeboat.files.walking import Unseen, walk
from lifeboat.policy.files_source import FilesSource
from lifeboat.repository.sharing import Share
from lifeboat.repository.system import SystemRepository

T = TypeVar("T")


@dataclass(frozen=True)
class Gathering:
    """What makes an index of a place.

    Attributes:
        lines: from the lines of the snapshot before to those of this one.
        needs: the recovery points whose packs hold something of it, once all lines are there.
        read_size: bytes that were read so far.
    """

    lines: Callable[[Iterable[Line]], Iterator[bytes]]
    needs: set[str]
    read_size: Callable[[], int]


def gathering(
    stack: ExitStack,
    repository: SystemRepository,
    source_name: str,
    source: FilesSource,
    recovery_point: str,
    packer: Packer,
    known: Callable[[], KnownBytes],
    counts: Counts,
    tick: Callable[[], None],
    *,
    read_all: bool,
    share: Share | None,
) -> Gathering:
    """A directory of the worker is read by descriptors; another place by what it offers.

    Args:
        stack: closes the place.
        recovery_point: whose packs these are.
        packer: takes what is new.
        known: what is stored already; asked at the first file that is read.
        counts: is told of everything.
        tick: called often; may raise to cancel.
        read_all: read what looks unchanged, too.
        share: the part that is read; ``None``: all.

    Raises:
        SourceUnreadable: the place can't be reached, or does not let itself be listed.
    """
    selection = Selection(source.include, source.exclude)

    def unseen(one: Unseen) -> None:
        if one.left_out:
            counts.left_out[one.left_out] += 1
        else:
            counts.could_not_read(one.path, one.reason)

    insist_on_places_apart(source_name, source, repository.policy, repository.outside)
    place = open_far_place(source_name, source, repository.outside)
    if place is not None:
        far = FarTaking(place, packer, recovery_point, known, counts, read_all=read_all, tick=tick)
        found = _let_go(stack, stack.enter_context(place).walk(selection, unseen, tick))
        if share is not None:
            found = (entry for entry in found if share.has(zlib.crc32(entry.order)))
        return Gathering(lambda before: far.lines(found, before), far.needs, lambda: far.read_size)
    reader = FileReader(packer, recovery_point, known, tick)
    taking = Taking(reader, counts, read_all=read_all)
    seen = _let_go(stack, walk(source.directory, selection, unseen, tick, share))
    return Gathering(
        lambda before: (taking.line(one, was) for one, was in merged(seen, before)),
        taking.needs,
        lambda: reader.read_size,
    )


def _let_go(stack: ExitStack, walked: Iterator[T]) -> Iterator[T]:
    """The same walk, which lets go of what it holds when the work ends.

    A failure's traceback would keep it, and Python's collector may run on another thread than its database belongs to.
    """
    stack.enter_context(closing(cast("Generator[T, None, None]", walked)))
    return walked
