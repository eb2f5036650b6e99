"""The files of a far place become lines of a snapshot's index; small ones are fetched side by side.

Most of the time that a small file takes over a network is waiting. So the next few are asked for while one is stored;
lines come in the order of the index all the same. What is held meanwhile is bounded by number and by bytes.
"""

from __future__ import annotations

import errno
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from lifeboat.files.entries import Entry, Line, Place, merged
from lifeboat.files.far_place import FarFile, FarPlace
from lifeboat.files.known import KnownBytes
from lifeboat.files.packing import Packer
from lifeboat.files.reading import AT_ONCE
from lifeboat.files.taking import MOST_TOLD, Counts, shown
from lifeboat.targets.background import awaited, in_background

T = TypeVar("T")

FETCHES = 12
"""Small files that are asked for, or held, at once."""
HELD_BYTES = 24 * 1024 * 1024
_WAITING = 2000
_PIECE = 1024 * 1024


@dataclass(frozen=True)
class _Fetched:
    entry: Entry
    data: bytes
    changed: bool


@dataclass(frozen=True)
class _Done:
    """A file whose bytes are stored: just now, or before; and whether it changed while it was read, at both tries."""

    entry: Entry
    changed: bool
    new: bool


@dataclass
class _Next:
    """A path whose line is to come.

    Attributes:
        line: the line, where nothing had to be read.
        fetched: the file's bytes, once they are here; ``None`` in it for one that turns out to be large.
    """

    entry: Entry
    line: bytes | None = None
    fetched: Future[_Fetched | None] | None = None

    @property
    def ready(self) -> bool:
        return self.fetched is None or self.fetched.done()


