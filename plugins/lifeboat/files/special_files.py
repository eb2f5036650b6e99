"""What is in a tree besides files and folders: links, pipes, devices."""

from __future__ import annotations

import os
import stat

from lifeboat.files.attributes import give
from lifeboat.files.destination import RestoredFiles
from lifeboat.files.entries import Entry


def make_special(entry: Entry, folder: int, name: str, restored: RestoredFiles) -> None:
    """Make one and give it its attributes; what takes root to make is counted instead.

    Args:
        folder: a descriptor of the folder that it is in.
    """
    try:
        if entry.type == "link":
            os.symlink(entry.link, name, dir_fd=folder)
        elif entry.type == "fifo":
            os.mkfifo(name, 0o600, dir_fd=folder)
        else:
            kind = stat.S_IFCHR if entry.type == "character" else stat.S_IFBLK
            assert entry.device is not None
            os.mknod(name, kind | 0o600, os.makedev(*entry.device), dir_fd=folder)
    except PermissionError:
        restored.could_not(f"{entry.type} devices, which take root to make")
        return
    restored.others += 1
    give(entry, folder, name, restored)
