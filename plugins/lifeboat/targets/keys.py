"""Which keys objects may have: the same rules on every target, so that a copy always fits."""

from __future__ import annotations

import re
import unicodedata

from lifeboat.errors import TargetError

# Names that a target keeps for itself: uploads in progress, the marker, the object that a check writes.
RESERVED = ".lifeboat-"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# A file's name may have 255 bytes on Linux; an upload in progress puts some 40 more before it.
_LONGEST_PART = 200
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html: 1,024 bytes, the target's own prefix included.
_LONGEST_KEY = 800


def fault_of_key(key: str) -> str | None:
    """What is wrong with a key; ``None`` when it may be used.

    A key is a relative path: parts with ``/`` between them, none empty, ``.`` or ``..``, none reserved, each at most
    200 bytes and all together at most 800 bytes of UTF-8, without control characters.
    """
    if not key:
        return "it is empty"
    if _CONTROL.search(key) or any(unicodedata.category(character) == "Cs" for character in key):
        return "it holds characters that can't stand in a name"
    if len(key.encode()) > _LONGEST_KEY:
        return f"it is longer than {_LONGEST_KEY} bytes"
    for part in key.split("/"):
        if part in ("", ".", ".."):
            return "it is not a plain relative path"
        if part.startswith(RESERVED):
            return f"names that begin with {RESERVED} belong to the target itself"
        if len(part.encode()) > _LONGEST_PART:
            return f"one of its parts is longer than {_LONGEST_PART} bytes"
    return None


def check_key(target: str, key: str) -> str:
    """Give the key back when it may be used.

    Raises:
        TargetError: it may not, with the reason.
    """
    fault = fault_of_key(key)
    if fault is not None:
        raise TargetError(f"Target {target}: the key {key!r} can't be used: {fault}.", "Nothing was read or written.")
    return key


def check_prefix(target: str, prefix: str) -> str:
    """Give the prefix back when it is a folder (ends in ``/``) or the whole target (``""``).

    Raises:
        TargetError: it is neither.
    """
    if prefix == "" or (prefix.endswith("/") and fault_of_key(prefix[:-1]) is None):
        return prefix
    raise TargetError(f"Target {target}: {prefix!r} is not a folder: it is to end in / or be empty.")
