"""The index of a snapshot: a line of JSON for each path, in the order of a walk.

    {"path": "invoices/2026/1.pdf", "type": "file", "mode": 416, "uid": 33, "gid": 33, "owner": "www-data",
     "group": "www-data", "mtime_ns": 1795600000123456789, "size": 48213, "sha256": "…", "pack": "pack-00001.tar",
     "recovery_point": "20261122T030000Z-full-7f3a"}

A path is relative to the set's own directory; ``.`` is that itself. Names that are no UTF-8 stand as Base64 of their
bytes, under a key that ends in ``_base64``. What is not there does not apply, or is empty.

A file of a place that is not on the worker has ``identity`` instead of ``ctime_ns`` and ``inode``: what that place
tells of it without its being read. An object of an S3 store has ``properties`` as well: what the store keeps beside its
bytes. A place that knows no owners has -1 for ``uid`` and ``gid``: whoever restores it is the owner. Readers of older
versions pass over the two, and give back the same bytes.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from lifeboat.errors import ManifestInvalid
from lifeboat.repository.coded_names import coded_name, name_told
from lifeboat.targets.target import Readable

INDEX_STREAM = "index.jsonl"
ROOT = "."
FileType = Literal["file", "directory", "link", "fifo", "character", "block"]
_PIECE = 1024 * 1024
_LONGEST_LINE = 16 * 1024 * 1024
# `json.loads` guesses at an encoding first, which takes as long as short lines do.
_read_json = json.JSONDecoder().decode
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_quoted = json.encoder.encode_basestring_ascii


class Place(NamedTuple):
    """Where the bytes of a file are.

    Attributes:
        pack: the stream that holds them, a tar.
        recovery_point: whose stream it is: the snapshot's own, or that of an earlier one.
        member: the path that they have in it, where that is another one than the file's own.
    """

    pack: str
    recovery_point: str
    member: str = ""


@dataclass(slots=True)
class Entry:
    """One path of a snapshot. Nobody changes one; to have that enforced takes as long again as making it does.

    Attributes:
        path: relative, ``/`` between its parts; bytes that are no UTF-8 as :func:`os.fsdecode` gives them.
        type: what it is.
        mode: permission bits, with setuid, setgid and sticky.
        uid, gid, owner, group: numbers, and names where the machine knew any.
        mtime_ns: when the content was last changed, nanoseconds since 1970.
        ctime_ns, inode: by which the next snapshot knows that nothing changed; of no use elsewhere.
        size: bytes of a file.
        sha256: of a file's bytes, hexadecimal; empty when it could not be read.
        place: where they are stored; ``None`` for an empty file, and for one that could not be read.
        sparse: whether it had holes.
        link: what a symbolic link says.
        hard_link: the path that comes before this one and is the same file.
        device: major and minor number of a device.
        xattrs: extended attributes; POSIX access lists are among them.
        identity: by which the next snapshot knows that a file of a far place did not change; empty: read it again.
        properties: what an object store keeps beside an object's bytes, such as ``content-type`` and ``meta.<name>``.
    """

    path: str
    type: FileType
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    owner: str = ""
    group: str = ""
    ctime_ns: int = 0
    inode: int = 0
    size: int = 0
    sha256: str = ""
    place: Place | None = None
    sparse: bool = False
    link: str = ""
    hard_link: str = ""
    device: tuple[int, int] | None = None
    xattrs: dict[str, bytes] = field(default_factory=dict)
    identity: str = ""
    properties: dict[str, str] = field(default_factory=dict)

    @property
    def order(self) -> bytes:
        """Sorts as a walk goes: a folder, what is in it, then what comes after it."""
        return path_order(self.path)

    @property
    def missing(self) -> bool:
        """Whether it is a file whose bytes could not be read."""
        return self.type == "file" and not self.hard_link and not self.sha256

    def to_line(self) -> bytes:
        """The entry as a line of the index."""
        place = self.place
        common = (
            place is not None and self.sha256 and self.owner and self.group and self.type == "file"
            and not (place.member or self.hard_link or self.link or self.sparse or self.device)
            and not (self.xattrs or self.identity or self.properties)
        )  # fmt: skip
        if not common or place is None or not self.path.isascii():
            return self._any_line()
        # Nearly every line of most sets, in a third of the time.
        return (
            f'{{"path":{_quoted(self.path)},"type":"file","mode":{self.mode},"uid":{self.uid},"gid":{self.gid},'
            f'"owner":{_quoted(self.owner)},"group":{_quoted(self.group)},"mtime_ns":{self.mtime_ns},'
            f'"ctime_ns":{self.ctime_ns},"inode":{self.inode},"size":{self.size},"sha256":{_quoted(self.sha256)},'
            f'"pack":{_quoted(place.pack)},"recovery_point":{_quoted(place.recovery_point)}}}\n'
        ).encode()

    def _any_line(self) -> bytes:
        told: dict[str, Any] = coded_name("path", self.path)
        told |= {"type": self.type, "mode": self.mode, "uid": self.uid, "gid": self.gid}
        told |= {"owner": self.owner} if self.owner else {}
        told |= {"group": self.group} if self.group else {}
        # Zero is told: nobody is root for want of a number.
        told |= {"mtime_ns": self.mtime_ns, "ctime_ns": self.ctime_ns, "inode": self.inode}
        if self.type == "file":
            told["size"] = self.size
        for key in ("sha256", "sparse", "device"):
            if value := getattr(self, key):
                told[key] = value
        if self.xattrs:
            told["xattrs"] = {name: base64.b64encode(value).decode() for name, value in self.xattrs.items()}
        for key in ("identity", "properties"):
            if value := getattr(self, key):
                told[key] = value
        told |= coded_name("link", self.link) | coded_name("hard_link", self.hard_link)
        if self.place is not None:
            told |= {"pack": self.place.pack, "recovery_point": self.place.recovery_point}
            told |= coded_name("member", self.place.member)
        return _to_json(told).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Read a line; raises ``ValueError``, ``KeyError`` or ``TypeError`` when it is none."""
        told = _read_json(line.decode())
        pack = told.get("pack")
        device = told.get("device")
        entry = cls(
            name_told(told, "path"),
            told["type"],
            int(told["mode"]),
            int(told["uid"]),
            int(told["gid"]),
            int(told["mtime_ns"]),
            told.get("owner", ""),
            told.get("group", ""),
            int(told.get("ctime_ns", 0)),
            int(told.get("inode", 0)),
            int(told.get("size", 0)),
            told.get("sha256", ""),
            Place(pack, told["recovery_point"], name_told(told, "member")) if pack else None,
            bool(told.get("sparse", False)),
            name_told(told, "link"),
            name_told(told, "hard_link"),
            (int(device[0]), int(device[1])) if device else None,
            {name: base64.b64decode(value) for name, value in told.get("xattrs", {}).items()},
            told.get("identity", ""),
            told.get("properties", {}),
        )
        if fault := fault_of_path(entry.path):
            raise ValueError(fault)
        return entry


