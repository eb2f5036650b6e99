"""Removing a file so that its bytes are not left on the disk, as far as a program can have that.

The bytes are overwritten once with zeros and synced before the file goes. On a magnetic disk whose file system writes
in place (ext4, XFS) nothing of them is left then; more than one pass adds nothing. It promises nothing where a write
goes elsewhere than the bytes it replaces: SSDs and flash cards (wear levelling), file systems that copy on write
(btrfs, ZFS), snapshots, a journal that holds data (data=journal), thin volumes, network shares, backups of that disk.
There the encryption is what protects: volumes are never stored in the clear, and without a key they are noise.

Source: NIST SP 800-88 Rev. 1, 2.4 and appendix A: https://doi.org/10.6028/NIST.SP.800-88r1
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from lifeboat.targets.local_places import Place
from lifeboat.targets.local_writing import upload_name

_PIECE = bytes(1024 * 1024)
_SYNC_EVERY = 32 * 1024 * 1024


def dispose(place: Place) -> None:
    """Take a plain file's name away, overwrite its bytes, and unlink it; one that is gone is no error.

    The name goes first: whatever dies meanwhile, nobody ever reads an object that is half zeros. What is left then is
    a hidden file like that of an upload, and goes with those. A file with a second name (a hard link) is somebody
    else's, too: it only loses this name.

    Raises:
        OSError: the file could not be overwritten or removed.
    """
    hidden = upload_name(place.name)
    try:
        os.rename(place.name, hidden, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    except FileNotFoundError:
        return
    os.fsync(place.directory)
    _overwrite(hidden, place.directory)
    with suppress(FileNotFoundError):
        os.unlink(hidden, dir_fd=place.directory)
    os.fsync(place.directory)


def _overwrite(name: str, directory: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return
        left = found.st_size
        while left:
            left -= os.write(descriptor, _PIECE[: min(left, len(_PIECE))])
            if left % _SYNC_EVERY < len(_PIECE):
                os.fsync(descriptor)
        os.fsync(descriptor)
    except OSError as error:
        # Only where writes go elsewhere is room needed to overwrite; there the old blocks would have stayed anyhow.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    finally:
        os.close(descriptor)
