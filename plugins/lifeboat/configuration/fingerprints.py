"""Keyed fingerprints: they show that something changed, and nothing of what it is.

A plain digest of a short password could be found by trying; one with a key can't, as long as the key is not known. The
key is drawn once and carried on from recovery point to recovery point, always encrypted.
Source: https://www.rfc-editor.org/rfc/rfc2104
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable

from lifeboat.configuration.items import About, Indexed, Item

KEY_BYTES = 32


def new_key() -> bytes:
    """A key that nobody has."""
    return secrets.token_bytes(KEY_BYTES)


class Fingerprints:
    """HMAC-SHA-256 with one key.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key

    def of(self, about: About, content: bytes) -> str:
        """Of an item's name, type and bytes. The name is in it: equal values in two places don't look alike."""
        coded = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in (b"item", about.type.encode(), os.fsencode(about.name)):
            coded.update(len(part).to_bytes(8, "big") + part)
        coded.update(content)
        return coded.hexdigest()

    def indexed(self, item: Item) -> Indexed:
        """An item's line of the index."""
        return Indexed(item.about, len(item.content), self.of(item.about, item.content))

    def of_set(self, index: Iterable[Indexed], unread: Iterable[str], unread_count: int) -> str:
        """Of all that an index says but the times of files, and of what a manifest says of what could not be read: a
        file that was touched has not changed."""
        coded = hmac.new(self.key, b"set\n", digestmod=hashlib.sha256)
        for one in index:
            told = one.about.told() | {"size": one.size, "fingerprint": one.fingerprint}
            told.pop("mtime_ns", None)
            coded.update(json.dumps(told, separators=(",", ":"), sort_keys=True).encode() + b"\n")
        coded.update(json.dumps([sorted(unread), unread_count]).encode())
        return coded.hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two fingerprints are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())