def path_order(path: str) -> bytes:
    """Sorts paths as a walk goes."""
    return b"" if path == ROOT else os.fsencode(path).replace(b"/", b"\0")


def fault_of_path(path: str) -> str:
    """Why a path of an index may not be written to; empty when it may."""
    if path == ROOT:
        return ""
    if not path or path.startswith("/") or "\0" in path:
        return f"{path!r} is no relative path"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return f"{path!r} leads out of its directory"
    return ""


def read_index(stream: Readable, what: str) -> Iterator[Entry]:
    """The entries of an index, as :func:`read_entries` reads them, without their lines."""
    return (entry for entry, _ in read_entries(stream, what))


def read_entries(stream: Readable, what: str) -> Iterator[tuple[Entry, bytes]]:
    """The entries of an index and their lines, in its order, with memory for one piece of it.

    Args:
        what: whose index it is, for errors.

    Raises:
        ManifestInvalid: a line is none, or the lines are not in their order.
    """
    before: bytes | None = None
    for number, line in enumerate(_lines(stream), 1):
        try:
            entry = Entry.from_line(line)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise _unreadable(number, what, str(error)) from error
        order = entry.order
        if before is not None and order <= before:
            raise ManifestInvalid(
                f"Line {number} of the index of {what} is out of order: {entry.path!r}.",
                "Use another recovery point or target.",
            )
        before = order
        yield entry, line


def _unreadable(number: int, what: str, reason: str) -> ManifestInvalid:
    return ManifestInvalid(
        f"Line {number} of the index of {what} can't be read: {reason}.", "Use another recovery point or target."
    )


def _lines(stream: Readable) -> Iterator[bytes]:
    rest = b""
    while piece := stream.read(_PIECE):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) > _LONGEST_LINE:
            raise ManifestInvalid("A line of an index has no end.", "Use another recovery point or target.")
    if rest:
        raise ManifestInvalid("An index ends in mid-line.", "Use another recovery point or target.")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an earlier index, of which only what shows whether anything changed is looked at.

    Attributes:
        order: as :attr:`Entry.order`.
        told: what it says.
        text: itself, with its end: an unchanged path's line is that of the next index, too.
    """

    order: bytes
    told: dict[str, Any]
    text: bytes


def read_lines(stream: Readable, what: str) -> Iterator[Line]:
    """The lines of an index, as :func:`read_index` reads them, but not made into entries: most paths did not change."""
    for number, text in enumerate(_lines(stream), 1):
        try:
            told = _read_json(text.decode())
            yield Line(path_order(told.get("path") or name_told(told, "path")), told, text + b"\n")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable(number, what, str(error)) from error


class Ordered(Protocol):
    """Something that has its place in a walk."""

    @property
    def order(self) -> bytes:
        """As :attr:`Entry.order`."""
        ...


_Seen = TypeVar("_Seen", bound=Ordered)


def merged(seen: Iterable[_Seen], known: Iterable[Line]) -> Iterator[tuple[_Seen, Line | None]]:
    """What is seen now, each with its line of an earlier snapshot where that has one; both in their order."""
    earlier = iter(known)
    line = next(earlier, None)
    for one in seen:
        order = one.order
        while line is not None and line.order < order:
            line = next(earlier, None)
        yield one, line if line is not None and line.order == order else None
