"""What a path has besides its bytes: owner, mode, times, extended attributes; given back as the index says."""

from __future__ import annotations

import os

from lifeboat.files.destination import RestoredFiles
from lifeboat.files.entries import Entry
from lifeboat.repository.ownership import gid_of, uid_of


def give(entry: Entry, folder: int | None, name: str | int, restored: RestoredFiles) -> None:
    """Give a path its attributes: the owner before the mode, since a change of owner takes setuid away.

    Args:
        name: in that folder; or a path, or a descriptor.
        restored: told of what could not be given.
    """
    follow = isinstance(name, int)  # a descriptor is what it is
    uid, gid = uid_of(entry.owner, entry.uid), gid_of(entry.group, entry.gid)
    try:
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=follow)
    except PermissionError:
        if (uid, gid) != (os.getuid(), os.getgid()):
            restored.could_not("owners, which take root to give")
    for attribute, value in entry.xattrs.items():
        path = name if folder is None else f"/proc/self/fd/{folder}/{name}"
        try:
            os.setxattr(path, attribute, value, follow_symlinks=follow)
        except OSError:
            restored.could_not(f"the attribute {attribute}, which this file system or user can't set")
    if entry.type != "link":
        os.chmod(name, entry.mode, dir_fd=folder)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=follow)
