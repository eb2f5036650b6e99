"""Sizes and rates in words: ``4 GiB``, ``512 MiB``, ``2 TB``, ``100 MiB/s``; inside, whole bytes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from lifeboat.policy.problems import Refused

# IEC 80000-13 for the powers of two, SI for the powers of ten.
_UNITS = {
    "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50,
}  # fmt: skip
_SIZE = re.compile(r"(\d{1,20})(?:\.(\d{1,3}))?\s*([A-Za-z]{1,3})")
_REMEDY = "Write a number and a unit, such as `512 MiB` or `4 GiB`."


def parse_size(text: str) -> int:
    """Read a size in words; whole bytes.

    Raises:
        Refused: (a ``ValueError``) the text is no size, or no whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _UNITS.get(match.group(3).lower()) if match else None
    if match is None or factor is None:
        raise Refused(f"`{text[:60]}` is no size.", _REMEDY)
    whole, fraction = match.group(1), match.group(2) or ""
    scaled, rest = divmod(int(whole + fraction) * factor, int(f"1{'0' * len(fraction)}"))
    if rest:
        raise Refused(f"`{text[:60]}` is not a whole number of bytes.", _REMEDY)
    return scaled


def size_in_words(size: int) -> str:
    """The size in its largest unit that leaves no rest: ``4294967296`` is ``4 GiB``."""
    fits = [(factor, name) for name, factor in _UNITS.items() if size % factor == 0 and size >= factor]
    factor, name = max(fits, default=(1, "b"))
    spelled = name.upper().replace("IB", "iB").replace("KB", "kB")
    return f"{size // factor} {spelled}"


def _size(value: object) -> object:
    if isinstance(value, str):
        return parse_size(value)
    raise Refused("A size needs its unit.", _REMEDY)


def _rate(value: object) -> object:
    if isinstance(value, str) and value.strip().endswith("/s"):
        return parse_size(value.strip().removesuffix("/s"))
    raise Refused("A rate is a size for each second.", "Write it as `100 MiB/s`.")


ByteSize = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(size_in_words, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*\d+(\.\d{1,3})?\s*([kKmMgGtTpP][iI]?)?[bB]\s*$",
            "examples": ["512 MiB", "4 GiB", "2 TB"],
        }
    ),
]
"""Bytes, written as a size in words."""

ByteRate = Annotated[
    int,
    BeforeValidator(_rate),
    PlainSerializer(lambda rate: f"{size_in_words(rate)}/s", return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*\d+(\.\d{1,3})?\s*([kKmMgGtTpP][iI]?)?[bB]/s\s*$",
            "examples": ["100 MiB/s"],
        }
    ),
]
"""Bytes for each second, written in words."""
