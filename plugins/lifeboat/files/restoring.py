"""A snapshot, or a part of it, back on a disk: built beside where it will be, compared while it is written, and named
when it is whole.

Every path is made by descriptors of its own folders, which are opened without following links: what an index says can't
lead out of the destination.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from lifeboat.errors import ObjectDamaged, RestoreError
from lifeboat.files.attributes import give
from lifeboat.files.comparing import entries_of, index_of
from lifeboat.files.destination import RestoredFiles
from lifeboat.files.entries import ROOT, Entry
from lifeboat.files.folders import Folders
from lifeboat.files.merging import merge
from lifeboat.files.packs_reading import members_of
from lifeboat.files.patterns import EVERYTHING, Selection
from lifeboat.files.scratch_table import scratch_tables
from lifeboat.files.special_files import make_special
from lifeboat.files.writing import SMALL, FileWriting, put
from lifeboat.repository.building import building_place
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.empty_place import placed, told_of_disks
from lifeboat.repository.layout import RecoveryPointFolder
from lifeboat.repository.system import SystemRepository
from lifeboat.streams.memory import set_aside_what_lasts
from lifeboat.streams.tar_walking import Content

Progress = Callable[[int, int], None]
_PIECE = 1024 * 1024


def restore_files(
    repository: SystemRepository,
    copy: Copy,
    into: Path,
    *,
    only: Sequence[str] = (),
    replace_files: bool = False,
    progress: Progress = lambda _done, _total: None,
    tick: Callable[[], None] = lambda: None,
) -> RestoredFiles:
    """Bring a snapshot back, or of it what patterns say, into a directory that is empty or not there, or into one that
    is in use.

    Args:
        copy: the snapshot on the target that is read; what it refers to is read there, too.
        only: patterns as in a policy; empty: everything.
        replace_files: the directory may be in use: what the snapshot has takes the place of what is there, each file
            when all of them are proven; what it has not stays.
        progress: told the bytes of files written, and those to write.
        tick: called often; may raise to cancel.

    Raises:
        DestinationInUse: something is there; nothing was touched.
        ObjectDamaged: bytes are not what was backed up; the destination is as it was.
        RestoreError: nothing of the snapshot fits the patterns.
        NotEnoughDisk: there is no room.
    """
    selection = Selection(tuple(only) or EVERYTHING)
    restored = RestoredFiles(into)
    set_aside_what_lasts()

    def build(building: Path) -> None:
        with (
            closing(scratch_tables()) as base,
            _Restoring(repository, copy, building, base, restored, selection, progress, tick) as restoring,
        ):
            restoring.run()

    if not replace_files or into.is_symlink() or not into.is_dir():
        with placed(into, "files") as building:
            build(building)
        return restored
    with told_of_disks(into, "files"):
        # In it, and so on the file system that they are for, whatever is mounted there.
        with building_place(into, into.name) as building:
            build(building)
            changed = building.stat().st_mtime_ns
            merge(building, into, folders_too=not only, tick=tick)
        if not only:
            # What was built in it, and is gone, was the last to change it.
            os.utime(into, ns=(changed, changed))
    return restored


class _Restoring:
    def __init__(
        self,
        repository: SystemRepository,
        copy: Copy,
        root: Path,
        base: sqlite3.Connection,
        restored: RestoredFiles,
        selection: Selection,
        progress: Progress,
        tick: Callable[[], None],
    ) -> None:
        self.restored = restored
        self._selection = selection
        self._repository = repository
        self._copy = copy
        self._root = root
        self._base = base
        self._progress = progress
        self._tick = tick
        self._written = 0
        self._total = 0
        self._noted = False
        self._folders = Folders(root)
        self._writing = FileWriting(root, self._folders, restored)

    def __enter__(self) -> Self:
        self._writing.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writing.__exit__(kind, error, trace)
        finally:
            self._folders.close()

    def run(self) -> None:
        self._base.execute("CREATE TABLE wanted (point TEXT, pack TEXT, member BLOB, line BLOB)")
        # Folders get their attributes when everything is in them: one may be read-only in the end.
        self._base.execute("CREATE TABLE later (line BLOB)")
        root = self._note()
        if root is None or not (self._noted or self._selection.has_everything):
            raise RestoreError(
                f"Nothing in {self._copy.manifest.recovery_point} fits that.",
                "Patterns are those of a .gitignore, from the set's own directory: `invoices/2026/**`.",
            )
        self._base.execute("CREATE INDEX by_pack ON wanted (point, pack)")
        self._write_files()
        self._writing.settle()
        self._finish(root)

    def _note(self) -> Entry | None:
        """Make the folders, and note what has to be written."""
        # Folders that nobody asked for are made when something in them is wanted.
        waiting: list[Entry] = []
        root = None
        with entries_of(self._repository, self._copy) as entries:
            for entry, line in entries:
                self._tick()
                if entry.path == ROOT:
                    root = entry
                    continue
                while waiting and not entry.path.startswith(f"{waiting[-1].path}/"):
                    waiting.pop()
                folder = entry.type == "directory"
                if self._selection.has(f"{entry.path}/" if folder else entry.path):
                    for above in waiting:
                        self._folder(above)
                    waiting.clear()
                    self._folder(entry) if folder else self._note_file(entry, line)
                elif folder:
                    waiting.append(entry)
        return root

    def _note_file(self, entry: Entry, line: bytes) -> None:
        self._noted = True
        if entry.hard_link and not self._selection.has(entry.hard_link):
            entry = self._without_its_other_name(entry)
            line = entry.to_line()
        place = entry.place
        if place is None:
            self._base.execute("INSERT INTO later VALUES (?)", (line,))
            return
        self._total += entry.size
        member = _coded(place.member or entry.path)
        self._base.execute("INSERT INTO wanted VALUES (?, ?, ?, ?)", (place.recovery_point, place.pack, member, line))

    def _folder(self, entry: Entry) -> None:
        self._noted = True
        folder, name = self._folders.parent(entry.path)
        os.mkdir(name, 0o700, dir_fd=folder)
        self.restored.folders += 1
        self._base.execute("INSERT INTO later VALUES (?)", (entry.to_line(),))

    def _without_its_other_name(self, entry: Entry) -> Entry:
        """A hard link whose first name was not asked for becomes a file of its own."""
        with index_of(self._repository, self._copy) as entries:
            for first in entries:
                if first.path == entry.hard_link:
                    if first.place is not None and not first.place.member:
                        first = replace(first, place=first.place._replace(member=first.path))
                    return replace(first, path=entry.path)
        raise ObjectDamaged(
            f"The index of {self._copy.manifest.recovery_point} says that {entry.path!r} is {entry.hard_link!r}, "
            "which is not in it.",
            "Use another snapshot.",
        )

    def _write_files(self) -> None:
        catalogue = self._repository.catalogue(self._copy.target)
        copies = {self._copy.manifest.recovery_point: self._copy}
        missing: list[Entry] = []
        packs = self._base.execute("SELECT DISTINCT point, pack FROM wanted ORDER BY point, pack").fetchall()
        for point, pack in packs:
            if point not in copies:
                manifest = self._copy.manifest
                copies[point] = catalogue.read(RecoveryPointFolder(manifest.system, manifest.source, point))
            wanted: dict[bytes, list[Entry]] = {}
            for member, line in self._base.execute(
                "SELECT member, line FROM wanted WHERE point = ? AND pack = ?", (point, pack)
            ):
                wanted.setdefault(member, []).append(Entry.from_line(line))
            self._write_members(copies[point], pack, wanted)
            missing.extend(entry for entries in wanted.values() for entry in entries)
            if missing:
                break
        self._writing.settle()
        for entry in (*missing, *self._writing.unwritten):
            assert entry.place is not None
            raise ObjectDamaged(
                f"{entry.path} is not in {entry.place.pack} of {entry.place.recovery_point} as the index says.",
                "Use another target's copy, or another snapshot.",
            )

    def _write_members(self, copy: Copy, pack: str, wanted: dict[bytes, list[Entry]]) -> None:
        """Write what is wanted of a pack; what it does not hold stays in ``wanted``."""
        handed: set[bytes] = set()
        with members_of(self._repository, copy, pack) as members:
            for path, body in members:
                self._tick()
                name = _coded(path)
                if name in handed:
                    # A file that changed while it was read stands in a pack twice: these may be the right bytes.
                    self._writing.settle()
                    if self._writing.unwritten:
                        wanted[name] = self._writing.unwritten
                        self._writing.unwritten = []
                if (entries := wanted.pop(name, None)) is None:
                    continue
                if body.size <= SMALL:
                    handed.add(name)
                    self._writing.put(entries, body.read())
                    self._wrote(body.size * len(entries))
                elif left := self._large(entries, body):
                    wanted[name] = left

    def _large(self, entries: list[Entry], body: Content) -> list[Entry]:
        """Write a member to the paths that have its bytes, while it is read: to one, and to the others from there.

        Returns:
            Those that have other bytes.
        """
        first = entries[0]
        digest = self._write(first, body)
        fitting = [entry for entry in entries if entry.sha256 == digest]
        if first not in fitting:
            folder, name = self._folders.parent(first.path)
            if fitting:
                self._copy_of(first, fitting[0])
            os.unlink(name, dir_fd=folder)
        for entry in fitting[1:]:
            self._copy_of(fitting[0], entry)
        for entry in fitting:
            self.restored.files += 1
            self.restored.size += entry.size
        return [entry for entry in entries if entry not in fitting]

    def _write(self, entry: Entry, body: Content) -> str:
        digest = hashlib.sha256()
        with self._writing.new(entry) as descriptor:
            while piece := body.read(_PIECE):
                digest.update(piece)
                put(descriptor, piece, entry)
                self._wrote(len(piece))
        return digest.hexdigest()

    def _copy_of(self, first: Entry, other: Entry) -> None:
        folder, name = self._folders.parent(first.path)
        origin = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            with self._writing.new(other) as descriptor:
                while piece := os.read(origin, _PIECE):
                    put(descriptor, piece, other)
                    self._wrote(len(piece))
        finally:
            os.close(origin)

    def _wrote(self, size: int) -> None:
        self._written += size
        self._progress(self._written, max(self._total, self._written))
        self._tick()

    def _finish(self, root: Entry) -> None:
        """Make what is no file with bytes; then a folder gets its attributes after all that is in it."""
        for (line,) in self._base.execute("SELECT line FROM later ORDER BY rowid"):
            self._tick()
            self._make(Entry.from_line(line))
        for (line,) in self._base.execute("SELECT line FROM later ORDER BY rowid DESC"):
            entry = Entry.from_line(line)
            if entry.type == "directory":
                give(entry, *self._folders.parent(entry.path), self.restored)
        give(root, None, str(self._root), self.restored)

    def _make(self, entry: Entry) -> None:
        folder, name = self._folders.parent(entry.path)
        if entry.type == "directory":
            return
        if entry.type == "file":
            self._make_file(entry, folder, name)
            return
        make_special(entry, folder, name, self.restored)

    def _make_file(self, entry: Entry, folder: int, name: str) -> None:
        """One without bytes of its own."""
        if entry.missing:
            self.restored.missing.append(entry.path)
            return
        self.restored.files += 1
        if not entry.hard_link:
            with self._writing.new(entry):
                return
        first, first_name = self._folders.parent(entry.hard_link)
        try:
            os.link(first_name, name, src_dir_fd=first, dst_dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            # The first name is one that could not be read.
            self.restored.files -= 1
            self.restored.missing.append(entry.path)


def _coded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
