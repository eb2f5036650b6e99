"""One path after the other becomes a line of a snapshot's index; a file that is new or looks changed is read for it."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from lifeboat.files.entries import Entry, FileType, Line, Place
from lifeboat.files.reading import FileReader, xattrs_of
from lifeboat.files.walking import Seen
from lifeboat.repository.ownership import group_name, user_name

MOST_TOLD = 1000


@dataclass
class Counts:
    """What a snapshot is told of, path by path."""

    kinds: Counter[str] = field(default_factory=Counter)
    size: int = 0
    new_files: int = 0
    new_size: int = 0
    unread: list[str] = field(default_factory=list)
    unread_count: int = 0
    changed: list[str] = field(default_factory=list)
    vanished: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def could_not_read(self, path: str, reason: str) -> None:
        """Note a path that is not in the snapshot, or not its bytes."""
        self.unread_count += 1
        if len(self.unread) < MOST_TOLD:
            self.unread.append(f"{shown(path)} {reason}")


class Taking:
    """One snapshot being taken.

    Attributes:
        needs: the recovery points whose packs hold something of it, its own among them.
    """

    def __init__(self, reader: FileReader, counts: Counts, *, read_all: bool) -> None:
        self.needs: set[str] = set()
        self._reader = reader
        self._counts = counts
        self._read_all = read_all
        self._linked: dict[tuple[int, int], str] = {}

    def line(self, seen: Seen, known: Line | None) -> bytes:
        """The path's line in the index; empty for one that is gone, and for a socket."""
        kind = _TYPES.get(stat.S_IFMT(seen.stat.st_mode))
        if kind is None:
            self._counts.left_out["sockets"] += 1
            return b""
        if kind == "file" and (first := self._first_name(seen)):
            self._counts.kinds[kind] += 1
            return replace(_described(seen, "file", seen.stat), hard_link=first).to_line()
        if kind == "file" and known is not None and not self._read_all and _same(known.told, seen.stat):
            self._counts.kinds[kind] += 1
            self._counts.size += seen.stat.st_size
            if (point := known.told.get("recovery_point")) is not None:
                self.needs.add(point)
            return known.text
        try:
            return self._file(seen) if kind == "file" else self._other(seen, kind)
        except OSError as error:
            self._counts.could_not_read(seen.path, f"can't be read: {error.strerror}")
        if kind != "file":
            return b""
        self._counts.kinds[kind] += 1
        return _described(seen, kind, seen.stat).to_line()

    def _first_name(self, seen: Seen) -> str:
        """The path that came before this one and is the same file; empty without one."""
        if seen.stat.st_nlink < 2:
            return ""
        first = self._linked.setdefault((seen.stat.st_dev, seen.stat.st_ino), seen.path)
        return first if first != seen.path else ""

    def _file(self, seen: Seen) -> bytes:
        stored = self._reader.read(seen)
        if stored is None:
            self._counts.vanished += 1
            return b""
        self._counts.kinds["file"] += 1
        self._counts.size += stored.size
        if stored.changed and len(self._counts.changed) < MOST_TOLD:
            self._counts.changed.append(shown(seen.path))
        if stored.new:
            self._counts.new_files += 1
            self._counts.new_size += stored.size
        place, found = stored.place, stored.stat
        if place is not None:
            self.needs.add(place.recovery_point)
            if place.member == seen.path:
                place = Place(place.pack, place.recovery_point)
        return Entry(
            seen.path, "file", found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_mtime_ns,
            user_name(found.st_uid), group_name(found.st_gid),
            # A file that changed is read again by the next snapshot, whatever its times say.
            0 if stored.changed else found.st_ctime_ns, found.st_ino, stored.size, stored.sha256, place,
            sparse=found.st_blocks * 512 < found.st_size, xattrs=stored.xattrs,
        ).to_line()  # fmt: skip

    def _other(self, seen: Seen, kind: FileType) -> bytes:
        # There is no call that takes a folder's descriptor and a name: the kernel's view of the descriptor serves.
        xattrs = xattrs_of(f"/proc/self/fd/{seen.folder}/{seen.name}")
        entry = replace(_described(seen, kind, seen.stat), xattrs=xattrs)
        if kind == "link":
            try:
                entry = replace(entry, link=os.readlink(seen.name, dir_fd=seen.folder))
            except FileNotFoundError:
                self._counts.vanished += 1
                return b""
        if kind in ("character", "block"):
            entry = replace(entry, device=(os.major(seen.stat.st_rdev), os.minor(seen.stat.st_rdev)))
        self._counts.kinds[kind] += 1
        return entry.to_line()


_TYPES: dict[int, FileType] = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character", stat.S_IFBLK: "block",
}  # fmt: skip


def _described(seen: Seen, kind: FileType, found: os.stat_result) -> Entry:
    return Entry(
        seen.path, kind, found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_mtime_ns,
        user_name(found.st_uid), group_name(found.st_gid), found.st_ctime_ns, found.st_ino,
    )  # fmt: skip


def _same(known: dict[str, Any], found: os.stat_result) -> bool:
    """Whether a file is as its line says: one whose bytes are stored, and of which no number differs."""
    return (
        known.get("ctime_ns") == found.st_ctime_ns
        and known.get("mtime_ns") == found.st_mtime_ns
        and known.get("size") == found.st_size
        and known.get("inode") == found.st_ino
        and known.get("type") == "file"
        and "sha256" in known
    )


def shown(path: str) -> str:
    """A path as messages may show it."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