class FarTaking:
    """One snapshot of a far place being taken.

    Args:
        packer: takes what is new.
        recovery_point: whose packs these are.
        known: what is stored already; asked at the first file that is read.
        read_all: read what looks unchanged, too.
        tick: called at least four times a second; may raise to cancel.

    Attributes:
        needs: the recovery points whose packs hold something of it, its own among them.
        read_size: bytes that were read.
    """

    def __init__(
        self,
        place: FarPlace,
        packer: Packer,
        recovery_point: str,
        known: Callable[[], KnownBytes],
        counts: Counts,
        *,
        read_all: bool,
        tick: Callable[[], None],
    ) -> None:
        self.needs: set[str] = set()
        self.read_size = 0
        self._place = place
        self._packer = packer
        self._recovery_point = recovery_point
        self._known = known
        self._counts = counts
        self._read_all = read_all
        self._tick = tick
        self._fetches = 0
        self._held = 0

    def lines(self, seen: Iterable[Entry], before: Iterable[Line]) -> Iterator[bytes]:
        """The lines of the index, in its order."""
        waiting: deque[_Next] = deque()
        for entry, was in merged(seen, before):
            waiting.append(self._begin(entry, was))
            while waiting and (waiting[0].ready or self._full(waiting)):
                yield self._end(waiting.popleft())
            self._tick()
        while waiting:
            yield self._end(waiting.popleft())

    def _full(self, waiting: deque[_Next]) -> bool:
        return self._fetches >= FETCHES or self._held >= HELD_BYTES or len(waiting) >= _WAITING

    def _begin(self, entry: Entry, was: Line | None) -> _Next:
        self._counts.kinds[entry.type] += 1
        if entry.type != "file":
            return _Next(entry, entry.to_line())
        if was is not None and not self._read_all and (line := _carried(entry, was)) is not None:
            self._counts.size += entry.size
            if (point := was.told.get("recovery_point")) is not None:
                self.needs.add(point)
            return _Next(entry, line)
        if entry.size > AT_ONCE:
            return _Next(entry)
        self._fetches += 1
        self._held += entry.size
        return _Next(entry, fetched=in_background(lambda: self._fetch(entry)))

    def _fetch(self, entry: Entry) -> _Fetched | None:
        """A small file as a whole, on a thread of its own; read once more where it changes meanwhile."""
        for again in (False, True):
            try:
                with closing(self._place.open(entry, again=again)) as file:
                    if file.entry.size > AT_ONCE:
                        return None
                    data = file.read(file.entry.size)
                    fetched = _Fetched(file.entry, data, len(data) != file.entry.size or not file.unchanged())
            except OSError as error:
                if error.errno != errno.ESTALE or again:
                    raise
                continue
            if not fetched.changed:
                break
        return fetched

    def _end(self, one: _Next) -> bytes:
        if one.line is not None:
            return one.line
        try:
            done = self._read(one)
        except FileNotFoundError:
            self._counts.kinds["file"] -= 1
            self._counts.vanished += 1
            return b""
        except OSError as error:
            self._counts.could_not_read(one.entry.path, f"can't be read: {error.strerror}")
            # Without an identity the next snapshot tries again.
            return replace(one.entry, size=0, identity="").to_line()
        entry = done.entry
        if done.changed:
            if len(self._counts.changed) < MOST_TOLD:
                self._counts.changed.append(shown(entry.path))
            entry = replace(entry, identity="")
        self._counts.size += entry.size
        if done.new:
            self._counts.new_files += 1
            self._counts.new_size += entry.size
        if (place := entry.place) is not None:
            self.needs.add(place.recovery_point)
            if place.member == entry.path:
                entry = replace(entry, place=place._replace(member=""))
        return entry.to_line()

    def _read(self, one: _Next) -> _Done:
        if one.fetched is None:
            return self._large(one.entry)
        try:
            fetched = self._meanwhile(one.fetched)
        finally:
            self._fetches -= 1
            self._held -= one.entry.size
        return self._large(one.entry) if fetched is None else self._small(fetched)

    def _small(self, fetched: _Fetched) -> _Done:
        entry, data = fetched.entry, fetched.data
        self.read_size += len(data)
        entry = replace(entry, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        if not data:
            return _Done(entry, fetched.changed, False)
        place = self._known().place(entry.sha256, len(data))
        if place is not None:
            return _Done(replace(entry, place=place), fetched.changed, False)
        member = self._packer.begin(entry.path, _Header.of(entry), len(data))
        member.write(data)
        member.end()
        return self._new(entry, member.pack, fetched.changed)

    def _large(self, entry: Entry) -> _Done:
        for again in (False, True):
            try:
                done = self._in_pieces(entry, again=again)
            except OSError as error:
                if error.errno != errno.ESTALE or again:
                    raise
                continue
            if not done.changed:
                break
        return done

    def _in_pieces(self, entry: Entry, *, again: bool) -> _Done:
        with closing(self._open(entry, again)) as file:
            if not self._known().may_have(file.entry.size):
                return self._into_pack(file)
            # Most likely it was moved or copied; it is read twice only where it was not.
            sha256 = self._digest(file)
            if (place := self._known().place(sha256, file.entry.size)) is not None:
                stored = replace(file.entry, sha256=sha256, place=place)
                return _Done(stored, not self._meanwhile(in_background(file.unchanged)), False)
        with closing(self._open(entry, again)) as file:
            return self._into_pack(file)

    def _into_pack(self, file: FarFile) -> _Done:
        entry = file.entry
        digest = hashlib.sha256()
        member = self._packer.begin(entry.path, _Header.of(entry), entry.size)
        try:
            for piece in self._pieces(file):
                digest.update(piece)
                member.write(piece)
        except OSError:
            # What the header promised is filled up, and nothing refers to it.
            member.end()
            raise
        lacking = member.left
        changed = lacking > 0 or not self._meanwhile(in_background(file.unchanged))
        member.end()
        while lacking:
            # The file became shorter: the digest is of what is stored.
            digest.update(bytes(step := min(lacking, _PIECE)))
            lacking -= step
        return self._new(replace(entry, sha256=digest.hexdigest()), member.pack, changed)

    def _digest(self, file: FarFile) -> str:
        digest = hashlib.sha256()
        for piece in self._pieces(file):
            digest.update(piece)
        return digest.hexdigest()

    def _pieces(self, file: FarFile) -> Iterator[bytes]:
        """The pieces of a file, each asked for while the one before it is stored."""
        left = file.entry.size
        coming = in_background(lambda: file.read(min(_PIECE, left)))
        while piece := self._meanwhile(coming):
            left -= len(piece)
            self.read_size += len(piece)
            asked = min(_PIECE, left)
            if asked:
                coming = in_background(partial(file.read, asked))
            yield piece
            if not asked:
                return
            self._tick()

    def _open(self, entry: Entry, again: bool) -> FarFile:
        return self._meanwhile(in_background(lambda: self._place.open(entry, again=again)))

    def _meanwhile(self, future: Future[T]) -> T:
        return awaited(future, self._tick)

    def _new(self, entry: Entry, pack: str, changed: bool) -> _Done:
        place = Place(pack, self._recovery_point, entry.path)
        self._known().add(entry.sha256, entry.size, place)
        return _Done(replace(entry, place=place), changed, True)


def _carried(entry: Entry, was: Line) -> bytes | None:
    """The line of a file whose bytes did not change; ``None`` where they may have."""
    told = was.told
    if not entry.identity or told.get("identity") != entry.identity or "sha256" not in told:
        return None
    attributes = {"mode": entry.mode, "uid": entry.uid, "gid": entry.gid, "mtime_ns": entry.mtime_ns}
    if all(told.get(name) == value for name, value in attributes.items()):
        return was.text
    before = Entry.from_line(was.text)
    return replace(before, mode=entry.mode, uid=entry.uid, gid=entry.gid, mtime_ns=entry.mtime_ns).to_line()


@dataclass(frozen=True)
class _Header:
    """What a member's header in a pack says, where owners have no word for nobody."""

    st_mode: int
    st_uid: int
    st_gid: int
    st_mtime_ns: int

    @classmethod
    def of(cls, entry: Entry) -> _Header:
        return cls(entry.mode, max(entry.uid, 0), max(entry.gid, 0), entry.mtime_ns)
