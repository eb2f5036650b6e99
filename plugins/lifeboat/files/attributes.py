"""What a path has besides its bytes: owner, mode, times, extended attributes; given back as the index says."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lifeboat.files.destination import RestoredFiles
from lifeboat.files.entries import Entry
from lifeboat.repository.ownership import gid_of, uid_of


@dataclass(frozen=True, slots=True)
class Born:
    """What a new file has from the beginning: it need not be given again.

    Attributes:
        uid, gid: whose it is.
        modes: the permission bits that it can be made with.
    """

    uid: int
    gid: int
    modes: int

    def mode_for(self, entry: Entry) -> int:
        """The mode to make a file with: its own where that can be, and one that lets nobody else in where not."""
        return entry.mode if self.can_have(entry) else 0o600

    def can_have(self, entry: Entry) -> bool:
        """Whether a file can be made with its own mode, and its owner."""
        return not entry.mode & ~self.modes and self.has_owner(entry)

    def has_owner(self, entry: Entry) -> bool:
        """Whether it belongs to the right one already."""
        return (uid_of(entry.owner, entry.uid), gid_of(entry.group, entry.gid)) == (self.uid, self.gid)


def give(entry: Entry, folder: int | None, name: str | int, restored: RestoredFiles, born: Born | None = None) -> None:
    """Give a path its attributes: the owner before the mode, since a change of owner takes setuid away.

    Args:
        name: in that folder; or a path, or a descriptor.
        restored: told of what could not be given.
        born: of a file that was made with :meth:`Born.mode_for`: what it has already.
    """
    follow = isinstance(name, int)  # a descriptor is what it is
    if born is None or not born.has_owner(entry):
        _give_owner(entry, folder, name, restored, follow=follow)
    for attribute, value in entry.xattrs.items():
        path = name if folder is None else f"/proc/self/fd/{folder}/{name}"
        try:
            os.setxattr(path, attribute, value, follow_symlinks=follow)
        except OSError:
            restored.could_not(f"the attribute {attribute}, which this file system or user can't set")
    if entry.type != "link" and (born is None or entry.xattrs or not born.can_have(entry)):
        os.chmod(name, entry.mode, dir_fd=folder)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=follow)


def _give_owner(entry: Entry, folder: int | None, name: str | int, restored: RestoredFiles, *, follow: bool) -> None:
    uid, gid = uid_of(entry.owner, entry.uid), gid_of(entry.group, entry.gid)
    try:
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=follow)
    except PermissionError:
        if (uid, gid) != (os.getuid(), os.getgid()):
            restored.could_not("owners, which take root to give")
