"""The items of a configuration, and the index of them: a line of JSON for each, in the order of their names.

    {"name": "files/etc/erp/app.conf", "kind": "files", "type": "file", "size": 812, "fingerprint": "…", "mode": 416,
     "uid": 0, "gid": 33, "owner": "root", "group": "www-data", "mtime_ns": 1795600000123456789}
    {"name": "secrets/vault/erp/api-keys", "kind": "secrets", "type": "value", "size": 210, "fingerprint": "…",
     "origin": {"store": "vault", "mount": "secret", "name": "erp/api-keys", "version": "7"}}

The first part of a name is the item's kind. Names that are no UTF-8 stand as Base64 of their bytes, under a key that
ends in ``_base64``. No line holds a value.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import quote

from lifeboat.errors import ManifestInvalid
from lifeboat.repository.coded_names import coded_name, name_told

INDEX_STREAM, ITEMS_STREAM, KEY_STREAM = "index.jsonl", "items.tar", "fingerprint.key"
LARGEST_ITEM = 64 * 1024 * 1024
LARGEST_SET = 256 * 1024 * 1024
"""A set is held in memory: it is compared before a byte of it is stored, and no plain byte rests on a disk."""

ItemKind = Literal["files", "environment", "certificates", "connections", "variables", "secrets", "infrastructure"]
KINDS: tuple[ItemKind, ...] = get_args(ItemKind)
ItemType = Literal["file", "directory", "link", "value"]


@dataclass(frozen=True, slots=True)
class About:
    """All of an item but its bytes.

    Attributes:
        name: its kind, then where it comes from, ``/`` between the parts; what tar calls it, too.
        type: what it is; ``value`` is what was no file where it comes from.
        mode: permission bits, with setuid, setgid and sticky; ``None`` of a value.
        uid, gid, owner, group: numbers, and names where the machine knew any.
        mtime_ns: when the content was last changed, nanoseconds since 1970.
        link: what a symbolic link says.
        origin: of a secret: the store, the mount, its name there and its version.
    """

    name: str
    type: ItemType
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    owner: str = ""
    group: str = ""
    mtime_ns: int | None = None
    link: str = ""
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The first part of the name."""
        return self.name.partition("/")[0]

    @property
    def order(self) -> bytes:
        """Sorts a folder before what is in it, and that before what comes after the folder."""
        return os.fsencode(self.name).replace(b"/", b"\0")

    def told(self) -> dict[str, Any]:
        """What a line says of it."""
        known: dict[str, Any] = {
            "kind": self.kind, "type": self.type, "mode": self.mode, "uid": self.uid, "gid": self.gid,
            "owner": self.owner or None, "group": self.group or None, "mtime_ns": self.mtime_ns,
            "origin": dict(self.origin) or None,
        }  # fmt: skip
        known = coded_name("name", self.name) | known | coded_name("link", self.link)
        return {key: value for key, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Item:
    """An item with its bytes, which no ``repr`` shows."""

    about: About
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Indexed:
    """A line of the index.

    Attributes:
        about: the item.
        size: of its bytes.
        fingerprint: of its name, type and bytes, keyed; hexadecimal.
    """

    about: About
    size: int
    fingerprint: str

    def to_line(self) -> bytes:
        """The line."""
        told = self.about.told() | {"size": self.size, "fingerprint": self.fingerprint}
        return json.dumps(told, separators=(",", ":"), sort_keys=True).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Indexed:
        """Read a line; raises ``ValueError``, ``KeyError`` or ``TypeError`` when it is none."""
        told = json.loads(line)
        about = About(
            name_told(told, "name"), told["type"], told.get("mode"), told.get("uid"), told.get("gid"),
            told.get("owner", ""), told.get("group", ""), told.get("mtime_ns"), name_told(told, "link"),
            dict(told.get("origin", {})),
        )  # fmt: skip
        if about.type not in get_args(ItemType):
            raise ValueError(f"{about.type!r} is no type of an item")
        if fault := fault_of_name(about.name):
            raise ValueError(fault)
        return cls(about, int(told["size"]), str(told["fingerprint"]))


def fault_of_name(name: str) -> str:
    """Why a name of an index may not become a path; empty when it may."""
    kind, _, rest = name.partition("/")
    if kind not in KINDS or not rest or "\0" in name:
        return f"{name!r} is no name of an item"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return f"{name!r} leads out of its directory"
    return ""


def item_name(kind: ItemKind, *parts: str) -> str:
    """The name of an item that is no file: what would not be a path is percent-encoded."""
    return "/".join([kind, *map(_coded, parts)])


def _coded(part: str) -> str:
    pieces = part.split("/")
    # Slashes divide a name; those at its ends, or doubled, are letters of it.
    return "/".join(map(_coded_piece, pieces if all(pieces) else [part]))


def _coded_piece(piece: str) -> str:
    if piece in (".", ".."):
        return piece.replace(".", "%2E")
    return quote(piece, safe=" +=@,:#!()~", errors="surrogateescape")


def read_index(document: bytes, what: str) -> list[Indexed]:
    """The lines of an index.

    Args:
        what: whose index it is, for errors.

    Raises:
        ManifestInvalid: a line is none, or they are not in their order.
    """
    remedy = "Use another recovery point or target."
    found: list[Indexed] = []
    if document and not document.endswith(b"\n"):
        raise ManifestInvalid(f"The index of {what} ends in mid-line.", remedy)
    for number, line in enumerate(document.splitlines(), 1):
        try:
            one = Indexed.from_line(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestInvalid(f"Line {number} of the index of {what} can't be read: {error}.", remedy) from None
        if found and one.about.order <= found[-1].about.order:
            raise ManifestInvalid(f"Line {number} of the index of {what} is out of order.", remedy)
        found.append(one)
    return found


def counts(index: Iterable[Indexed]) -> dict[str, int]:
    """How many items of each kind there are, folders left out."""
    found: dict[str, int] = {}
    for one in index:
        if one.about.type != "directory":
            found[one.about.kind] = found.get(one.about.kind, 0) + 1
    return found
