"""Items back in a folder: built beside where it will be, and named when it is whole.

The folder is new and nobody else's, names can't lead out of it, and links are made last: none is written through.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lifeboat.configuration.choosing import Proven, proven_items
from lifeboat.configuration.items import About
from lifeboat.repository.catalogue import Copy
from lifeboat.repository.empty_place import placed
from lifeboat.repository.ownership import gid_of, uid_of
from lifeboat.repository.system import SystemRepository

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
VALUE_MODE = 0o600


@dataclass
class RestoredItems:
    """What came back.

    Attributes:
        into: where it is.
        items: how many, folders left out.
        size: bytes of them.
        remarks: what could not be given back as it was, and how often.
    """

    into: Path
    items: int = 0
    size: int = 0
    remarks: dict[str, int] = field(default_factory=dict)

    def could_not(self, what: str) -> None:
        """Count something that could not be given back."""
        self.remarks[what] = self.remarks.get(what, 0) + 1


def restore_items(
    repository: SystemRepository,
    copy: Copy,
    into: Path,
    *,
    only: Sequence[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> RestoredItems:
    """Bring items back into a directory that is empty or not there, which only its owner can enter.

    Args:
        copy: the recovery point on the target that is read.
        only: patterns or names of items; empty: all.
        tick: called often; may raise to cancel.

    Raises:
        DestinationInUse: something is there; nothing was touched.
        ObjectDamaged: bytes are not what was backed up; the destination is as it was.
        RestoreError: nothing fits the patterns.
        NotEnoughDisk: there is no room.
    """
    restored = RestoredItems(into)
    # What a restore that was killed left here goes at the latest with the next one: it holds values.
    with placed(into, "items") as building:
        _build(building, proven_items(repository, copy, only, tick=tick), restored)
    return restored


def _build(root: Path, items: Iterable[Proven], restored: RestoredItems) -> None:
    later: list[About] = []
    for one in items:
        about = one.indexed.about
        path = root / about.name
        (path if about.type == "directory" else path.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        if about.type in ("directory", "link"):
            later.append(about)
        else:
            _write(path, one, restored)
        if about.type != "directory":
            restored.items += 1
            restored.size += len(one.content)
    for about in later:
        if about.type == "link":
            (root / about.name).symlink_to(about.link)
            _give(about, root / about.name, restored)
    # A folder may be read-only in the end: after all that is in it.
    for about in reversed(later):
        if about.type == "directory":
            _give(about, root / about.name, restored)


def _write(path: Path, one: Proven, restored: RestoredItems) -> None:
    descriptor = os.open(path, _NEW_FILE, VALUE_MODE)
    try:
        rest = memoryview(one.content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        _give(one.indexed.about, descriptor, restored)
    finally:
        os.close(descriptor)


def _give(about: About, place: Path | int, restored: RestoredItems) -> None:
    """Give a path its attributes: the owner before the mode, since a change of owner takes setuid away."""
    if about.mode is None or about.uid is None or about.gid is None:
        return  # a value: its owner is whoever restores it
    follow = isinstance(place, int)
    uid, gid = uid_of(about.owner, about.uid), gid_of(about.group, about.gid)
    try:
        os.chown(place, uid, gid, follow_symlinks=follow)
    except PermissionError:
        if (uid, gid) != (os.getuid(), os.getgid()):
            restored.could_not("owners, which take root to give")
    if about.type != "link":
        os.chmod(place, about.mode)  # noqa: PTH101 - it may be a descriptor
    if about.mtime_ns is not None:
        os.utime(place, ns=(about.mtime_ns, about.mtime_ns), follow_symlinks=follow)
